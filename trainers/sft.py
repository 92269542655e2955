"""Supervised fine-tuning over TRL: `python -m trainers.sft job.json` (under `accelerate launch` for several devices).

Loss on the response only, thinking included; no packing, so no sequence sees another. R1's shape (supplement B.4.2):
cosine to a tenth of the peak.
"""

from __future__ import annotations

from typing import Any

from factory.training.settings import Schedule, SftParams
from trainers.data import check_labels, read_rows, sft_examples
from trainers.job import progress_callback, read_job, save_results, share_of, use_machine
from trainers.model import load_model


def schedule_arguments(schedule: Schedule) -> dict[str, Any]:
    """The schedule in the words of transformers' arguments."""
    kinds = {"cosine": ("cosine_with_min_lr", {"min_lr_rate": schedule.floor}), "linear": ("linear", {}),
             "constant": ("constant_with_warmup" if schedule.warmup else "constant", {})}
    kind, options = kinds[schedule.kind]
    return {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options, "warmup_steps": schedule.warmup}


def main() -> None:
    """Train as the job says."""
    job = read_job("sft")
    params = SftParams.model_validate(job.params)
    device, machine = use_machine(job)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer, stored = load_model(job.model, device)
    rows = read_rows(job)
    examples = Dataset.from_dict(sft_examples(rows))
    settings = params.optimizer
    per_device = share_of(settings.batch)
    micro = min(settings.micro_batch or per_device, per_device)
    updates = len(examples) * params.epochs / settings.batch
    arguments = SFTConfig(
        output_dir=str(job.output / "work"), seed=job.seed, data_seed=job.seed, num_train_epochs=params.epochs,
        per_device_train_batch_size=micro, gradient_accumulation_steps=per_device // micro,
        learning_rate=settings.lr, weight_decay=settings.weight_decay, adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1], max_grad_norm=settings.max_grad_norm, max_length=None,
        completion_only_loss=True, packing=False, save_strategy="no", report_to="none", disable_tqdm=True,
        logging_steps=max(1, int(updates / 300)), logging_first_step=True, dataloader_pin_memory=False,
        gradient_checkpointing=False, logging_nan_inf_filter=False, **machine, **schedule_arguments(settings.schedule))
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=examples, processing_class=tokenizer,
                         callbacks=[progress_callback(job, lambda logs: f"loss {float(logs.get('loss', 0)):.3f}")])
    _drop_long(trainer, params.max_length)
    check_labels(trainer.train_dataset, tokenizer, model.generation_config.eos_token_id,
                 {row["response"].strip() for row in rows})
    found = trainer.train()
    save_results(job, trainer, {"loss": float(found.training_loss), "steps": float(trainer.state.global_step),
                                "rows": float(len(trainer.train_dataset)), "rows_too_long": float(trainer.too_long),
                                "seconds": float(found.metrics["train_runtime"])}, stored)


def _drop_long(trainer: Any, longest: int) -> None:
    """Leave out sequences of more than `longest` tokens: cutting one would teach an answer without its end."""
    kept = trainer.train_dataset.filter(lambda row: len(row["input_ids"]) <= longest)
    trainer.too_long = len(trainer.train_dataset) - len(kept)
    trainer.train_dataset = kept


if __name__ == "__main__":
    main()
