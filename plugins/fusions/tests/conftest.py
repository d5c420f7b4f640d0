from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from mercore_fusions.trained import Trained

Tensors = dict[str, Tensor]


@pytest.fixture
def drawn() -> Callable[[Trained, Mapping[str, int]], Tensors]:
    """Return random float64 weights of a network for three classes, to be differentiated."""

    def weights(fusion: Trained, dims: Mapping[str, int]) -> Tensors:
        generator, found = torch.Generator().manual_seed(0), {}
        for name, shape in fusion.shapes(dims, 3).items():
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * shape[-1] ** -0.5
            # Biases above 0, so that no unit of these narrow networks is dead on all samples.
            found[name] = (x.abs() if name.endswith("bias") else x).requires_grad_()
        return found

    return weights


@pytest.fixture
def rows() -> Callable[[Mapping[str, int]], Tensors]:
    """Return five samples of utterance-level features."""

    def inputs(dims: Mapping[str, int]) -> Tensors:
        generator = torch.Generator().manual_seed(1)
        return {
            name: torch.randn(5, dim, generator=generator, dtype=torch.float64)
            for name, dim in dims.items()
        }

    return inputs
