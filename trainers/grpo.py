"""GRPO over TRL: `python -m trainers.grpo job.json` (under `accelerate launch` for several devices).

Group relative policy optimisation (DeepSeekMath, section 4.1; R1 paper, equations 1-3): for each prompt a group of
answers is sampled, each is rewarded by rule, and the group's mean is the baseline.
"""

from __future__ import annotations

from typing import Any

from factory.training.settings import GrpoParams
from trainers.data import Prompts, grpo_examples, read_rows
from trainers.job import progress_callback, read_job, save_results, share_of, use_machine
from trainers.model import give_reference, load_model
from trainers.rewards import Rollouts
from trainers.sft import schedule_arguments


def main() -> None:
    """Train as the job says."""
    job = read_job("grpo")
    params = GrpoParams.model_validate(job.params)
    device, machine = use_machine(job)
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer, stored = load_model(job.model, device)
    if params.beta:
        give_reference(model, job.output / "reference")
    rows = read_rows(job)
    asked = Prompts(rows, tokenizer)

    class Trainer(GRPOTrainer):  # type: ignore[misc,unused-ignore]
        def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return asked.encode(prompts), None, {}

    rollout = share_of(params.group * params.prompts_per_step)
    update = rollout // params.updates
    micro = min(params.micro_batch or update, update)
    rollouts = Rollouts(params, job.output)
    arguments = GRPOConfig(
        output_dir=str(job.output / "work"), seed=job.seed, data_seed=job.seed, max_steps=params.steps * params.updates,
        per_device_train_batch_size=micro, gradient_accumulation_steps=update // micro,
        steps_per_generation=rollout // micro, num_generations=params.group, num_iterations=1,
        max_completion_length=params.max_tokens, temperature=params.temperature, beta=params.beta,
        epsilon=params.clip, epsilon_high=params.clip, scale_rewards="group" if params.scale else "none",
        loss_type="grpo" if params.scale else "dr_grpo", reward_weights=rollouts.weights(), learning_rate=params.lr,
        weight_decay=params.weight_decay, max_grad_norm=params.max_grad_norm, save_strategy="no", report_to="none",
        disable_tqdm=True, logging_steps=1, dataloader_pin_memory=False, gradient_checkpointing=False,
        remove_unused_columns=False, mask_truncated_completions=False, logging_nan_inf_filter=False, **machine,
        **schedule_arguments(params.schedule))
    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(grpo_examples(rows)),
                      processing_class=tokenizer, reward_funcs=rollouts.functions(),
                      callbacks=[progress_callback(job, _say)])
    found = trainer.train()
    rewards = [float(entry["reward"]) for entry in trainer.state.log_history if "reward" in entry]
    edge = max(1, len(rewards) // 4)
    rollouts.close()
    save_results(job, trainer, {
        "steps": float(trainer.state.global_step), "reward_first": sum(rewards[:edge]) / edge,
        "reward_last": sum(rewards[-edge:]) / edge, "seconds": float(found.metrics["train_runtime"])}, stored)


def _say(logs: dict[str, Any]) -> str:
    return f"reward {float(logs['reward']):.3f}" if "reward" in logs else ""


if __name__ == "__main__":
    main()
