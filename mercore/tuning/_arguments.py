"""The options of a training as transformers' Trainer takes them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from mercore.errors import RunError
from mercore.tuning._options import Classifying, Tuning
from mercore.tuning.processes import world

_LOGS = 20  # lines of the log an epoch


def arguments_of(
    tuning: Tuning, folder: Path, *, device: str, seed: int, threads: int, steps: int, at_once: int
) -> TrainingArguments:
    """Return the arguments of the Trainer; `steps` are those of an epoch."""
    if device not in ("cpu", "cuda", "cuda:0"):
        raise RunError(
            f"device {device!r}: a training takes the first GPU; say which one that is by "
            "CUDA_VISIBLE_DEVICES"
        )
    when = "epoch" if tuning.evaluate is None else "steps"
    kind = tuning.precision
    best = "waf" if isinstance(tuning, Classifying) else "loss"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=tuning.epochs,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=accumulated(tuning, at_once),
        lr_scheduler_type=tuning.schedule,
        warmup_steps=tuning.warmup,  # below 1: a share of all
        max_grad_norm=tuning.clip or 0.0,
        bf16=kind == "bfloat16",
        fp16=kind == "float16",
        torch_compile=tuning.compile,
        eval_strategy=when,
        save_strategy=when,
        eval_steps=tuning.evaluate,
        save_steps=tuning.evaluate or 500,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=best,
        greater_is_better=best == "waf",
        prediction_loss_only=best == "loss",
        logging_steps=max(1, steps // _LOGS),
        logging_nan_inf_filter=False,
        dataloader_num_workers=threads,
        remove_unused_columns=False,
        label_names=["labels"],
        seed=seed,
        use_cpu=device == "cpu",
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else it splits a batch over all GPUs that it sees
    return arguments


def accumulated(tuning: Tuning, at_once: int) -> int:
    """Return how many batches of so many samples a step accumulates."""
    return tuning.batch // (at_once * world())


def settled(tuning: Tuning, device: str) -> Tuning:
    """Return the options with the precision that ``auto`` stands for on the device."""
    if tuning.precision != "auto":
        return tuning
    able = device != "cpu" and torch.cuda.is_bf16_supported()
    return tuning.model_copy(update={"precision": "bfloat16" if able else "float32"})
