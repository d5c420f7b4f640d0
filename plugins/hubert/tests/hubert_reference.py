"""HuBERT by torchaudio: another implementation than the one that is tested, with its own code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tiny_hubert as tiny
import torch
from torchaudio.models import wav2vec2_model

from mercore.components import Inputs, Noted
from mercore.media import FloatArray, Waveform
from mercore_hubert import Hubert

RATE = 16_000


def sound(samples: int, seed: int = 0) -> FloatArray:
    """Return noise and a tone, off zero."""
    numbers = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 110 * (seed + 1) * np.arange(samples) / RATE)
    made = 0.05 * numbers.standard_normal(samples) + 0.2 * tone + 0.02
    return made.astype(np.float32)


def inputs(*audio: FloatArray) -> list[Inputs]:
    return [{"audio": Waveform(samples, RATE)} for samples in audio]


def encode(checkpoint: object, audio: FloatArray, dtype: str = "float32", **options: Any) -> Any:
    """Return what the plugin gives for one clip."""
    encoder = Hubert(checkpoint=str(checkpoint), **options).load("cpu", dtype)
    return encoder(inputs(audio))[0]


def apart(found: Any, expected: FloatArray) -> float:
    """Return the largest difference."""
    own = found.value if isinstance(found, Noted) else found
    assert own.shape == expected.shape
    assert own.dtype == np.float32
    return float(np.abs(own - expected).max())


def zero_mean(audio: FloatArray) -> torch.Tensor:
    """Return the audio with mean 0 and variance 1, as the published processor makes it."""
    whole = torch.from_numpy(audio).double()
    return ((whole - whole.mean()) / (whole.var(correction=0) + 1e-7).sqrt()).float()


class Reference:
    """The hidden states of torchaudio's network with the weights of a tiny checkpoint."""

    def __init__(self, kind: tiny.Kind, weights: tiny.Tensors, *, heads: int = tiny.HEADS) -> None:
        self._large = kind == "large"
        self._net = wav2vec2_model(
            extractor_mode="layer_norm" if self._large else "group_norm",
            extractor_conv_layer_config=[
                (tiny.CHANNELS, kernel, stride)
                for kernel, stride in zip(tiny.KERNELS, tiny.STRIDES, strict=True)
            ],
            extractor_conv_bias=any(
                name.endswith("conv.bias") and "layers" in name for name in weights
            ),
            encoder_embed_dim=tiny.WIDTH,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=tiny.POSITIONS,
            encoder_pos_conv_groups=tiny.GROUPS,
            encoder_num_layers=tiny.DEPTH,
            encoder_num_heads=heads,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=tiny.FFN,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=self._large,
            encoder_layer_drop=0.0,
            aux_num_out=None,
        )
        named = {_torchaudio_name(name): tensor for name, tensor in weights.items()}
        named.pop("masked_spec_embed")
        self._net.load_state_dict(named)
        self._net.eval()

    @torch.inference_mode()
    def states(self, audio: torch.Tensor) -> list[torch.Tensor]:
        """Return the hidden states 0 to the last, ``(batch, frames, dim)`` each."""
        transformer = self._net.encoder.transformer
        seen: list[torch.Tensor] = []
        hook = transformer.layers[0].register_forward_pre_hook(
            lambda _, given: seen.append(given[0].clone())
        )
        states, _ = self._net.extract_features(audio)
        hook.remove()
        last = transformer.layer_norm(states[-1]) if self._large else states[-1]
        return [*seen, *states[:-1], last]

    def features(
        self, audio: torch.Tensor, layers: Sequence[int] = (-4, -3, -2, -1), reduce: str = "mean"
    ) -> FloatArray:
        """Return the reduced hidden states of one utterance."""
        states = self.states(audio[None])
        chosen = torch.stack([states[layer][0] for layer in layers])
        reduced: FloatArray = (chosen.mean(0) if reduce == "mean" else chosen.sum(0)).numpy()
        return reduced


def _torchaudio_name(name: str) -> str:
    """Return where torchaudio's classes hold the weight of that published name."""
    if name.startswith("feature_projection."):
        return f"encoder.{name}"
    if name.startswith("encoder."):
        name = name.replace("encoder.", "encoder.transformer.", 1)
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )
