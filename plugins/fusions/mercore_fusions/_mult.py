"""The multimodal transformer in torch; its source is in the docstring of `Mult`.

=========================  ===========================  ==========================================
name                       shape                        holds
=========================  ===========================  ==========================================
``project.F.weight``       ``(kernel * hidden, dim)``   the convolution of feature F, a block a
                                                        frame, the earliest first
``cross.F.G.L.*.weight``   ``(hidden, hidden)``, ...    how F attends to G in layer L: ``query``,
                                                        ``key``, ``value``, ``join``, and ``up``
                                                        and ``down`` of the feed-forward layers
``self.F.L.*.weight``      as above, of width           how all that F got attends to itself
                           ``hidden * (features - 1)``
``hidden.0.weight``        ``(hidden, ...)``            from the last frames of all features
``classify.weight``        ``(classes, hidden)``        the logits
=========================  ===========================  ==========================================

with a ``.bias`` beside each ``.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters, split_missing
from mercore_fusions._layers import stack, stack_parameters
from mercore_fusions.mult import Mult

WIDER = 4  # the feed-forward layers inside


@dataclass(frozen=True)
class MultNetwork:
    """The network of one choice of options."""

    options: Mult

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions."""
        hidden = self.options.hidden
        wide = hidden * max(1, len(dims) - 1)  # what a feature gets from all others
        found = stack_parameters("hidden", 1, hidden, wide * len(dims))
        found |= linear_parameters("classify", classes, hidden)
        for name, dim in dims.items():
            found |= self._convolution(f"project.{name}", dim)
            found |= self._transformer(f"self.{name}", wide)
            for other in dims:
                if other != name:
                    found |= self._transformer(f"cross.{name}.{other}", hidden)
        return found

    def _convolution(self, name: str, dim: int) -> dict[str, Parameter]:
        hidden, kernel = self.options.hidden, self.options.kernel
        bound = (kernel * dim) ** -0.5
        return {
            f"{name}.weight": Parameter((kernel * hidden, dim), bound),
            f"{name}.bias": Parameter((hidden,), bound),
        }

    def _transformer(self, name: str, width: int) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for layer in range(self.options.layers):
            for part in ("query", "key", "value", "join"):
                found |= linear_parameters(f"{name}.{layer}.{part}", width, width)
            found |= linear_parameters(f"{name}.{layer}.up", WIDER * width, width)
            found |= linear_parameters(f"{name}.{layer}.down", width, WIDER * width)
        return found

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(m, b, classes)``."""
        frames, there = {}, {}
        for name, x in inputs.items():
            known, there[name] = split_missing(x)  # (m, b, t, dim), (m, b, t)
            frames[name] = drop(self._convolved(weights, f"project.{name}", known))
        last = []
        for name, own in frames.items():
            heard = [
                self._attending(
                    weights, f"cross.{name}.{other}", own, frames[other], there[other], drop
                )
                for other in frames
                if other != name
            ]
            joint = torch.cat(heard or [own], dim=3)  # (m, b, t, wide)
            joint = self._attending(weights, f"self.{name}", joint, None, there[name], drop)
            last.append(_last(joint, there[name]))  # (m, b, wide)
        x = stack(weights, "hidden", 1, drop(torch.cat(last, dim=2)))  # (m, b, hidden)
        return linear(weights, "classify", x)  # (m, b, classes)

    def _convolved(self, weights: Tensors, name: str, x: Tensor) -> Tensor:
        """Return ``(m, b, t, hidden)``: equations (2) and (3)."""
        kernel, count = self.options.kernel, x.shape[2]
        # Each frame times every column of the kernel first: shifting the products, which are
        # narrow, is cheaper than shifting the frames.
        products = torch.bmm(x.flatten(1, 2), weights[f"{name}.weight"].transpose(1, 2))
        products = products.view(*x.shape[:3], kernel, self.options.hidden)
        padded = functional.pad(products, (0, 0, 0, 0, kernel // 2, kernel // 2))
        z = torch.stack([padded[:, :, k : k + count, k] for k in range(kernel)]).sum(dim=0)
        z = z + weights[f"{name}.bias"][:, None, None]  # (m, b, t, hidden)
        return z + positions(count, self.options.hidden).to(z)

    def _attending(
        self,
        weights: Tensors,
        name: str,
        own: Tensor,
        other: Tensor | None,
        there: Tensor,
        drop: Drop,
    ) -> Tensor:
        """Return ``(m, b, t, width)`` after all layers of equation (4).

        `other` are the frames attended to, or None for `own`; those that are `there` count.
        """
        z, low = own, None if other is None else _normalised(other)
        for layer in range(self.options.layers):
            part = f"{name}.{layer}"
            z = _normalised(z)
            source = z if low is None else low
            z = _normalised(z + drop(self._attention(weights, part, z, source, there)))
            inner = linear(weights, f"{part}.up", z).relu()  # (m, b, t, WIDER * width)
            z = z + drop(linear(weights, f"{part}.down", inner))
        return z

    def _attention(
        self, weights: Tensors, name: str, own: Tensor, source: Tensor, there: Tensor
    ) -> Tensor:
        """Return ``(m, b, t, width)``: equation (1), of several heads."""
        query, key, value = (
            self._heads(linear(weights, f"{name}.{part}", x))  # (m * b, heads, t, width / heads)
            for part, x in (("query", own), ("key", source), ("value", source))
        )
        some = there.any(dim=2, keepdim=True)  # (m, b, 1)
        # Where nothing is there all is attended to, and comes to nothing: no sum of no shares.
        seen = (there | ~some).flatten(0, 1)[:, None, None]  # (m * b, 1, 1, t)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        found = found.transpose(1, 2).reshape(own.shape) * some.unsqueeze(3)
        return linear(weights, f"{name}.join", found)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(
            -1, x.shape[2], self.options.heads, x.shape[3] // self.options.heads
        ).transpose(1, 2)


def positions(frames: int, width: int) -> Tensor:
    """Return ``(frames, width)``: sines and cosines of wavelengths from 2 pi to 20,000 pi.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5.
    """
    even = torch.arange(0, width, 2)
    angles = torch.arange(frames)[:, None] / 10_000 ** (even / width)  # (frames, width / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :width]


def _normalised(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def _last(x: Tensor, there: Tensor) -> Tensor:
    """Return ``(m, b, width)``: the last frame that is there, 0 where none is."""
    count = there.sum(dim=2)  # (m, b)
    place = (count - 1).clamp(min=0)[..., None, None]
    return x.take_along_dim(place, dim=2).squeeze(2) * (count > 0).unsqueeze(-1)
