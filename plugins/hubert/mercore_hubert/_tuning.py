"""Fine-tuning HuBERT on labels: a head on the mean of its frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mercore.components import Inputs
from mercore.errors import CheckpointError
from mercore.inputs import audio_of
from mercore.nn import chosen, freed, merged, rated, recomputing, save_adapter, zscore
from mercore.tuning import Example, Group, Trainee
from mercore_hubert import Hubert, HubertTuning
from mercore_hubert._audio import Convolutions
from mercore_hubert._layouts import published_name
from mercore_hubert._network import Network, empty, filled
from mercore_hubert._published import RATE, Published, published

SPAN: Final = 10  # frames that are masked together
_NETWORK: Final = "network.model."  # the names of the published part of the module


class HubertTrainee(Trainee):
    """A HuBERT with a head on the mean of its frames."""

    module: Classifier

    def __init__(
        self, encoder: Hubert, tuning: HubertTuning, classes: int, *, weights: bool
    ) -> None:
        found = published(encoder.checkpoint)  # not kept: it holds the file
        self._checkpoint, self._tuning = encoder.checkpoint, tuning
        self._normalise = found.normalise
        self._convolutions = Convolutions(found.config.conv_kernel, found.config.conv_stride)
        network = _network(found, encoder, tuning, weights)
        mask = _mask(found) if tuning.mask else None
        self.module = Classifier(network, classes, mask)

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return audio ``(samples,)``, in training a part of it; and which frames are masked."""
        audio = audio_of(inputs, rate=RATE, least=self._convolutions.field)
        audio = zscore(audio) if self._normalise else audio  # as a whole, as features are made
        if not training:
            return {"audio": audio}
        length = round(self._tuning.seconds * RATE) if self._tuning.seconds else len(audio)
        start = random.integers(max(1, len(audio) - length + 1))
        audio = audio[start : start + length]
        if not self._tuning.mask:
            return {"audio": audio}
        frames = self._convolutions.frames(len(audio))
        return {"audio": audio, "masked": spans(frames, self._tuning.mask, random)}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return audio padded with zeros, ``(batch, samples)``, and how long each clip is."""
        lengths = [len(example["audio"]) for example in examples]
        frames = [self._convolutions.frames(length) for length in lengths]
        padded = {
            name: pad_sequence([torch.from_numpy(e[name]) for e in examples], batch_first=True)
            for name in examples[0]
        }
        return {"lengths": torch.tensor(lengths), "frames": torch.tensor(frames), **padded}

    def groups(self) -> list[Group]:
        """Return the head's parameters and what LoRA adds at the whole rate, the others at less."""
        return rated(self.module, self._tuning)

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the layout of transformers: the trained weights, and those behind them.

        LoRA is part of the weights; as an adapter of the checkpoint it lies beside them too.
        """
        found = published(self._checkpoint)
        depth = found.config.num_hidden_layers
        whole = filled(found, depth, device="cpu", dtype=torch.float32).state_dict()
        for name, tensor in merged(tensors, self._tuning).items():
            if name.startswith(_NETWORK):
                whole[name.removeprefix(_NETWORK)] = tensor
        mask = tensors.get("mask", found.mask)
        if mask is not None:
            whole["masked_spec_embed"] = mask
        named = {published_name(name): t.contiguous().cpu() for name, t in whole.items()}
        save_file(named, folder / "model.safetensors", {"format": "pt"})
        for name, content in found.described().items():
            (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
        save_adapter(folder, tensors, self._tuning, inside=_NETWORK, checkpoint=self._checkpoint)


class Classifier(nn.Module):
    """From audio ``(batch, samples)`` to ``{"logits": (batch, classes)}``."""

    def __init__(self, network: Network, classes: int, mask: Tensor | None) -> None:
        super().__init__()
        self.network = network
        self.mask = None if mask is None else nn.Parameter(mask)
        self.head = nn.Linear(network.model.config.hidden_size, classes)

    def forward(
        self, audio: Tensor, lengths: Tensor, frames: Tensor, masked: Tensor | None = None
    ) -> dict[str, Tensor]:
        model = self.network.model
        hidden = model.feature_projection(self._features(audio, lengths))  # (batch, frames, dim)
        if masked is not None and self.mask is not None:
            hidden = torch.where(masked[..., None], self.mask.to(hidden.dtype), hidden)
        there = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]
        model.encoder(hidden, attention_mask=there)
        states = self.network.hidden.take() * there[..., None]
        return {"logits": self.head(states.sum(1) / frames[:, None])}

    def _features(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(batch, frames, channels)``; what is no padding is as if it were alone."""
        config, extractor = self.network.model.config, self.network.model.feature_extractor
        if config.feat_extract_norm == "layer":
            features = extractor(audio)
        else:
            layers: Any = extractor.conv_layers
            counts = (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
            features = layers[0].conv(audio[:, None])
            features = layers[0].activation(_normed(features, layers[0].layer_norm, counts))
            for layer in layers[1:]:
                features = layer(features)
        turned: Tensor = features.transpose(1, 2)
        return turned


def _normed(x: Tensor, norm: nn.GroupNorm, counts: Tensor) -> Tensor:
    """Return ``(batch, channels, length)`` normed over time, of which `counts` are no padding."""
    there = torch.arange(x.shape[2], device=x.device) < counts[:, None]  # (batch, length)
    share = (there / counts[:, None])[:, None]
    exact = x.float()
    centred = exact - (exact * share).sum(2, keepdim=True)
    variance = (centred**2 * share).sum(2, keepdim=True)
    scaled = centred * torch.rsqrt(variance + norm.eps) * norm.weight[:, None]
    return (scaled + norm.bias[:, None]).to(x.dtype)


def _network(found: Published, encoder: Hubert, tuning: HubertTuning, weights: bool) -> Network:
    """Return the blocks that the features need, those open to training that the options say."""
    depth = found.config.num_hidden_layers
    layers = chosen(encoder.layers, depth, "hubert")
    blocks = max(1, *layers)
    if weights:
        model = filled(found, blocks, device="cpu", dtype=torch.float32, dropout=tuning.dropout)
    else:
        model = empty(found, blocks, tuning.dropout)
    if tuning.recompute:
        recomputing(model)
    # The norm behind the last block of networks that norm before each; else it is in front.
    final = model.encoder.layer_norm if found.config.do_stable_layer_norm else None
    attention = ("q_proj", "v_proj")
    freed(model, tuning, model.encoder.layers, attention=attention, behind=final)
    if final is not None and depth not in layers:
        final.requires_grad_(False)  # nothing reads it
    if not tuning.convolutions:
        model.feature_extractor._freeze_parameters()  # type: ignore[no-untyped-call]
    return Network(model, layers, encoder.reduce, depth)


def _mask(found: Published) -> Tensor:
    if found.mask is None:
        raise CheckpointError(
            f"{found.weights.path}: has no embedding of masked frames, which `mask` needs; give "
            "`mask: 0`, or the checkpoint as it was published"
        )
    return found.mask


def spans(frames: int, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Return which frames are masked, ``(frames,)``: about `share` of them, less what overlaps."""
    masked = np.zeros(frames, bool)
    count = int(share * frames / SPAN + random.random())
    for start in random.integers(max(1, frames - SPAN + 1), size=count):
        masked[start : start + SPAN] = True
    return masked
