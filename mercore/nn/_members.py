"""Several networks of one kind, trained in step, each on its own part of the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# The class torch.optim.Adam imports the compiler when it is built, which takes seconds.
from torch.optim.adam import adam

from mercore.components import Part
from mercore.errors import RunError
from mercore.metrics import waf
from mercore.network import NetworkFusion
from mercore.nn._best import Best
from mercore.nn._chance import balanced, dropout
from mercore.nn._network import Drop, Network, Tensors
from mercore.nn._standard import Shift

Step = Callable[[Sequence[Tensor]], None]
"""Change the weights by their gradients."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Features and labels, resident on the device."""

    inputs: Tensors
    """``(samples, dim)`` or ``(samples, frames, dim)`` by feature, in the order of the fit."""
    labels: Tensor
    """``(samples,)`` int64."""

    def at(self, rows: Tensor, shifts: Mapping[str, Shift]) -> tuple[Tensors, Tensor]:
        """Return standardised inputs ``(members, batch, ...)`` and labels of ``rows``.

        `rows` are ``(members, batch)``, indices; the features themselves stay as they are.
        """
        inputs = {name: shift(_taken(self.inputs[name], rows)) for name, shift in shifts.items()}
        return inputs, self.labels[rows]


@dataclass(frozen=True, eq=False)
class Members:
    """The networks of some parts; ``best`` trains them and changes `weights` in place."""

    fusion: NetworkFusion
    network: Network
    samples: Samples
    parts: Sequence[Part]
    shifts: Mapping[str, Shift]
    """The standardisation of each feature."""
    balance: Tensor
    """``(members, classes)``, the weight of each class in the loss."""
    generators: Sequence[torch.Generator]
    """One a member: all chance of a member comes from its own."""
    weights: Tensors
    """``(members, ...)``."""

    def best(self) -> list[dict[str, Tensor]]:
        """Return the weights of each member's best epoch, without the members' dimension."""
        step = _adam(list(self.weights.values()), self.fusion)
        drop = dropout(self.fusion.dropout, self.generators)
        watched = [self._watched(member) for member in range(len(self.parts))]
        for epoch in range(self.fusion.epochs):
            self._pass(epoch, step, drop)
            for best in watched:
                best.look(epoch)
            if all(best.done for best in watched):
                break
        return [best.kept for best in watched]

    def _pass(self, epoch: int, step: Step, drop: Drop) -> None:
        """Train every member on each of its samples once."""
        batches, counted = self._batches()
        total = torch.zeros(len(self.parts), device=batches.device)
        for rows, share in zip(batches.unbind(1), counted.unbind(1), strict=True):
            loss = self._loss(rows, share, drop)  # (members,)
            step(torch.autograd.grad(loss.sum(), list(self.weights.values())))
            total += loss.detach()
        # Looked at once a pass: looking at every loss would make the host wait for the device.
        if not total.isfinite().all():
            wrong = float(total[~total.isfinite()][0])
            raise RunError(
                f"fusion {self.fusion.name!r}: the loss is {wrong} in epoch {epoch + 1}; lower "
                f"lr={self.fusion.lr!r}, or check the features for nan and infinity"
            )

    def _loss(self, rows: Tensor, share: Tensor, drop: Drop) -> Tensor:
        """Return the mean cross-entropy of each member's `rows`, ``(members, batch)``."""
        inputs, labels = self.samples.at(rows, self.shifts)
        with _reduced(rows.device):
            scores = self.network.logits(self.weights, inputs, drop)  # (members, batch, classes)
        return _mean_loss(scores.float(), labels, share * self.balance.gather(1, labels))

    def _batches(self) -> tuple[Tensor, Tensor]:
        """Return the rows of an epoch, ``(members, steps, batch)``, and 1.0 where one counts.

        The last batch is filled up, so that it is as large whichever members are together.
        """
        size = self.fusion.batch
        steps = math.ceil(len(self.parts[0].train) / size)
        rows = torch.stack([self._order(member, steps * size) for member in range(len(self.parts))])
        lengths = torch.tensor([len(part.train) for part in self.parts]).unsqueeze(1)
        counted = (torch.arange(steps * size) < lengths).float().to(rows.device)
        shape = (len(rows), steps, size)
        return rows.view(shape), counted.view(shape)

    def _order(self, member: int, length: int) -> Tensor:
        """Return the training rows of a member in the order of this epoch, filled up."""
        part, generator = self.parts[member], self.generators[member]
        rows = torch.from_numpy(part.train).to(generator.device)
        if self.fusion.sampling == "balanced":
            rows = rows[balanced(self.samples.labels[rows], generator)]
        order = torch.randperm(len(rows), generator=generator, device=generator.device)
        return functional.pad(rows[order], (0, length - len(rows)), value=int(part.train[0]))

    def _watched(self, member: int) -> Best:
        rows = torch.from_numpy(self.parts[member].valid).to(self.balance.device)
        shifts = {name: shift.of_member(member) for name, shift in self.shifts.items()}
        inputs, labels = self.samples.at(rows.unsqueeze(0), shifts)
        weights = {name: weight[member : member + 1] for name, weight in self.weights.items()}

        def score(epoch: int) -> tuple[float, float]:
            """Return WAF and negative loss on the validation samples: greater is better."""
            if not len(rows):
                return float(epoch), 0.0
            with torch.inference_mode():
                scores = self.network.logits(weights, inputs, lambda x: x)
                share = self.balance[member : member + 1].gather(1, labels)
                loss = _mean_loss(scores, labels, share)
            predicted = scores[0].argmax(dim=1).cpu().numpy()
            return waf(labels[0].cpu().numpy(), predicted, scores.shape[2]), -float(loss)

        return Best(weights, score, self.fusion.patience)


def _taken(x: Tensor, rows: Tensor) -> Tensor:
    """Return ``(members, batch, ...)``, a copy of the `rows` of ``(samples, ...)``."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])


def _mean_loss(scores: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Return ``(members,)``: the mean cross-entropy, samples weighted by `share`."""
    # With the classes second, what is summed for a member does not depend on who is beside it.
    losses = functional.cross_entropy(scores.transpose(1, 2), labels, reduction="none")
    return (losses * share).sum(1) / share.sum(1)


def _reduced(device: torch.device) -> torch.autocast:
    """Let a GPU multiply matrices in bfloat16; weights, sums and Adam stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _adam(weights: Sequence[Tensor], fusion: NetworkFusion) -> Step:
    first, second = [[torch.zeros_like(w) for w in weights] for _ in range(2)]  # moments
    steps = [torch.zeros((), device=w.device) for w in weights]

    @torch.no_grad()
    def step(gradients: Sequence[Tensor]) -> None:
        adam(
            list(weights),
            # The fused step takes numbers as they lie, whatever the strides say.
            [gradient.contiguous() for gradient in gradients],
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=fusion.lr,
            weight_decay=fusion.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    return step
