"""The standardisation of features, and the weights of a network as they are stored.

Beside the tensors of the network there are ``classes``, how many (int64), and for each feature F
``order.F``, its place in the fit (int64), ``mean.F`` and ``scale.F``, float32 ``(dim,)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercore.components import Features, Weights
from mercore.errors import CheckpointError, RunError, listed
from mercore.media import FloatArray


@dataclass(frozen=True, eq=False)
class Standard:
    """Shift and scale of one feature, fitted on the training samples."""

    mean: FloatArray
    """``(dim,)``."""
    scale: FloatArray
    """``(dim,)``, above 0."""


Standards = Mapping[str, Standard]
"""By feature, in the order of the fit."""


@dataclass(frozen=True, eq=False)
class Shift:
    """The standardisation of several members: ``(x - mean) / scale`` in place."""

    mean: Tensor
    """``(members, dim)``."""
    scale: Tensor

    @classmethod
    def of(cls, standards: Sequence[Standard], device: torch.device | str) -> Shift:
        """Return the standardisation of one feature, a row a member."""
        mean, scale = (
            torch.from_numpy(np.stack([getattr(part, name) for part in standards])).to(device)
            for name in ("mean", "scale")
        )
        return cls(mean, scale)

    def of_member(self, member: int) -> Shift:
        """Return the standardisation of one member."""
        return Shift(self.mean[member : member + 1], self.scale[member : member + 1])

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x`, ``(members, ..., dim)``, changed in place."""
        shape = (len(self.mean), *[1] * (x.dim() - 2), x.shape[-1])
        return x.sub_(self.mean.view(shape)).div_(self.scale.view(shape))


def fit_standard(who: str, name: str, x: FloatArray, standardise: bool) -> Standard:
    """Return the standardisation of feature `name` over ``(..., dim)``, NaN rows left out.

    Dimensions that do not vary keep scale 1. Raises RunError for values that are not finite.
    """
    rows = x.reshape(-1, x.shape[-1])
    rows = rows[~np.isnan(rows).all(axis=1)]
    mean, scale = np.zeros(x.shape[-1], np.float32), np.ones(x.shape[-1], np.float32)
    if not standardise or not len(rows):
        return Standard(mean, scale)
    with np.errstate(all="ignore"):  # reported below, with the name of the feature
        mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows = rows - mean
        deviation = np.sqrt(np.einsum("nd,nd->d", rows, rows) / len(rows))
    if not np.isfinite(deviation).all():
        raise RunError(
            f"{who}: feature {name!r} has {np.isfinite(deviation).sum()} finite dimensions of "
            f"{len(mean)}; extract it again, nan and infinity cannot be learnt from"
        )
    return Standard(mean, np.where(deviation > 0, deviation, scale))


def named(standards: Standards, classes: int) -> dict[str, NDArray[np.generic]]:
    """Return what is stored beside the tensors of the network."""
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(classes, np.int64)}
    for place, (name, standard) in enumerate(standards.items()):
        arrays[f"order.{name}"] = np.array(place, np.int64)
        arrays[f"mean.{name}"], arrays[f"scale.{name}"] = standard.mean, standard.scale
    return arrays


def stored(who: str, weights: Weights) -> Standards:
    """Return the standardisation that is stored with the weights; CheckpointError without one."""
    places = {
        name.removeprefix("order."): int(place)
        for name, place in weights.items()
        if name.startswith("order.")
    }
    needed = ["classes", *(f"{kind}.{name}" for name in places for kind in ("mean", "scale"))]
    missing = [name for name in needed if name not in weights]
    if missing or not places:
        lacking = missing if places else ["order.*"]
        raise CheckpointError(
            f"{who}: weights without {lacking!r}, found {len(weights)} others; train the branch "
            "again"
        )
    return {
        name: Standard(floats(weights[f"mean.{name}"]), floats(weights[f"scale.{name}"]))
        for name in sorted(places, key=places.__getitem__)
    }


def check_features(who: str, features: Features, standards: Standards) -> None:
    """Raise CheckpointError unless `features` are those that `standards` was fitted on."""
    if features.keys() != standards.keys():
        raise CheckpointError(
            f"{who}: found features {sorted(features)!r}, but the weights are for "
            f"{sorted(standards)!r}; give those, or train the branch again"
        )
    mistakes = [
        f"{name!r}: found {features[name].shape[-1]} dimensions, expected {len(standard.mean)}"
        for name, standard in standards.items()
        if features[name].shape[-1] != len(standard.mean)
    ]
    if mistakes:
        raise CheckpointError(
            f"{who}: features are not those it was trained on; extract them with the same "
            f"encoders, or train the branch again:{listed(mistakes)}"
        )


def is_beside(name: str) -> bool:
    """Return whether a stored array is none of the network's tensors."""
    return name == "classes" or name.startswith(("order.", "mean.", "scale."))


def floats(array: NDArray[np.generic]) -> FloatArray:
    """Return a float32 copy: what was read from a file may be read-only."""
    return array.astype(np.float32)
