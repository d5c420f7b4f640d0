"""The networks of ``torchaudio.pipelines``, with weights from a file instead of a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import remove_parametrizations
from torchaudio import pipelines
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model

from mercore.checkpoints import locate
from mercore.components import Inputs
from mercore.errors import RunError
from mercore.inputs import audio_of
from mercore.media import FloatArray
from mercore.nn import (
    Checkpoint,
    HiddenStates,
    Rule,
    built,
    chosen,
    dtype_of,
    fill,
    moved,
    rows,
)
from mercore_torchaudio import RATE, TorchaudioBundle, alternatives
from mercore_torchaudio._bundles import FILES

FIELD = 400
"""Samples that one frame sees, so the fewest that give one; the same in every bundle."""
_MAKES = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}
_NORM = "encoder.transformer.pos_conv_embed.conv"


@dataclass(frozen=True)
class Bundle:
    """How a network is built and what it reads."""

    kind: str
    """``Wav2Vec2`` or ``WavLM``."""
    params: Mapping[str, Any]
    """What torchaudio builds it with."""
    normalise: bool
    """Whether it reads audio of mean 0 and variance 1."""

    @property
    def depth(self) -> int:
        """How many blocks it has."""
        return int(self.params["encoder_num_layers"])


def bundle_of(name: str) -> Bundle:
    """Return what torchaudio says of the bundle; only its download is public, so not by that."""
    own = getattr(pipelines, name)
    return Bundle(own._model_type, own._params, own._normalize_waveform)


class BundleModel:
    """The function ``TorchaudioBundle.load`` returns."""

    def __init__(self, options: TorchaudioBundle, device: str, dtype: str) -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise RunError(f"torchaudio_bundle: device {device!r}: torch finds no CUDA device")
        bundle = bundle_of(options.bundle)
        layers = chosen(options.layers, bundle.depth, "torchaudio_bundle")
        self._device, self._dtype = device, dtype_of(dtype)
        self._normalise = bundle.normalise
        self._mean = options.pool == "mean"
        self._net = network(bundle, _checkpoint(options), layers[-1], self._dtype, device)
        blocks = self._net.encoder.transformer.layers
        self._hidden = HiddenStates(blocks, layers, options.reduce, depth=bundle.depth)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray]:
        # Copied when all is under way: a copy waits for the device.
        states = [self._states(audio_of(sample, rate=RATE, least=FIELD)) for sample in batch]
        return [rows(state) for state in states]

    def _states(self, audio: FloatArray) -> Tensor:
        waveform = moved(audio, self._device)
        if self._normalise:
            waveform = functional.layer_norm(waveform, waveform.shape)  # as torchaudio
        self._net(waveform.to(self._dtype)[None])
        state = self._hidden.take()[0]  # (frames, dim)
        return state.mean(0, keepdim=True) if self._mean else state


def network(
    bundle: Bundle, weights: Checkpoint, blocks: int, dtype: torch.dtype, device: str
) -> Wav2Vec2Model:
    """Return the network up to block number `blocks`, with its weights.

    Raises CheckpointError where they are not those of the bundle.
    """
    # At least one: what the first reads is seen there.
    needed = max(1, blocks)
    params = {**bundle.params, "encoder_num_layers": needed, "aux_num_out": None}
    net = built(lambda: _MAKES[bundle.kind](**params))
    later = "|".join(map(str, range(needed, bundle.depth)))
    rules = [
        Rule(r"aux\..*", None),
        *([Rule(rf"encoder\.transformer\.layers\.(?:{later})\..*", None)] if later else []),
        # Files of before torch 2 and after it name the two parts of a weight norm differently.
        Rule(rf"{_NORM}\.weight_g", f"{_NORM}.parametrizations.weight.original0"),
        Rule(rf"{_NORM}\.weight_v", f"{_NORM}.parametrizations.weight.original1"),
    ]
    fill(net, weights, rules, dtype=dtype, device=device)
    if dtype != torch.float32:
        _multiply_out(net.encoder.transformer.pos_conv_embed.conv, weights, dtype)
    return net


def _multiply_out(conv: nn.Module, weights: Checkpoint, dtype: torch.dtype) -> None:
    """Replace the weight norm of the positional convolution by its product, taken in float32."""
    for number, part in enumerate(("weight_g", "weight_v")):
        old = f"{_NORM}.{part}"
        new = f"{_NORM}.parametrizations.weight.original{number}"
        own = conv.get_parameter(f"parametrizations.weight.original{number}")
        own.data = weights[old if old in weights else new].to(own.device, torch.float32)
    remove_parametrizations(conv, "weight")
    conv.to(dtype).requires_grad_(False)


def _checkpoint(options: TorchaudioBundle) -> Checkpoint:
    names = alternatives(FILES[options.bundle])
    path = locate(options.weights, wanted=[names])
    if path.is_file():
        return Checkpoint(path)
    return Checkpoint(next(path / name for name in names if (path / name).is_file()))
