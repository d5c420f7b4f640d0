"""The network with the hidden states it is asked for, filled and run."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from transformers import HubertConfig, HubertModel

from mercore.errors import CheckpointError
from mercore.media import FloatArray
from mercore.nn import HiddenStates, built, chosen, fill, moved
from mercore_hubert import Hubert
from mercore_hubert._published import Published

AT_ONCE: Final = 120 * 16_000
"""The most samples of one pass, with padding."""


class Network(nn.Module):
    """From audio ``(batch, samples)`` to the reduced hidden states ``(batch, frames, dim)``.

    They are float32. The mask, ``(batch, samples)`` of 0 and 1, says which samples are no padding.
    """

    def __init__(
        self, model: HubertModel, layers: Sequence[int], reduce: Literal["mean", "sum"], depth: int
    ) -> None:
        super().__init__()
        self.model = model
        encoder = model.encoder
        final = encoder.layer_norm if model.config.do_stable_layer_norm else None
        self.hidden = HiddenStates(encoder.layers, layers, reduce, depth=depth, final=final)

    def forward(self, audio: Tensor, mask: Tensor | None = None) -> Tensor:
        self.model(audio, attention_mask=mask)
        return self.hidden.take()


def network(found: Published, options: Hubert, *, device: str, dtype: torch.dtype) -> Network:
    """Return the network with the blocks that the highest layer of the options needs."""
    depth = found.config.num_hidden_layers
    layers = chosen(options.layers, depth, "hubert")
    model = filled(found, max(1, *layers), device=device, dtype=dtype)
    _multiply_out(model, found, device, dtype)
    return Network(model, layers, options.reduce, depth).eval()


def filled(
    found: Published, blocks: int, *, device: str, dtype: torch.dtype, dropout: float = 0.0
) -> HubertModel:
    """Return the first `blocks` blocks with their weights, and what is before and behind them."""
    rules = found.layout.rules(blocks, found.config.num_hidden_layers)
    return fill(empty(found, blocks, dropout), found.weights, rules, dtype=dtype, device=device)


def empty(found: Published, blocks: int, dropout: float = 0.0) -> HubertModel:
    """Return the same with parameters that take no memory yet."""
    try:
        return built(lambda: HubertModel(_first(blocks, found.config, dropout)))
    except ValueError as error:  # sizes that do not go together
        raise CheckpointError(f"{found.weights.path}: has no HuBERT's sizes: {error}") from error


def _first(blocks: int, config: HubertConfig, dropout: float) -> HubertConfig:
    """Return the config of the network with that many blocks, as it is used here."""
    own = deepcopy(config)
    own.num_hidden_layers = blocks
    own.hidden_dropout = own.attention_dropout = own.activation_dropout = dropout
    own.feat_proj_dropout = own.layerdrop = 0.0  # a block that is left out has no hidden state
    own.mask_time_prob = own.mask_feature_prob = 0.0  # of training: no masked_spec_embed
    own._attn_implementation = "sdpa"
    return own


def _multiply_out(model: HubertModel, found: Published, device: str, dtype: torch.dtype) -> None:
    """Replace the positional convolution's weight norm by its product, taken in float32."""
    conv = model.encoder.pos_conv_embed.conv
    if not is_parametrized(conv):  # in networks with a batch norm in its place
        return
    for part, name in enumerate(found.layout.norm(found.weights)):
        own = conv.get_parameter(f"parametrizations.weight.original{part}")
        own.data = found.weights[name].to(device, torch.float32)
    remove_parametrizations(conv, "weight")
    conv.to(dtype).requires_grad_(False)


def together(pieces: Sequence[FloatArray], *, alike: bool) -> list[list[int]]:
    """Return which pieces to run in one pass; with `alike` only those of one length."""
    packs: list[list[int]] = []
    previous = 0
    for place in sorted(range(len(pieces)), key=lambda place: len(pieces[place])):
        length = len(pieces[place])
        fits = packs and (len(packs[-1]) + 1) * length <= AT_ONCE
        if not fits or (alike and length != previous):
            packs.append([])
        packs[-1].append(place)
        previous = length
    return packs


def run(network: Network, pieces: Sequence[FloatArray], frames: Sequence[int]) -> list[Tensor]:
    """Return the `frames` first rows of each piece, from one pass; shorter ones are padded."""
    weight = network.model.feature_projection.projection.weight
    longest = max(map(len, pieces))
    audio = np.zeros((len(pieces), longest), np.float32)
    for row, piece in zip(audio, pieces, strict=True):
        row[: len(piece)] = piece
    mask = None
    if min(map(len, pieces)) < longest:
        lengths = np.array([len(piece) for piece in pieces])
        mask = moved((np.arange(longest) < lengths[:, None]).astype(np.int64), str(weight.device))
    states = network(moved(audio, str(weight.device)).to(weight.dtype), mask)
    return [state[:count] for state, count in zip(states, frames, strict=True)]
