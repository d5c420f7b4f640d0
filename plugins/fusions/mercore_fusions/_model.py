"""Standardisation, checks and prediction of the networks, in torch.

Weights are those of the network's ``shapes``, and for each feature F ``order.F`` ``()`` int64, its
place in the fit, ``mean.F`` and ``scale.F`` ``(dim,)``; all float32 but the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercore import CheckpointError, Features, Predict, Weights
from mercore.errors import RunError, listed
from mercore.media import FloatArray
from mercore_fusions.trained import Tensors, Trained

CHUNK = 256  # samples computed at a time: bounds the memory of tensor products and sequences


@dataclass(frozen=True, eq=False)
class Standard:
    """Shift and scale of one feature, fitted on the training samples."""

    mean: FloatArray
    """``(dim,)``."""
    scale: FloatArray
    """``(dim,)``, above 0."""

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return a standardised copy of `x`, ``(..., dim)`` float32; NaN stays."""
        centred = np.subtract(x, self.mean, dtype=np.float32)
        return np.divide(centred, self.scale, out=centred)


Standards = Mapping[str, Standard]
"""By feature, in the order of the fit."""


def fit_standard(options: Trained, name: str, x: FloatArray) -> Standard:
    """Return the standardisation of feature `name`; dimensions that do not vary keep scale 1.

    Raises RunError for what is not finite, save rows of NaN where the fusion takes them.
    """
    rows = x.reshape(-1, x.shape[-1])
    if options.masked or options.frames is not None:
        rows = rows[~np.isnan(rows).all(axis=1)]
    finite = np.asarray(np.isfinite(rows).all(axis=0))
    if not finite.all():
        raise RunError(
            f"fusion {options.name!r}: feature {name!r} has {finite.sum()} finite dimensions of "
            f"{len(finite)}; extract it again, nan and infinity cannot be learnt from"
        )
    mean, scale = np.zeros(rows.shape[1], np.float32), np.ones(rows.shape[1], np.float32)
    if not options.standardise or not len(rows):
        return Standard(mean, scale)
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    deviation = np.sqrt(np.einsum("nd,nd->d", centred, centred) / len(rows))
    return Standard(mean, np.where(deviation > 0, deviation, scale))


def inputs(features: Features, standards: Standards, device: str) -> Tensors:
    """Return the standardised features on `device`, in the order of `standards`."""
    return {
        name: torch.from_numpy(standard(features[name])).to(device)
        for name, standard in standards.items()
    }


def check_features(options: Trained, features: Features, standards: Standards) -> None:
    """Raise CheckpointError unless `features` are those that `standards` was fitted on."""
    if features.keys() != standards.keys():
        raise CheckpointError(
            f"fusion {options.name!r}: found features {sorted(features)!r}, but the weights are "
            f"for {sorted(standards)!r}; give those, or train the branch again"
        )
    mistakes = [
        f"{name!r}: found {features[name].shape[-1]} dimensions, expected {len(standard.mean)}"
        for name, standard in standards.items()
        if features[name].shape[-1] != len(standard.mean)
    ]
    if mistakes:
        raise CheckpointError(
            f"fusion {options.name!r}: features are not those it was trained on; extract them with "
            f"the same encoders, or train the branch again:{listed(mistakes)}"
        )


def load(options: Trained, weights: Weights, device: str) -> Predict:
    """Return the function that predicts with `weights`, checked against `options`."""
    standards = _standards(options, weights)
    trained = _trained(options, weights, standards, device)

    def predict(features: Features) -> FloatArray:
        check_features(options, features, standards)
        samples = len(next(iter(features.values())))
        table = np.empty((samples, len(trained["classify.bias"])), np.float32)
        for start in range(0, samples, CHUNK):
            rows = slice(start, start + CHUNK)
            part = inputs({name: x[rows] for name, x in features.items()}, standards, device)
            with torch.inference_mode():
                scores = options.logits(trained, part, undropped)
                table[rows] = scores.softmax(dim=1).cpu().numpy()
        return table

    return predict


def undropped(x: Tensor) -> Tensor:
    """Return `x`: there is no dropout outside of training."""
    return x


def _standards(options: Trained, weights: Weights) -> Standards:
    places = {
        name.removeprefix("order."): int(place)
        for name, place in weights.items()
        if name.startswith("order.")
    }
    needed = [f"{kind}.{name}" for name in places for kind in ("mean", "scale")]
    missing = [name for name in needed if name not in weights]
    if missing or not places:
        raise CheckpointError(
            f"fusion {options.name!r}: weights without {missing or ['order.*']!r}, found "
            f"{len(weights)} others; train the branch again"
        )
    return {
        name: Standard(_float(weights[f"mean.{name}"]), _float(weights[f"scale.{name}"]))
        for name in sorted(places, key=places.__getitem__)
    }


def _trained(options: Trained, weights: Weights, standards: Standards, device: str) -> Tensors:
    """Return the trained tensors; every mistake among them is in one CheckpointError."""
    dims = {name: len(standard.mean) for name, standard in standards.items()}
    expected = options.shapes(dims, len(weights.get("classify.bias", ())))
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
            f"fusion {options.name!r}: weights do not fit {options!r}; use the options they were "
            f"trained with, or train the branch again:{listed(mistakes)}"
        )
    return {name: torch.from_numpy(_float(weights[name])).to(device) for name in expected}


def _float(array: NDArray[np.generic]) -> FloatArray:
    return array.astype(np.float32)  # always a copy: what was read from a file may be read-only
