"""Cross-modal attention in torch: the network, its standardisation, prediction.

The network is a function of named tensors, so what is trained, stored and loaded is one mapping.
Its source is in the docstring of `Attention`; equation numbers are those of Ge et al. (2024).

=======================  ======================  ============================================
name                     shape                   holds
=======================  ======================  ============================================
``order.F``              ``()``                  the place of feature F in the fit, int64
``mean.F``, ``scale.F``  ``(dim,)``              its standardisation
``encoder.F.L.weight``   ``(hidden, dim)``       layer L = 0, 1, 2; ``(hidden, hidden)`` after 0
``attention.L.weight``   ``(hidden, ...)``       layer L over all encoded features side by side
``score.weight``         ``(features, hidden)``  one weight a feature
``classify.weight``      ``(classes, hidden)``   the logits
=======================  ======================  ============================================

with a ``.bias`` beside each ``.weight``; all float32 but the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mercore import CheckpointError, Features, Predict, Weights
from mercore.errors import RunError, listed
from mercore.media import FloatArray
from mercore_attention import Attention

LAYERS = range(3)
CHUNK = 4096  # samples predicted at a time: bounds the memory of a prediction
NEGLIGIBLE = 1e-20  # a gradient: Adam's epsilon is 1e-8

Tensors = Mapping[str, Tensor]
Drop = Callable[[Tensor], Tensor]


def logits(weights: Tensors, inputs: Tensors, normalise: str, drop: Drop) -> Tensor:
    """Return ``(samples, classes)``; `inputs` are ``(samples, dim)`` in the order of the fit."""
    parts = [_encode(weights, f"encoder.{name}", drop(x)) for name, x in inputs.items()]
    encoded = _pruned(torch.stack(parts, dim=1))  # (samples, features, hidden)
    context = _pruned(_encode(weights, "attention", drop(encoded.flatten(1))))  # (samples, hidden)
    score = _linear(weights, "score", context)  # (samples, features)
    if normalise == "softmax":
        score = score.softmax(dim=1)
    fused = torch.bmm(score.unsqueeze(1), encoded).squeeze(1)  # (samples, hidden), Z of (4)
    return _linear(weights, "classify", fused)  # (samples, classes), the argument of (5)


def _encode(weights: Tensors, prefix: str, x: Tensor) -> Tensor:
    for layer in LAYERS:
        x = functional.relu(_linear(weights, f"{prefix}.{layer}", x))
    return x


def _pruned(x: Tensor) -> Tensor:
    """Return `x`; where gradients flow back through it, those too small to matter become 0.

    Once the training samples are learnt, the softmax over the features leaves gradients below
    1e-38 to those it ignores, and arithmetic on such subnormal numbers made a step take two to
    three times as long.
    """
    if x.requires_grad:
        x.register_hook(lambda g: g.masked_fill(g.abs() < NEGLIGIBLE, 0.0))  # type: ignore[no-untyped-call]
    return x


def _linear(weights: Tensors, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def shapes(dims: Mapping[str, int], hidden: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each trained tensor, for features of `dims` dimensions."""
    inputs = {f"encoder.{name}": dim for name, dim in dims.items()}
    inputs["attention"] = hidden * len(dims)
    linear = {
        f"{prefix}.{layer}": (hidden, hidden if layer else dim)
        for prefix, dim in inputs.items()
        for layer in LAYERS
    }
    linear |= {"score": (len(dims), hidden), "classify": (classes, hidden)}
    matrices = {f"{name}.weight": shape for name, shape in linear.items()}
    return matrices | {f"{name}.bias": shape[:1] for name, shape in linear.items()}


@dataclass(frozen=True, eq=False)
class Standard:
    """Shift and scale of one feature, fitted on the training samples."""

    mean: FloatArray
    """``(dim,)``."""
    scale: FloatArray
    """``(dim,)``, above 0."""

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return a standardised copy of `x`, ``(samples, dim)`` float32."""
        centred = np.subtract(x, self.mean, dtype=np.float32)
        return np.divide(centred, self.scale, out=centred)


Standards = Mapping[str, Standard]
"""By feature, in the order of the fit."""


def fit_standard(name: str, x: FloatArray, standardise: bool) -> Standard:
    """Return the standardisation of feature `name`; dimensions that do not vary keep scale 1."""
    mean, scale = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    if not standardise:
        return Standard(mean, scale)
    with np.errstate(all="ignore"):  # reported below, with the name of the feature
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = x - mean
        deviation = np.sqrt(np.einsum("nd,nd->d", centred, centred) / len(x))
    if not np.isfinite(deviation).all():
        raise RunError(
            f"fusion 'attention': feature {name!r} has {np.isfinite(deviation).sum()} finite "
            f"dimensions of {len(mean)}; extract it again, nan and infinity cannot be learnt from"
        )
    return Standard(mean, np.where(deviation > 0, deviation, scale))


def inputs(features: Features, standards: Standards, device: str) -> Tensors:
    """Return standardised ``(samples, dim)`` on `device`, in the order of `standards`."""
    return {
        name: torch.from_numpy(standard(features[name])).to(device)
        for name, standard in standards.items()
    }


def check_features(features: Features, standards: Standards) -> None:
    """Raise CheckpointError unless `features` are those that `standards` was fitted on."""
    if features.keys() != standards.keys():
        raise CheckpointError(
            f"fusion 'attention': found features {sorted(features)!r}, but the weights are for "
            f"{sorted(standards)!r}; give those, or train the branch again"
        )
    mistakes = [
        f"{name!r}: found {features[name].shape[1]} dimensions, expected {len(standard.mean)}"
        for name, standard in standards.items()
        if features[name].shape[1] != len(standard.mean)
    ]
    if mistakes:
        raise CheckpointError(
            "fusion 'attention': features are not those it was trained on; extract them with the "
            f"same encoders, or train the branch again:{listed(mistakes)}"
        )


def load(options: Attention, weights: Weights, device: str) -> Predict:
    """Return the function that predicts with `weights`, checked against `options`."""
    standards = _standards(weights)
    trained = _trained(weights, standards, options.hidden, device)

    def predict(features: Features) -> FloatArray:
        check_features(features, standards)
        samples = len(next(iter(features.values())))
        table = np.empty((samples, len(trained["classify.bias"])), np.float32)
        for start in range(0, samples, CHUNK):
            rows = slice(start, start + CHUNK)
            part = inputs({name: x[rows] for name, x in features.items()}, standards, device)
            with torch.inference_mode():
                scores = logits(trained, part, options.normalise, lambda x: x)
                table[rows] = scores.softmax(dim=1).cpu().numpy()  # p of (5)
        return table

    return predict


def _standards(weights: Weights) -> Standards:
    places = {
        name.removeprefix("order."): int(place)
        for name, place in weights.items()
        if name.startswith("order.")
    }
    needed = [f"{kind}.{name}" for name in places for kind in ("mean", "scale")]
    missing = [name for name in needed if name not in weights]
    if missing or not places:
        raise CheckpointError(
            f"fusion 'attention': weights without {missing or ['order.*']!r}, found "
            f"{len(weights)} others; train the branch again"
        )
    return {
        name: Standard(_float(weights[f"mean.{name}"]), _float(weights[f"scale.{name}"]))
        for name in sorted(places, key=places.__getitem__)
    }


def _trained(weights: Weights, standards: Standards, hidden: int, device: str) -> Tensors:
    """Return the trained tensors; every mistake among them is in one CheckpointError."""
    dims = {name: len(standard.mean) for name, standard in standards.items()}
    expected = shapes(dims, hidden, len(weights.get("classify.bias", ())))
    found = {
        name: array.shape
        for name, array in weights.items()
        if not name.startswith(("order.", "mean.", "scale."))
    }
    mistakes = [
        f"{name!r}: found {found.get(name)}, expected {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if mistakes:
        raise CheckpointError(
            f"fusion 'attention': weights do not fit hidden={hidden}; use the options they were "
            f"trained with, or train the branch again:{listed(mistakes)}"
        )
    return {name: torch.from_numpy(_float(weights[name])).to(device) for name in expected}


def _float(array: NDArray[np.generic]) -> FloatArray:
    return array.astype(np.float32)  # always a copy: what was read from a file may be read-only
