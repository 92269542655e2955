"""Trainers: one readable file each, started as processes (`python -m trainers.sft job.json`) by the ops `train.sft` and
`train.grpo`. They turn a materialised dataset version into a checkpoint folder, its curves and its rollouts; the
factory commits what they leave. Nothing imports them."""
