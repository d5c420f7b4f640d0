"""The loop of a training: transformers' Trainer, with what mercore decides put in.

The Trainer brings devices (DDP, FSDP), precision, accumulation, checkpoints and the schedule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from mercore.errors import RunError
from mercore.metrics import waf
from mercore.tuning._data import UNKNOWN, Collate, Examples, Order
from mercore.tuning._options import Classifying, Tuning
from mercore.tuning._trainee import Trainee

if TYPE_CHECKING:
    from mercore.media import FloatArray

_WEIGHTS, _STATE = "model.safetensors", "trainer_state.json"


class Loop(Trainer):
    """Trains a trainee; see transformers' Trainer."""

    def __init__(
        self,
        trainee: Trainee,
        tuning: Tuning,
        arguments: TrainingArguments,
        train: Examples,
        valid: Examples | None,
        callbacks: Sequence[TrainerCallback],
        *,
        loss_weights: FloatArray | None = None,
        sample_weights: FloatArray | None = None,
    ) -> None:
        self.trainee = trainee
        self._tuning = tuning
        self._order = Order(train, arguments.seed, sample_weights)
        self._loss_weights = None if loss_weights is None else torch.from_numpy(loss_weights)
        super().__init__(
            model=trainee.module,
            args=arguments,
            data_collator=Collate(trainee),
            train_dataset=train,
            eval_dataset=valid,
            compute_metrics=scores if isinstance(tuning, Classifying) else None,
            callbacks=list(callbacks),
        )
        self.model_accepts_loss_kwargs = True  # compute_loss does: the Trainer divides by nothing
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss, or what a batch adds to that of the step; RunError for no number.

        The step has `num_items_in_batch` items on all devices, over which the gradient is averaged.
        """
        items = _items(inputs)
        labels, shares = inputs.pop("labels"), inputs.pop("shares", None)
        outputs = model(**inputs)
        if shares is not None:
            labels = mixed(labels, shares, outputs["logits"].shape[1])
        loss = outputs["loss"] if "loss" in outputs else self._loss(outputs["logits"], labels)
        if model.training and not torch.isfinite(loss):
            raise RunError(
                f"the loss is {loss.item()} after {self.state.global_step} steps; the checkpoints "
                "from before are kept: give a lower lr, or `precision: float32`"
            )
        if num_items_in_batch is not None:
            loss = loss * (items * self.accelerator.num_processes / num_items_in_batch)
        return (loss, {**outputs, "loss": loss}) if return_outputs else loss

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        options = self._tuning
        assert isinstance(options, Classifying)
        weights = self._loss_weights
        return self.trainee.loss(
            logits.float(),
            labels,
            weight=None if weights is None else weights.to(logits.device),
            label_smoothing=options.smoothing,
            # Labels that are shares of the classes have no index to leave out.
            ignore_index=-100 if labels.is_floating_point() else UNKNOWN,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor:
        """Return the items of the batches that a step accumulates, on all devices."""
        items = torch.as_tensor(sum(map(_items, batch_samples)), device=device)
        found: Tensor = self.accelerator.gather(items).sum()
        return found

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimiser of the trainee's groups."""
        if self.optimizer is None:
            options = self._tuning
            groups = [
                {
                    "params": list(group.parameters),
                    "lr": options.lr * group.rate,
                    "weight_decay": options.weight_decay if group.decays else 0.0,
                }
                for group in self.trainee.groups()
                if group.parameters
            ]
            if options.optimizer == "sgd":
                self.optimizer = torch.optim.SGD(groups, options.lr, options.momentum)
            else:
                self.optimizer = torch.optim.AdamW(groups, options.lr, options.betas)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self._order

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Do nothing: of a checkpoint only what is trained is kept."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Keep what is trained: the rest is in the checkpoint that the training began from."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        module = self.trainee.module
        fixed = {name for name, p in module.named_parameters() if not p.requires_grad}
        tensors = state_dict or module.state_dict()
        kept = {name: t.contiguous() for name, t in tensors.items() if name not in fixed}
        save_file(kept, folder / _WEIGHTS, {"format": "pt"})


def _items(batch: Mapping[str, Any]) -> Any:
    """Return how many items the loss of a batch is the mean of."""
    return batch["items"].sum() if "items" in batch else len(batch["labels"])


def mixed(labels: Tensor, shares: Tensor, classes: int) -> Tensor:
    """Return ``(samples, classes)``: each sample's class by its share, that of its partner else."""
    own, share = one_hot(labels, classes).float(), shares.unsqueeze(1)
    return share * own + (1 - share) * own.flip(0)


def scores(evaluated: Any) -> dict[str, float]:
    """Return WAF and accuracy of what was predicted in an evaluation."""
    labels, logits = np.asarray(evaluated.label_ids), np.asarray(evaluated.predictions)
    known = labels != UNKNOWN
    if not known.any():
        raise RunError("no sample of the held-out fold can be read; see failed.jsonl")
    labels, predicted = labels[known], logits[known].argmax(axis=1)
    return {
        "waf": waf(labels, predicted, logits.shape[1]),
        "accuracy": float((labels == predicted).mean()),
    }


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last whole checkpoint: its state is written last."""
    whole = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")
             if _state(path) is not None}  # fmt: skip
    return whole[max(whole)] if whole else None


def _state(checkpoint: Path) -> Mapping[str, Any] | None:
    try:
        state: Mapping[str, Any] = json.loads((checkpoint / _STATE).read_bytes())
    except (OSError, ValueError):
        return None
    return state
