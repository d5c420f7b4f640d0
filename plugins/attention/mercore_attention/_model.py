"""Cross-modal attention in torch, as a function of named tensors.

Its source is in the docstring of `Attention`; equation numbers are those of Ge et al. (2024).

========================  ======================  ===========================================
name                      shape                   holds
========================  ======================  ===========================================
``encoder.F.L.weight``    ``(hidden, dim)``       layer L = 0, 1, 2 of feature F;
                                                  ``(hidden, hidden)`` after 0
``lstm.F.*``              as ``torch.nn.LSTM``    the LSTM over frames in the place of that,
``encoder.F.weight``      ``(hidden, hidden)``    and the layer after it
``attention.L.weight``    ``(hidden, ...)``       layer L over all encoded features side by side
``score.weight``          ``(features, hidden)``  one weight a feature
``classify.weight``       ``(classes, hidden)``   the logits
========================  ======================  ===========================================

with a ``.bias`` beside each ``.weight``. In shape comments m is members, b samples, t frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mercore.nn import Drop, Parameter, Tensors, linear, linear_parameters, split_missing
from mercore_attention import Attention

LAYERS = range(3)
GATES = 4  # of an LSTM: input, forget, cell, output


@dataclass(frozen=True)
class AttentionNetwork:
    """The network of one choice of options."""

    options: Attention

    def parameters(self, dims: Mapping[str, int], classes: int) -> dict[str, Parameter]:
        """Return the trained tensors, for features of `dims` dimensions."""
        hidden = self.options.hidden
        found: dict[str, Parameter] = {}
        for name, dim in dims.items():
            if self._recurrent:
                found |= _lstm_parameters(f"lstm.{name}", hidden, dim)
                found |= linear_parameters(f"encoder.{name}", hidden, hidden)
            else:
                found |= _encoder_parameters(f"encoder.{name}", hidden, dim)
        found |= _encoder_parameters("attention", hidden, hidden * len(dims))
        found |= linear_parameters("score", len(dims), hidden)
        return found | linear_parameters("classify", classes, hidden)

    def logits(self, weights: Tensors, inputs: Tensors, drop: Drop) -> Tensor:
        """Return ``(members, samples, classes)``."""
        parts = [self._encode(weights, name, x, drop) for name, x in inputs.items()]
        encoded = torch.stack(parts, dim=2)  # (m, b, features, hidden)
        there = torch.stack([_there(x) for x in inputs.values()], dim=2)  # (m, b, features)
        if self.options.mask:
            encoded = encoded * there.unsqueeze(-1)
        context = _encode(weights, "attention", drop(encoded.flatten(2)))  # (m, b, hidden)
        score = self._normalised(linear(weights, "score", context), there)  # (m, b, features)
        fused = torch.einsum("mbf,mbfh->mbh", score, encoded)  # Z of (4)
        return linear(weights, "classify", fused)  # (m, b, classes), the argument of (5)

    @property
    def _recurrent(self) -> bool:
        return self.options.frames is not None and self.options.over == "lstm"

    def _encode(self, weights: Tensors, name: str, x: Tensor, drop: Drop) -> Tensor:
        """Return ``(m, b, hidden)`` of one feature."""
        if self.options.frames is None:
            x = split_missing(x)[0] if self.options.mask else x
            return _encode(weights, f"encoder.{name}", drop(x))
        x, there = split_missing(x)  # (m, b, t, dim), (m, b, t)
        if self.options.over == "mean":
            count = there.sum(2, keepdim=True).clamp(min=1)
            return _encode(weights, f"encoder.{name}", drop(x.sum(2) / count))
        last = _last_state(weights, f"lstm.{name}", x, there.sum(2))  # (m, b, hidden)
        return linear(weights, f"encoder.{name}", drop(last))

    def _normalised(self, score: Tensor, there: Tensor) -> Tensor:
        if self.options.normalise == "none":
            return score * there if self.options.mask else score
        if not self.options.mask:
            return score.softmax(dim=2)
        # A sample without any feature has no weight to give: what is left is the bias of (5).
        return score.masked_fill(~there, -torch.inf).softmax(dim=2).nan_to_num(0.0)


def _there(x: Tensor) -> Tensor:
    """Return ``(m, b)``: whether a sample has the feature."""
    there = ~x[..., 0].isnan()
    return there.any(dim=2) if there.dim() == 3 else there


def _encoder_parameters(name: str, hidden: int, inputs: int) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for layer in LAYERS:
        found |= linear_parameters(f"{name}.{layer}", hidden, hidden if layer else inputs)
    return found


def _encode(weights: Tensors, prefix: str, x: Tensor) -> Tensor:
    for layer in LAYERS:
        x = functional.relu(linear(weights, f"{prefix}.{layer}", x))
    return x


def _lstm_parameters(name: str, hidden: int, inputs: int) -> dict[str, Parameter]:
    bound, gates = hidden**-0.5, GATES * hidden  # as in torch.nn.LSTM
    return {
        f"{name}.weight_ih_l0": Parameter((gates, inputs), bound),
        f"{name}.weight_hh_l0": Parameter((gates, hidden), bound),
        f"{name}.bias_ih_l0": Parameter((gates,), bound),
        f"{name}.bias_hh_l0": Parameter((gates,), bound),
    }


def _last_state(weights: Tensors, name: str, x: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(m, b, hidden)``: the state after the last frame that is there."""
    mine = {
        key.removeprefix(f"{name}."): weight
        for key, weight in weights.items()
        if key.startswith(f"{name}.")
    }
    hidden, inputs = mine["weight_hh_l0"].shape[2], x.shape[3]
    lstm = nn.LSTM(inputs, hidden, batch_first=True, device="meta")  # the weights are given below
    states = []
    for member, sequence in enumerate(x):
        own = {key: weight[member] for key, weight in mine.items()}
        states.append(torch.func.functional_call(lstm, own, sequence)[0])  # (b, t, hidden)
    last = (lengths - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, hidden)
    return torch.stack(states).gather(2, last).squeeze(2)
