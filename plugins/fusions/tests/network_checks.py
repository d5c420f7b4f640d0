"""What the tests of the networks share: weights, inputs, and a comparison with a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mercore import NetworkFusion

Tensors = dict[str, Tensor]
MEMBERS = 2


def drawn(fusion: NetworkFusion, dims: Mapping[str, int]) -> Tensors:
    """Return random float64 weights of two networks for three classes, to be differentiated."""
    generator, found = torch.Generator().manual_seed(0), {}
    for name, parameter in fusion.network().parameters(dims, 3).items():
        x = torch.randn(MEMBERS, *parameter.shape, generator=generator, dtype=torch.float64)
        x = x * parameter.shape[-1] ** -0.5
        # Biases above 0, so that no unit of these narrow networks is dead on all samples.
        found[name] = (x.abs() if name.endswith("bias") else x).requires_grad_()
    return found


def rows(dims: Mapping[str, int]) -> Tensors:
    """Return five samples of utterance-level features for each of two networks."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(MEMBERS, 5, dim, generator=generator, dtype=torch.float64)
        for name, dim in dims.items()
    }


def check(
    fusion: NetworkFusion,
    inputs: Tensors,
    reference: Callable[[Tensors, Tensors], Tensor],
    dead: Sequence[str] = (),
) -> None:
    """Compare each network with the reference, and follow gradients to all weights not `dead`.

    The reference gets the weights and inputs of one network, without members.
    """
    weights = drawn(fusion, {name: x.shape[-1] for name, x in inputs.items()})
    found = fusion.network().logits(weights, inputs, lambda x: x)
    for member in range(MEMBERS):
        own = [{name: x[member] for name, x in part.items()} for part in (weights, inputs)]
        torch.testing.assert_close(found[member], reference(*own), atol=1e-10, rtol=0)
    gradients = torch.autograd.grad(found.square().sum(), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        assert gradient.isfinite().all()
        assert gradient.any() or name.endswith(tuple(dead)), f"no gradient reaches {name}"
