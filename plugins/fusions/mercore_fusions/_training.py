"""The training of the networks: seeded, resident, one fused Adam call a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# The class torch.optim.Adam imports the compiler when it is built, which takes seconds.
from torch.optim.adam import adam

from mercore import Labelled, Weights
from mercore.components import IntArray
from mercore.errors import RunError
from mercore.metrics import waf
from mercore_fusions._model import (
    CHUNK,
    Standards,
    check_features,
    fit_standard,
    inputs,
    undropped,
)
from mercore_fusions.trained import Drop, Tensors, Trained

Step = Callable[[Sequence[Tensor]], None]
"""Change the weights by their gradients."""


def fit(
    options: Trained, train: Labelled, valid: Labelled, *, classes: int, device: str, seed: int
) -> Weights:
    """Return the weights of the best epoch on `valid`, named as `_model` says."""
    if len(train.labels) == 0 or not train.features:
        raise RunError(
            f"fusion {options.name!r}: found {len(train.labels)} training samples and "
            f"{len(train.features)} features, expected at least one of each; check the splits "
            "of the manifest"
        )
    standards = {name: fit_standard(options, name, x) for name, x in train.features.items()}
    dims = {name: len(standard.mean) for name, standard in standards.items()}
    # All chance comes from one generator: the caller's random state stays as it is.
    generator = torch.Generator(device).manual_seed(seed)
    training = Training(
        options=options,
        weights=_initial(options.shapes(dims, classes), generator),
        train=_samples(options, train, standards, device),
        valid=_samples(options, valid, standards, device),
        balance=_balance(train.labels, classes, options.class_weights).to(device),
        generator=generator,
    )
    return _named(standards) | {name: w.cpu().numpy() for name, w in training.best().items()}


@dataclass(frozen=True, eq=False)
class Samples:
    """Standardised features and labels, resident on the device."""

    inputs: Tensors
    """``(samples, dim)`` by feature, in the order of the fit."""
    labels: Tensor
    """``(samples,)`` int64."""

    def at(self, rows: Tensor) -> Samples:
        """Return the samples of `rows`, indices."""
        chosen = {name: x.index_select(0, rows) for name, x in self.inputs.items()}
        return Samples(chosen, self.labels[rows])


@dataclass(frozen=True, eq=False)
class Training:
    """One run of training; it changes `weights` in place."""

    options: Trained
    weights: Mapping[str, Tensor]
    train: Samples
    valid: Samples
    balance: Tensor
    """``(classes,)``, the weight of each class in the loss."""
    generator: torch.Generator

    def best(self) -> dict[str, Tensor]:
        """Return a copy of the weights of the best epoch."""
        step = _adam(list(self.weights.values()), self.options)
        drop = dropout(self.options.dropout, self.generator)
        best, kept, stale = (-math.inf, -math.inf), dict[str, Tensor](), 0
        for epoch in range(self.options.epochs):
            self._pass(epoch, step, drop)
            score = self._score(epoch)
            stale += 1
            if score > best:
                best, stale = score, 0
                kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
            if stale == self.options.patience:
                break
        return kept

    def _pass(self, epoch: int, step: Step, drop: Drop) -> None:
        """Train on every sample once."""
        rows = self._drawn()
        total = torch.zeros((), device=rows.device)
        for batch in torch.split(rows, self.options.batch):
            part = self.train.at(batch)
            scores = self.options.logits(self.weights, part.inputs, drop)
            loss = functional.cross_entropy(scores, part.labels, self.balance)
            step(torch.autograd.grad(loss, list(self.weights.values())))
            total += loss.detach()
        # Looked at once a pass: looking at every loss would make the host wait for the device.
        if not math.isfinite(total):
            raise RunError(
                f"fusion {self.options.name!r}: the loss is {float(total)} in epoch {epoch + 1}; "
                f"lower lr={self.options.lr!r}, or check the features for nan and infinity"
            )

    def _drawn(self) -> Tensor:
        """Return the training samples of one pass in random order."""
        generator = self.generator
        if self.options.sampling == "none":
            samples = len(self.train.labels)
            return torch.randperm(samples, generator=generator, device=generator.device)
        by_class = [(self.train.labels == c).nonzero()[:, 0] for c in range(len(self.balance))]
        by_class = [rows for rows in by_class if len(rows)]
        share = -(-len(self.train.labels) // len(by_class))
        drawn = []
        for rows in by_class:
            draw = torch.randint(len(rows), (share,), generator=generator, device=rows.device)
            drawn.append(rows[draw])
        order = torch.randperm(share * len(drawn), generator=generator, device=generator.device)
        return torch.cat(drawn)[order]

    def _score(self, epoch: int) -> tuple[float, float]:
        """Return WAF and negative loss on the validation samples: greater is better."""
        if len(self.valid.labels) == 0:
            return float(epoch), 0.0
        with torch.inference_mode():
            every = torch.arange(len(self.valid.labels), device=self.balance.device)
            parts = [
                self.options.logits(self.weights, self.valid.at(rows).inputs, undropped)
                for rows in torch.split(every, CHUNK)
            ]
            scores = torch.cat(parts)
            loss = functional.cross_entropy(scores, self.valid.labels, self.balance)
        labels, predicted = self.valid.labels.cpu().numpy(), scores.argmax(dim=1).cpu().numpy()
        return waf(labels, predicted, len(self.balance)), -float(loss)


def dropout(share: float, generator: torch.Generator) -> Drop:
    """Return inverted dropout with masks from `generator`; `share` is met to 1 in 65,536.

    16 random bits decide on a number, so one draw serves four: torch's own dropout takes four
    times as long, and would be the largest part of a step.
    """
    dropped = round(share * 2**16)
    if dropped == 0:
        return lambda x: x

    def drop(x: Tensor) -> Tensor:
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)
        kept = bits[: x.numel()].view(x.shape) >= dropped - 2**15
        return (x * kept).mul_(2**16 / (2**16 - dropped))

    return drop


def _adam(weights: Sequence[Tensor], options: Trained) -> Step:
    first, second = [[torch.zeros_like(w) for w in weights] for _ in range(2)]  # moments
    steps = [torch.zeros((), device=w.device) for w in weights]

    @torch.no_grad()
    def step(gradients: Sequence[Tensor]) -> None:
        adam(
            list(weights),
            list(gradients),
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=options.lr,
            weight_decay=options.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    return step


def _initial(sizes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    """Return random weights, uniform within 1 / sqrt(inputs) as torch does for a linear layer."""
    weights = {}
    for name, shape in sizes.items():
        layer = name.rpartition(".")[0]
        bound = sizes[f"{layer}.weight"][1] ** -0.5
        empty = torch.empty(shape, device=generator.device)
        weights[name] = empty.uniform_(-bound, bound, generator=generator).requires_grad_()
    return weights


def _samples(options: Trained, data: Labelled, standards: Standards, device: str) -> Samples:
    check_features(options, data.features, standards)
    labels = torch.tensor(data.labels, dtype=torch.int64, device=device)
    return Samples(inputs(data.features, standards, device), labels)


def _balance(labels: IntArray, classes: int, how: str) -> Tensor:
    """Return ``(classes,)`` weights whose mean over the training samples is 1."""
    if how == "none":
        return torch.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * counts.clip(1))
    return torch.from_numpy(weights.astype(np.float32))


def _named(standards: Standards) -> dict[str, NDArray[np.generic]]:
    named: dict[str, NDArray[np.generic]] = {}
    for place, (name, standard) in enumerate(standards.items()):
        named[f"order.{name}"] = np.array(place, np.int64)
        named[f"mean.{name}"], named[f"scale.{name}"] = standard.mean, standard.scale
    return named
