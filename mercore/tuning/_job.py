"""One training: what is trained on what, and where what comes of it is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from transformers import set_seed

from mercore.batches import out_of_memory
from mercore.components import Encoder, IntArray
from mercore.errors import RunError
from mercore.machine import Machine
from mercore.nn import quiet_transformers
from mercore.tuning._arguments import arguments_of, settled
from mercore.tuning._callbacks import callbacks_of, in_order
from mercore.tuning._data import Chosen, Examples, Source, balance, reasons
from mercore.tuning._left_out import left_out
from mercore.tuning._options import Classifying, Tuning
from mercore.tuning._trainee import Trainee
from mercore.tuning._trainer import Loop, last_checkpoint
from mercore.tuning._trunk import Kept, Trunk
from mercore.tuning.folder import TuningFolder
from mercore.tuning.processes import one_first, world
from mercore.watch import Silent, Watch


@dataclass(frozen=True)
class Part:
    """Samples with their classes."""

    source: Source
    labels: IntArray
    """``(samples,)``; of a training without labels all 0."""


@dataclass(frozen=True)
class Job:
    """What is trained on what."""

    name: str
    encoder: Encoder
    tuning: Tuning
    train: Part
    valid: Part
    classes: tuple[str, ...]
    """What is learnt; empty for a training without labels."""
    folder: TuningFolder
    about: Mapping[str, JsonValue]
    """All that decides the result."""
    machine: Machine = field(default_factory=Machine)
    seed: int = 0
    watch: Watch = field(default_factory=Silent)
    data: Mapping[str, JsonValue] = field(default_factory=dict)
    """What was counted in the data; it goes into the scores."""
    trunk: Trunk | None = None
    """What is run before the training, once."""

    def run(self) -> dict[str, JsonValue]:
        """Return what the training came to; one that was interrupted goes on.

        Raises RunError for a folder of another training, and for a loss that is no number.
        """
        if done := self.folder.done(self.about):
            return done
        self.folder.begin(self.about)
        at_once = fitting(self.tuning, self.tuning.at_once)
        job = self._sifted()
        with quiet_transformers():
            while (loop := job._trained(at_once)) is None:
                at_once = fitting(self.tuning, at_once - 1)
            return job._finished(loop, at_once)

    def _sifted(self) -> Job:
        """Return the training without the samples that its options leave out, which it counts."""
        check = self.tuning.leaves_out() if isinstance(self.tuning, Classifying) else None
        if check is None:
            return self
        source, file = self.train.source, self.folder.left_out
        with one_first():
            unfit = left_out(source, check, file, self.machine.threads, self.watch)
        counts = Counter(unfit.values())
        rows = [row for row in range(len(source)) if source.name(row) not in unfit]
        if not rows:
            why = ", ".join(f"{reason} {count}" for reason, count in counts.items())
            raise RunError(f"{self.name}: no sample is left to train on; left out: {why}")
        kept = np.array(rows)
        train = Part(Chosen(source, kept), self.train.labels[kept])
        return replace(self, train=train, data={**self.data, "left_out": {**counts}})

    def _trained(self, at_once: int) -> Loop | None:
        """Return the loop at the end of the training; None where the memory was too small."""
        try:
            loop = self._loop(at_once)
            before = last_checkpoint(self.folder.state)
            with in_order(loop):
                loop.train(resume_from_checkpoint=str(before) if before else None)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if at_once == 1 or world() > 1:
                raise RunError(
                    f"{self.name}: out of memory with {at_once} samples at once; give a lower "
                    "`at_once`, `recompute: true`, or more devices (`mer tune --plan` says more)"
                ) from error
            torch.cuda.empty_cache()
            return None
        return loop

    @cached_property
    def _kept(self) -> Kept | None:
        return self.trunk.kept() if self.trunk else None

    def _loop(self, at_once: int) -> Loop:
        _ = self._kept  # before the seed is set: what is loaded may draw
        set_seed(self.seed)
        device = self.machine.chosen_device()
        tuning = settled(self.tuning, device)
        trainee = tuning.prepare(self.encoder, len(self.classes))
        train = self._examples(trainee, self.train, training=True)
        steps = max(1, len(train) // self.tuning.batch)
        arguments = arguments_of(
            tuning,
            self.folder.state,
            device=device,
            seed=self.seed,
            threads=self.machine.threads if device != "cpu" else 0,
            steps=steps,
            at_once=at_once,
        )
        return Loop(
            trainee,
            tuning,
            arguments,
            train,
            self._examples(trainee, self.valid, training=False),
            callbacks_of(self.name, tuning, self.folder, self.watch),
            **self._balance(),
        )

    def _balance(self) -> dict[str, Any]:
        if not isinstance(self.tuning, Classifying) or self.tuning.balance == "none":
            return {}
        weights = balance(self.train.labels, len(self.classes))
        if self.tuning.balance == "weights":
            return {"loss_weights": weights}
        return {"sample_weights": weights[self.train.labels]}

    def _examples(self, trainee: Trainee, part: Part, *, training: bool) -> Examples:
        return Examples(
            part.source,
            part.labels,
            trainee,
            seed=self.seed,
            failures=self.folder.failures,
            training=training,
            kept=self._kept,
        )

    def _finished(self, loop: Loop, at_once: int) -> dict[str, JsonValue]:
        """Save the best state, which the loop has come back to, and its scores."""
        tensors = loop.accelerator.get_state_dict(loop.model)
        result = loop.predict(self._examples(loop.trainee, self.valid, training=False))
        sizes = [(p.numel(), p.requires_grad) for p in loop.trainee.module.parameters()]
        scores: dict[str, JsonValue] = {
            **self.data,
            "parameters": sum(size for size, _ in sizes),
            "trained": sum(size for size, trained in sizes if trained),
            "at_once": at_once,
            "steps": loop.state.global_step,
            "best_step": loop.state.best_global_step,
            "loss": (result.metrics or {})["test_loss"],
            "failed": dict(reasons(self.folder.failures)),
        }
        if not loop.is_world_process_zero():
            return scores
        if self.classes:
            source, labels = self.valid.source, np.asarray(result.label_ids)
            names = [source.name(row) for row in range(len(source))]
            logits = np.asarray(result.predictions)
            scores |= self.folder.save_predictions(names, self.classes, labels, logits)
        self.folder.save_checkpoint(lambda folder: loop.trainee.save(folder, tensors))
        return self.folder.finish(scores)


def fitting(tuning: Tuning, most: int) -> int:
    """Return how many samples a device takes at once: at most `most`, and a part of the batch."""
    share, rest = divmod(tuning.batch, world())
    if rest:
        raise RunError(f"batch {tuning.batch}: expected a multiple of the {world()} processes")
    return max(n for n in range(1, min(share, max(1, most)) + 1) if share % n == 0)
