"""FunASR's trainer, in this process: its loop of epochs, each kept whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from funasr.register import tables
from funasr.train_utils.set_all_random_seed import set_all_random_seed
from funasr.train_utils.trainer_ds import Trainer

from mercore.errors import RunError
from mercore.signals import taken
from mercore.tuning import Note
from mercore_paraformer._funasr import auto_model, undisturbed
from mercore_paraformer._published import Published
from mercore_paraformer.tuning import ParaformerTuning

_LAST, _BEST = "model.pt", "model.pt.best"  # FunASR's names
_NEVER = sys.maxsize  # steps


def trained(
    found: Published,
    tuning: ParaformerTuning,
    lists: tuple[Path, Path],
    folder: Path,
    device: str,
    seed: int,
    note: Note,
) -> dict[str, torch.Tensor]:
    """Return the weights of the best epoch; `lists` are of the utterances to train on and held out.

    As ``funasr.bin.train_ds`` does, which needs a GPU. What the folder holds is gone on from.
    """
    auto = auto_model(found, device)
    with undisturbed():
        trainer = _Trainer(
            output_dir=str(folder),
            device=device,
            max_epoch=tuning.epochs,
            accum_grad=tuning.accumulate,
            grad_clip=tuning.clip,
            keep_nbest_models=1,
            log_interval=_NEVER,
            validate_interval=_NEVER,
            save_checkpoint_interval=_NEVER,
        )
        try:
            with taken(trainer.noted):
                _run(trainer, auto, _loader(auto, tuning, lists, device), tuning, seed, note)
            trainer.heed()
        finally:
            if trainer.writer is not None:
                trainer.writer.close()
    best: Any = torch.load(folder / _BEST, map_location="cpu", weights_only=True)
    weights: dict[str, torch.Tensor] = best["state_dict"]
    return weights


def _run(
    trainer: _Trainer, auto: Any, loader: Any, tuning: ParaformerTuning, seed: int, note: Note
) -> None:
    network = auto.model.requires_grad_(True)
    # The predictor counts tokens, and fails in its own way where there is no number of them.
    network.encoder.register_forward_hook(lambda module, given, found: trainer.check(found[0]))
    model, optim, scheduler = trainer.warp_optim_scheduler(
        network,
        optim="adam",
        optim_conf={"lr": tuning.lr},
        scheduler="warmuplr",
        scheduler_conf={"warmup_steps": tuning.warmup},
    )
    parts = {"model": model, "optim": optim, "scheduler": scheduler, "scaler": None}
    trainer.resume_checkpoint(**parts)
    for epoch in range(trainer.start_epoch, tuning.epochs):
        set_all_random_seed((seed * 1000 + epoch) % 2**32)  # an epoch is the same after a kill
        train, valid = loader.build_iter(epoch)
        trainer.train_epoch(**parts, dataloader_train=train, dataloader_val=valid, epoch=epoch)
        trainer.validate_epoch(model=model, dataloader_val=valid, epoch=epoch + 1)
        note(
            {
                "step": trainer.batch_total,
                "epoch": epoch + 1,
                "loss": trainer.train_loss_avg,
                "learning_rate": scheduler.get_last_lr()[0],
                "eval_loss": trainer.val_loss_avg,
                "eval_accuracy": trainer.val_acc_avg,
            }
        )
        trainer.step_in_epoch = 0
        trainer.save_checkpoint(epoch + 1, **parts)


def _loader(auto: Any, tuning: ParaformerTuning, lists: tuple[Path, Path], device: str) -> Any:
    return tables.dataloader_classes["DataloaderMapStyle"](
        frontend=auto.kwargs["frontend"],
        tokenizer=auto.kwargs["tokenizer"],
        dataset="AudioDataset",
        train_data_set_list=str(lists[0]),
        valid_data_set_list=str(lists[1]),
        dataset_conf={
            "index_ds": "IndexDSJsonl",
            "batch_sampler": "BatchSampler",
            "batch_type": "token",
            "batch_size": tuning.batch * 100,
            "sort_size": 1024,
            "num_workers": 0 if device == "cpu" else 4,
            "pin_memory": device != "cpu",
            # Else what is longer than 20 s is passed over.
            "max_source_length": _NEVER,
            "max_token_length": _NEVER,
        },
    )


class _Trainer(Trainer):  # type: ignore[misc]
    """Ends after the step in flight: FunASR passes over a signal where it reads a file."""

    output_dir: str
    _signal = 0

    def noted(self, number: int, before: Any) -> None:
        """Take note of a signal; a second one has its usual effect."""
        signal.signal(number, before)
        self._signal = number

    def heed(self) -> None:
        """Pass on a signal that was noted."""
        if self._signal:
            os.kill(os.getpid(), self._signal)

    def update_step(self, *given: Any, **named: Any) -> None:
        """Change the weights, and then heed a signal."""
        super().update_step(*given, **named)
        self.heed()

    def forward_step(self, model: Any, batch: Any, loss_dict: dict[str, Any]) -> None:
        """Compute the loss; raises RunError for one that is no number."""
        super().forward_step(model, batch, loss_dict=loss_dict)
        self.check(loss_dict["loss"])

    def check(self, numbers: torch.Tensor) -> None:
        """Raise RunError where the numbers, a loss or what it is computed from, are none."""
        if not torch.isfinite(numbers).all():
            raise RunError(
                f"the loss of step {self.batch_total} is no number; the epochs before it are kept "
                f"in {self.output_dir}; give a lower lr, in a new --out"
            )

    def save_checkpoint(self, epoch: int, **given: Any) -> None:
        """Keep the state of an epoch; what is gone on from is put in place last."""
        folder = Path(self.output_dir)
        new = folder / ".new"
        self.output_dir = str(new)
        try:
            super().save_checkpoint(epoch, **given)
        finally:
            self.output_dir = str(folder)
        for name in (_BEST, _LAST):
            if (new / name).exists():
                os.replace(new / name, folder / name)
        shutil.rmtree(new)
