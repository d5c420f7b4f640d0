"""A trained network: its weights checked, and the function that predicts with them."""

from __future__ import annotations

import numpy as np
import torch

from mercore.components import Features, Predict, Weights
from mercore.errors import CheckpointError, listed
from mercore.media import FloatArray
from mercore.network import NetworkFusion
from mercore.nn._devices import device_of
from mercore.nn._network import Network, Tensors
from mercore.nn._standard import Shift, check_features, floats, is_beside, stored
from mercore.nn._threads import side_by_side

CHUNK = 2048
"""Samples predicted at a time, each on one core: bounds the memory of a prediction."""


def load_network(fusion: NetworkFusion, weights: Weights, device: str) -> Predict:
    """Return the function that predicts with `weights`, checked against the options."""
    who = f"fusion {fusion.name!r}"
    network, standards = fusion.network(), stored(who, weights)
    classes = int(weights["classes"])
    given = tensors(fusion, network, weights, device_of(device))
    trained = {name: tensor.unsqueeze(0) for name, tensor in given.items()}
    shifts = {name: Shift.of([standard], device) for name, standard in standards.items()}

    def predict(features: Features) -> FloatArray:
        check_features(who, features, standards)
        samples = len(next(iter(features.values())))
        table = np.empty((samples, classes), np.float32)

        def fill(start: int) -> None:
            rows = slice(start, start + CHUNK)
            part = {
                name: shift(torch.from_numpy(floats(features[name][rows])).to(device).unsqueeze(0))
                for name, shift in shifts.items()
            }
            with torch.inference_mode():
                scores = network.logits(trained, part, lambda x: x)[0]
                table[rows] = scores.softmax(dim=1).cpu().numpy()

        side_by_side(fill, range(0, samples, CHUNK), device)
        return table

    return predict


def tensors(
    fusion: NetworkFusion, network: Network, weights: Weights, device: torch.device
) -> Tensors:
    """Return the tensors of a network; every mistake among them is in one CheckpointError."""
    standards = stored(f"fusion {fusion.name!r}", weights)
    classes = int(weights["classes"])
    dims = {name: len(standard.mean) for name, standard in standards.items()}
    parameters = network.parameters(dims, classes)
    expected = {name: parameter.shape for name, parameter in parameters.items()}
    found = {name: array.shape for name, array in weights.items() if not is_beside(name)}
    mistakes = [
        f"{name!r}: found {found.get(name)}, expected {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if mistakes:
        raise CheckpointError(
            f"fusion {fusion.name!r}: weights do not fit {fusion!r}; use the options they were "
            f"trained with, or train the branch again:{listed(mistakes)}"
        )
    return {name: torch.from_numpy(floats(weights[name])).to(device) for name in expected}
