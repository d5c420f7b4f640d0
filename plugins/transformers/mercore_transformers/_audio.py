"""Audio encoders of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoFeatureExtractor

from mercore.components import Inputs
from mercore.errors import CheckpointError, RegistryError
from mercore.inputs import audio_of
from mercore.media import FloatArray
from mercore.nn import dtype_of, moved, rows
from mercore_transformers._loading import loaded
from mercore_transformers._runs import budget_of, runs
from mercore_transformers._sources import found, said
from mercore_transformers._states import reduced
from mercore_transformers.audio import TransformersAudio

PREPARED: Final = (("preprocessor_config.json", "processor_config.json"),)

MASKED: Final = frozenset({"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"})
"""Families whose masks make padding exact, where the convolutions have layer norms. Not data2vec,
SEW or the conformers, whose convolutions behind the first blocks see the padding."""

Prepared = Mapping[str, NDArray[Any]]
"""What the feature extractor makes of one piece: arrays with a first dimension of 1."""


class AudioEncoder:
    """The function ``TransformersAudio.load`` returns."""

    def __init__(self, options: TransformersAudio, device: str, dtype: str) -> None:
        source = found(options.checkpoint, "audio", wanted=PREPARED)
        self._options, self._device, self._dtype = options, device, dtype_of(dtype)
        auto: Any = AutoFeatureExtractor
        try:
            self._extractor = auto.from_pretrained(
                source.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library's and each extractor's own
            raise CheckpointError(
                f"{source.folder}: has no feature extractor that can be used: {said(error)}"
            ) from error
        self._check_rate(source.folder.name)
        self._config = source.config
        self._model = loaded(source, device, dtype)
        self._pads = _pads(self._config)
        self.budget = budget_of(device, cpu=0, cuda=1_920_000)
        """The most numbers that one run reads, with padding: two minutes of samples. A CPU gains
        nothing by batches."""

    def _check_rate(self, checkpoint: str) -> None:
        rate = getattr(self._extractor, "sampling_rate", None)
        if rate != self._options.rate:
            raise RegistryError(
                f"{self._options.name}: option 'rate' is {self._options.rate}, but {checkpoint!r} "
                f"reads audio of {rate} Hz; write `rate: {rate}`"
            )

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Inputs]) -> list[FloatArray]:
        cut = [self._pieces(audio_of(sample, least=self._least)) for sample in batch]
        encoded = iter(self._encode([piece for pieces in cut for piece in pieces]))
        matrices = [np.concatenate([next(encoded) for _ in pieces]) for pieces in cut]
        if self._options.pool == "mean":
            return [matrix.mean(0, keepdims=True) for matrix in matrices]
        return matrices

    @property
    def _least(self) -> int:
        """The fewest samples that give a frame: those that the convolutions see, or 25 ms."""
        field, strides = 1, [*getattr(self._config, "conv_stride", ())]
        for kernel in reversed(getattr(self._config, "conv_kernel", ()) if strides else ()):
            field = (field - 1) * strides.pop() + kernel
        return max(field, self._options.rate // 40)

    @property
    def _most(self) -> int | None:
        """The most samples that the feature extractor does not cut; None: as many as there are."""
        extractor, rate = self._extractor, self._options.rate
        whole = getattr(extractor, "n_samples", None) or getattr(extractor, "nb_max_samples", None)
        if whole is None and hasattr(extractor, "num_mel_bins"):  # AST: frames of 10 ms
            frames = getattr(extractor, "max_length", None)
            whole = frames and frames * rate // 100
        asked = self._options.chunk and round(self._options.chunk * rate)
        return min((most for most in (whole, asked) if most), default=None)

    def _pieces(self, audio: FloatArray) -> list[FloatArray]:
        most = self._most or len(audio)
        return np.array_split(audio, -(-len(audio) // most))

    def _encode(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        prepared = [self._prepared(piece) for piece in pieces]
        sizes = [next(iter(each.values())).size for each in prepared]
        states: dict[int, Tensor] = {}
        for places in runs(sizes, self.budget, alike=not self._pads):
            output = self._run([prepared[place] for place in places])
            for row, place in enumerate(places):
                kept = self._frames(len(pieces[place]), prepared[place], output.shape[1])
                states[place] = output[row, :kept]
        # Copied when all is under way: a copy waits for the device.
        return [rows(states[place]) for place in range(len(pieces))]

    def _prepared(self, piece: FloatArray) -> Prepared:
        made = self._extractor(piece, sampling_rate=self._options.rate, return_tensors="np")
        return dict(made.items())

    def _run(self, pieces: Sequence[Prepared]) -> Tensor:
        """Return what the network makes of pieces in one pass, ``(pieces, rows, dim)``."""
        joined = _padded(pieces) if self._pads else _stacked(pieces)
        given = {name: self._moved(array) for name, array in joined.items()}
        if self._options.pool != "pooler":
            return reduced(self._model(**given, output_hidden_states=True), self._options)
        pooled = getattr(self._model(**given), "pooler_output", None)
        if pooled is None:
            raise RegistryError(
                f"{self._options.name}: option 'pool' is 'pooler', but {self._config.model_type!r} "
                "has none; use mean or frames"
            )
        own: Tensor = pooled
        return own.float()[:, None]

    def _moved(self, array: NDArray[Any]) -> Tensor:
        tensor = moved(array, self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _frames(self, samples: int, prepared: Prepared, given: int) -> int:
        """Return how many of the rows `given` are of the piece, not of what fills it up."""
        if self._options.pool == "pooler":
            return 1
        lengths = getattr(self._model, "_get_feat_extract_output_lengths", None)
        if self._pads:
            return int(lengths(samples))  # type: ignore[misc]
        if hasattr(self._extractor, "n_samples") and lengths is not None:  # Whisper and its kin
            return int(lengths(torch.tensor(-(-samples // self._extractor.hop_length))))
        mask = prepared.get("attention_mask")
        return int(mask.sum()) if mask is not None and mask.shape[1] == given else given


def _pads(config: Any) -> bool:
    """Return whether padding changes nothing; an adapter behind the blocks shortens the rows."""
    layer_norms = getattr(config, "feat_extract_norm", None) == "layer"
    return config.model_type in MASKED and layer_norms and not getattr(config, "add_adapter", False)


def _stacked(pieces: Sequence[Prepared]) -> Prepared:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _padded(pieces: Sequence[Prepared]) -> Prepared:
    """Return the audio of all pieces, padded with zeros, and a mask where there is padding."""
    audio = [piece["input_values"][0] for piece in pieces]
    lengths = np.array([len(each) for each in audio])
    whole = np.zeros((len(audio), lengths.max()), np.float32)
    for row, each in zip(whole, audio, strict=True):
        row[: len(each)] = each
    if lengths.min() == lengths.max():
        return {"input_values": whole}
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    return {"input_values": whole, "attention_mask": mask}
