"""The suite for the training of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mercore.components import Component, Encoder, Inputs
from mercore.media import FloatArray
from mercore.testing._outputs import value_of
from mercore.testing._samples import made_up
from mercore.testing._suite import Suite
from mercore.tuning import Example, Trainee, Tuning


class TuningTests(Suite):
    """What mercore expects of a training. Set ``component``, an encoder, and ``tuning``."""

    component: Encoder
    tuning: Tuning
    """The options that are tried."""
    classes: int = 3
    """What a head learns; 0 for a training without labels."""
    steps: int = 10
    lr: float = 1e-2
    """Of the steps that are tried."""

    _kind: ClassVar[type[Component]] = Encoder

    @cached_property
    def samples(self) -> Sequence[Inputs]:
        """What is trained on."""
        return made_up(self.component)

    def _trainee(self) -> Trainee:
        import torch

        torch.manual_seed(0)
        return self.tuning.prepare(self.component, self.classes)

    @cached_property
    def _rows(self) -> Sequence[Sequence[FloatArray]] | None:
        """What the trunk gives of the samples, if there is one."""
        trunk = self.tuning.trunk(self.component)
        return None if trunk is None else self._encoded(trunk)

    def _encoded(self, encoder: Encoder) -> list[list[FloatArray]]:
        outputs = encoder.load("cpu", "float32")(list(self.samples))
        return [list(value_of(output)) for output in outputs]

    def _example(self, trainee: Trainee, place: int, seed: int) -> Example:
        random = np.random.default_rng(seed)
        if self._rows is None:
            return trainee.example(self.samples[place], random, training=True)
        return trainee.from_trunk(self._rows[place], random, training=True)

    def _batch(self, trainee: Trainee) -> dict[str, Any]:
        return trainee.batch([self._example(trainee, at, at) for at in range(len(self.samples))])

    def _trained(self, trainee: Trainee) -> list[float]:
        """Return the loss of each step on one batch."""
        import torch

        batch = self._batch(trainee)
        batch.pop("shares", None)  # of mixed samples: their own classes are learnt here
        labels = torch.arange(len(self.samples)) % max(1, self.classes)
        groups = [list(group.parameters) for group in trainee.groups() if group.parameters]
        optimiser = torch.optim.AdamW([p for group in groups for p in group], lr=self.lr)
        losses = []
        for _ in range(self.steps):
            torch.manual_seed(0)  # dropout is alike in each step
            output = trainee.module.train()(**batch)
            loss = output["loss"] if "loss" in output else trainee.loss(output["logits"], labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        return losses

    def test_a_training_lowers_the_loss(self) -> None:
        """Some steps on one batch lower its loss.

        Why: a training that cannot learn four samples by heart learns nothing.

        Cure: see that `groups` has all parameters with `requires_grad`, that nothing between them
        and the loss is detached or under `no_grad`, and that the loss is that of the batch.
        """
        losses = self._trained(self._trainee())
        self.require(losses[-1] < losses[0], f"the loss goes from {losses[0]} to {losses[-1]}")

    def test_what_is_frozen_does_not_move(self) -> None:
        """Parameters without `requires_grad` are the same after a training, the others are not.

        Why: what is not trained is taken from the checkpoint that the training began from.

        Cure: set `requires_grad` in `prepare`, and give `groups` no other parameters.
        """
        trainee = self._trainee()
        before = {name: p.detach().clone() for name, p in trainee.module.named_parameters()}
        self._trained(trainee)
        for name, parameter in trainee.module.named_parameters():
            moved = bool((parameter.detach() != before[name]).any())
            self.require(moved <= parameter.requires_grad, f"{name} is frozen, and has moved")
        moved_any = any(
            bool((p.detach() != before[name]).any())
            for name, p in trainee.module.named_parameters()
        )
        self.require(moved_any, "no parameter has moved")

    def test_what_is_saved_is_read_back(self, tmp_path: Path) -> None:
        """The encoder reads what was saved, and a training that starts there has the same weights.

        Why: that is what the training was for.

        Cure: write in `save` all files that `load` reads, under the names of the published
        checkpoint; undo what `prepare` changed.
        """
        trainee = self._trainee()
        self._trained(trainee)
        again = self._saved(trainee, tmp_path / "checkpoint")
        output = again.load("cpu", "float32")(list(self.samples))
        for place, one in enumerate(output):
            self.require(np.isfinite(value_of(one)).all(), f"sample {place} is not finite")
        self._same_weights(trainee, again)

    def _saved(self, trainee: Trainee, folder: Path) -> Encoder:
        folder.mkdir()
        trainee.save(folder, trainee.module.state_dict())
        return self.tuning.trained(self.component, folder)

    def _same_weights(self, trainee: Trainee, again: Encoder) -> None:
        """Fail unless a training of `again` begins with the weights; a head may begin anew."""
        second = self.tuning.prepare(again, self.classes).module.state_dict()
        first = trainee.module.state_dict()
        same = [name for name in first if name in second and _equal(first[name], second[name])]
        other = [name for name in first if name not in same]
        self.require(same, "no weight is what it was when it is read again")
        body = _largest(first)
        self.require(
            body in same, f"{body!r} is not what was saved when it is read again; nor {other[:5]}"
        )

    def test_examples_repeat(self) -> None:
        """The same sample with the same random numbers gives the same example.

        Why: a training that was killed goes on as if nothing had been.

        Cure: draw from `random`, never from a generator of your own.
        """
        trainee = self._trainee()
        one, other = (self._example(trainee, 0, 1) for _ in range(2))
        for name in one:
            alike = np.array_equal(one[name], other[name])
            self.require(alike, f"{name!r} is another the second time")

    def test_its_trunk_stays_as_it_was(self, tmp_path: Path) -> None:
        """A trunk gives rows of its `dim`, and the same ones from the checkpoint that is saved.

        Why: the trained part learns on rows that were made before it was trained; the features that
        are made afterwards run through the trunk of the saved checkpoint.

        Cure: give in `trunk` what is in front of all that is trained, and save it as it was.
        """
        trunk = self.tuning.trunk(self.component)
        if trunk is None or self._rows is None:
            pytest.skip("it has no trunk")
        trainee = self._trainee()
        self._trained(trainee)
        again = self.tuning.trunk(self._saved(trainee, tmp_path / "checkpoint"))
        if again is None:
            self.fail("what was saved has no trunk")
        for place, (before, after) in enumerate(zip(self._rows, self._encoded(again), strict=True)):
            width = {len(row) for row in before}
            self.require(width == {trunk.dim}, f"rows of {width} numbers, its dim is {trunk.dim}")
            same = np.allclose(before, after, rtol=0, atol=1e-5)
            self.require(same, f"sample {place} has other rows from what was saved")

    def test_its_memory_can_be_planned(self) -> None:
        """Without its weights the network has the same parameters.

        Why: `--plan` says what a training takes before anything is loaded.

        Cure: with ``weights=False`` build the network alike, and leave out reading the weights.
        """
        empty = self.tuning.prepare(self.component, self.classes, weights=False)
        alike = _shapes(empty) == _shapes(self._trainee())
        self.require(alike, "the parameters or what is trained differ")


def _shapes(trainee: Trainee) -> Mapping[str, tuple[Any, bool]]:
    return {n: (tuple(p.shape), p.requires_grad) for n, p in trainee.module.named_parameters()}


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _largest(tensors: Mapping[str, Any]) -> str:
    return max(tensors, key=lambda name: int(tensors[name].numel()))
