"""Fits of one network on several parts of the same samples, as many at once as pay off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mercore.components import Labelled, Part, Weights
from mercore.errors import RunError
from mercore.machine import cores_outside
from mercore.media import FloatArray
from mercore.network import NetworkFusion
from mercore.nn._chance import balances, initial
from mercore.nn._devices import device_of
from mercore.nn._members import Members, Samples
from mercore.nn._network import Network, Parameter, Tensors
from mercore.nn._prediction import tensors
from mercore.nn._standard import Shift, Standards, fit_standard, named, stored
from mercore.nn._threads import side_by_side


def fit_network(
    fusion: NetworkFusion,
    data: Labelled,
    parts: Sequence[Part],
    *,
    classes: int,
    device: str,
    together: int | None = None,
) -> list[Weights]:
    """Return the weights of each part; see ``NetworkFusion.fit``.

    `together` is how many parts are trained as one; it changes rounding alone. None makes as many
    groups as there are cores, for members of a group share the cost of starting an operation.
    """
    fitting = _prepared(fusion, data, parts, classes, device_of(device))
    share = math.ceil(len(parts) / cores_outside()) if device == "cpu" else len(parts)
    groups = _groups(parts, fusion.batch, together or share)
    chosen = [[parts[index] for index in group] for group in groups]
    fitted: dict[int, Weights] = {}
    for group, found in zip(groups, side_by_side(fitting.fit, chosen, device), strict=True):
        fitted |= dict(zip(group, found, strict=True))
    return [fitted[index] for index in range(len(parts))]


def _groups(parts: Sequence[Part], batch: int, together: int) -> list[list[int]]:
    """Return which parts are trained together, by index: all of a group take as many steps."""
    alike: dict[int, list[int]] = {}
    for index, part in enumerate(parts):
        alike.setdefault(math.ceil(len(part.train) / batch), []).append(index)
    return [
        indices[start : start + together]
        for indices in alike.values()
        for start in range(0, len(indices), together)
    ]


@dataclass(frozen=True, eq=False)
class _Fitting:
    """What the parts share."""

    fusion: NetworkFusion
    network: Network
    parameters: Mapping[str, Parameter]
    data: Labelled
    samples: Samples
    """The same, resident on the device."""
    classes: int
    device: torch.device

    def fit(self, parts: Sequence[Part]) -> list[Weights]:
        """Return the weights of a group."""
        who = f"fusion {self.fusion.name!r}"
        standards = [self._standards(who, part) for part in parts]
        shifts = {
            name: Shift.of([member[name] for member in standards], self.device)
            for name in self.data.features
        }
        how = self.fusion.class_weights
        # All chance comes from these: the caller's random state stays as it is.
        generators = [torch.Generator(self.device).manual_seed(part.seed) for part in parts]
        members = Members(
            fusion=self.fusion,
            network=self.network,
            samples=self.samples,
            parts=parts,
            shifts=shifts,
            balance=balances(parts, self.data.labels, self.classes, how).to(self.device),
            generators=generators,
            weights=self._weights(parts, generators),
        )
        return [
            named(standard, self.classes) | {name: w.cpu().numpy() for name, w in best.items()}
            for standard, best in zip(standards, members.best(), strict=True)
        ]

    def _standards(self, who: str, part: Part) -> Standards:
        if part.start is not None:  # the weights have learnt with it
            return stored(who, part.start)
        return {
            name: fit_standard(who, name, x[part.train], self.fusion.standardise)
            for name, x in self.data.features.items()
        }

    def _weights(self, parts: Sequence[Part], generators: Sequence[torch.Generator]) -> Tensors:
        weights = initial(self.parameters, generators)
        with torch.no_grad():
            for member, part in enumerate(parts):
                if part.start is not None:
                    given = tensors(self.fusion, self.network, part.start, self.device)
                    for name, weight in weights.items():
                        weight[member] = given[name]
        return weights


def _prepared(
    fusion: NetworkFusion,
    data: Labelled,
    parts: Sequence[Part],
    classes: int,
    device: torch.device,
) -> _Fitting:
    fewest = min((len(part.train) for part in parts), default=0)
    if not fewest or not data.features:
        raise RunError(
            f"fusion {fusion.name!r}: found {fewest} training samples and {len(data.features)} "
            "features, expected at least one of each; check the splits of the manifest"
        )
    network = fusion.network()
    dims = {name: x.shape[-1] for name, x in data.features.items()}
    features = {name: _tensor(x).to(device) for name, x in data.features.items()}
    labels = torch.tensor(data.labels, dtype=torch.int64, device=device)
    parameters = network.parameters(dims, classes)
    return _Fitting(fusion, network, parameters, data, Samples(features, labels), classes, device)


def _tensor(x: FloatArray) -> Tensor:
    """Return the matrix without a copy, unless it is read-only, which torch warns of."""
    return torch.from_numpy(x if x.flags.writeable else x.copy())
