"""The multimodal transformer: each feature's frames look for what matters in the others'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from mercore_fusions.trained import (
    Drop,
    Shapes,
    Tensors,
    Trained,
    linear,
    linear_shapes,
    stack,
    stack_layers,
)

if TYPE_CHECKING:
    from torch import Tensor


class Mult(Trained):
    """Class probabilities from sequences of frames that attend to one another.

    A convolution over time brings the frames of each feature to ``(samples, frames, hidden)``, and
    sinusoidal positions are added. For each ordered pair of features a transformer of `layers`
    layers lets the frames of the first attend to those of the second. All that one feature got from
    the others, side by side, goes through a transformer with self-attention; its last frame is
    taken. Those of all features side by side go through linear and ReLU, a linear layer and a
    softmax. A feature alone goes through the self-attention straight away.

    Sequences need not be aligned or of one length. They are read from the store, which holds them
    for features with ``frames: true``.

    Source: Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL
    2019, sections 3.1 (attention, equation 1) and 3.2 (convolution, positions, equations 2 to 4).
    Written from the equations; Apache-2.0. Deviations: layer normalisation without gain and shift,
    which the linear layers behind it hold; dropout of inputs and of what an attention or
    feed-forward layer adds, not of attention weights; fewer and narrower layers by default.
    """

    name: ClassVar[str] = "mult"

    max_frames: int = Field(
        default=50, ge=1, description="Frames a sequence is shortened to, by averaging neighbours."
    )
    hidden: int = Field(default=32, ge=1, description="Width of a frame; a multiple of `heads`.")
    heads: int = Field(default=4, ge=1, description="Heads of each attention.")
    layers: int = Field(default=2, ge=1, description="Layers of each transformer.")
    kernel: int = Field(
        default=1, ge=1, description="Neighbouring frames a convolution looks at; an odd number."
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of a layer's inputs set to 0 in training."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        mistakes = []
        if self.hidden % self.heads:
            mistakes.append(f"hidden={self.hidden} is no multiple of heads={self.heads}")
        if self.kernel % 2 == 0:
            mistakes.append(f"kernel={self.kernel}: expected an odd number, such as 1 or 3")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def frames(self) -> int | None:
        """The most frames a sample that it reads."""
        return self.max_frames

    def shapes(self, dims: Mapping[str, int], classes: int) -> Shapes:
        """Return the shape of each trained tensor.

        ``project.F``; ``cross.A.B.L``, how A attends to B in layer L; ``self.F.L``; each of the two
        with ``.query``, ``.key``, ``.value``, ``.join``, ``.up`` and ``.down``; ``hidden.0``;
        ``classify``.
        """
        wide = self.hidden * max(1, len(dims) - 1)  # what a feature gets from all others
        layers = stack_layers("hidden", 1, wide * len(dims), self.hidden)
        layers["classify"] = (classes, self.hidden)
        for name, dim in dims.items():
            layers[f"project.{name}"] = (self.hidden, dim * self.kernel)
            layers |= self._transformer(f"self.{name}", wide)
            for other in dims:
                if other != name:
                    layers |= self._transformer(f"cross.{name}.{other}", self.hidden)
        return linear_shapes(layers)

    def _transformer(self, prefix: str, width: int) -> dict[str, tuple[int, int]]:
        """Return ``(outputs, inputs)`` of its linear layers."""
        square = {name: (width, width) for name in ("query", "key", "value", "join")}
        layer = square | {"up": (4 * width, width), "down": (width, 4 * width)}
        return {f"{prefix}.{n}.{k}": v for n in range(self.layers) for k, v in layer.items()}

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(samples, classes)``."""
        import torch

        there = {name: ~x[..., 0].isnan() for name, x in inputs.items()}  # (samples, frames) each
        z = {name: self._frames(weights, name, x, drop) for name, x in inputs.items()}
        last = []
        for name, own in z.items():
            heard = [
                self._attend(weights, f"cross.{name}.{other}", own, frames, there[other], drop)
                for other, frames in z.items()
                if other != name
            ]
            joint = torch.cat(heard or [own], dim=2)  # (samples, frames, wide)
            joint = self._attend(weights, f"self.{name}", joint, None, there[name], drop)
            last.append(_last(joint, there[name]))  # (samples, wide)
        x = stack(weights, "hidden", drop(torch.cat(last, dim=1)))  # (samples, hidden)
        return linear(weights, "classify", x)  # (samples, classes)

    def _frames(self, weights: Tensors, name: str, x: Tensor, drop: Drop) -> Tensor:
        """Return ``(samples, frames, hidden)``: equation (2), then positions, equation (3)."""
        from torch.nn import functional

        there = ~x[..., :1].isnan()  # (samples, frames, 1)
        x = drop(x.where(there, 0.0)).transpose(1, 2)  # (samples, dim, frames)
        kernel = weights[f"project.{name}.weight"].view(self.hidden, -1, self.kernel)
        bias = weights[f"project.{name}.bias"]
        x = functional.conv1d(x, kernel, bias, padding=self.kernel // 2).transpose(1, 2)
        return x + positions(x.shape[1], self.hidden).to(x)

    def _attend(
        self,
        weights: Tensors,
        prefix: str,
        own: Tensor,
        other: Tensor | None,
        there: Tensor,
        drop: Drop,
    ) -> Tensor:
        """Return ``(samples, frames, width)`` after all layers of equation (4).

        `other` are the frames attended to, of which `there` are some; None is self-attention.
        """
        z = own
        for layer in range(self.layers):
            name = f"{prefix}.{layer}"
            z = _normalised(z)
            source = z if other is None else _normalised(other)
            z = _normalised(z + drop(self._attention(weights, name, z, source, there)))
            inner = linear(weights, f"{name}.up", z).relu()  # (samples, frames, 4 * width)
            z = z + drop(linear(weights, f"{name}.down", inner))
        return z

    def _attention(
        self, weights: Tensors, name: str, own: Tensor, source: Tensor, there: Tensor
    ) -> Tensor:
        """Return equation (1) with several heads, ``(samples, frames, width)``."""
        query, key, value = (
            _split(linear(weights, f"{name}.{part}", x), self.heads)
            for part, x in (("query", own), ("key", source), ("value", source))
        )  # (samples, heads, frames, width / heads) each
        score = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (..., own, source frames)
        score = score.masked_fill(~there[:, None, None], float("-inf"))
        found = (score.softmax(dim=3) @ value).transpose(1, 2).flatten(2)
        return linear(weights, f"{name}.join", found)


def positions(frames: int, width: int) -> Tensor:
    """Return ``(frames, width)`` sines and cosines of wavelengths from 2 pi to 20,000 pi.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5.
    """
    import torch

    even = torch.arange(0, width, 2)
    angles = torch.arange(frames)[:, None] / 10_000 ** (even / width)  # (frames, width / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :width]


def _split(x: Tensor, heads: int) -> Tensor:
    """Return ``(samples, heads, frames, width / heads)`` of ``(samples, frames, width)``."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _normalised(x: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.layer_norm(x, x.shape[-1:])


def _last(x: Tensor, there: Tensor) -> Tensor:
    """Return the last of the frames that are there, ``(samples, width)``."""
    place = there.sum(dim=1) - 1  # (samples,)
    return x.take_along_dim(place[:, None, None], dim=1).squeeze(1)
