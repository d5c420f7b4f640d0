"""Whisper through CTranslate2: encoder frames, and transcripts.

Windows are filled up with silence before the log-mel spectrogram, as in the training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, RunError
from mercore.inputs import audio_of
from mercore.media import FloatArray, Media, Text
from mercore_starter._audio import RATE
from mercore_starter.speech import WHISPER, WhisperASR, WhisperEncoder

WINDOW = 30
"""Seconds of audio that Whisper was trained on."""
HOP = 160
"""Samples between columns of the spectrogram; the encoder makes one frame of two columns."""
BATCH = 120
"""Seconds of windows computed at once: attention takes memory by the square of a window."""
TOKENS = (7, 8)
"""No one speaks more tokens than 7 a second and 8 beside."""
UNSURE = -1.0
"""Mean log probability below which Whisper doubts a text (Radford et al. 2022, section 4.5)."""
SILENT = 0.6
"""Probability of no speech above which Whisper takes a doubtful text for none (ibid.)."""


class FrameEncoder:
    """The function ``WhisperEncoder.load`` returns."""

    def __init__(self, options: WhisperEncoder, device: str, dtype: str) -> None:
        self._whisper = open_whisper(options.checkpoint, device, dtype, options.quantize)
        self._padding = options.padding

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[FloatArray]:
        return [self._frames(audio_of(sample, rate=RATE)) for sample in batch]

    def _frames(self, samples: FloatArray) -> FloatArray:
        """Return ``(frames, dim)``, piece by piece.

        One window at a time: on a CPU a batch is no faster, and the numbers would depend on it.
        """
        step = WINDOW * RATE
        parts = [samples[start : start + step] for start in range(0, len(samples), step)]
        return np.concatenate([self._encode(part) for part in parts])

    def _encode(self, piece: FloatArray) -> FloatArray:
        mel = log_mel(self._whisper, piece, window_of(piece, self._padding))
        encoded = self._whisper.model.encode(_stored(mel[np.newaxis]), to_cpu=True)
        frames = _array(encoded)[0]  # (window * 50, dim)
        covered: FloatArray = frames[: ceil(len(piece) / (2 * HOP))]
        return covered


@dataclass(frozen=True)
class Said:
    """What is said in one piece of audio."""

    tokens: tuple[int, ...] = ()
    score: float = 0.0
    """Mean log probability of the tokens."""
    no_speech: float = 1.0

    @property
    def nothing(self) -> bool:
        """Whether Whisper's rule says that nothing is said."""
        return not self.tokens or (self.no_speech > SILENT and self.score < UNSURE)


class Transcriber:
    """The function ``WhisperASR.load`` returns."""

    def __init__(self, options: WhisperASR, device: str, dtype: str) -> None:
        self._whisper = open_whisper(options.checkpoint, device, dtype, options.quantize)
        self._options = options
        self._prompt = self._prompt_in(options.language)

    def __call__(self, batch: Sequence[Inputs]) -> Sequence[Noted[Media]]:
        clips = [list(pieces(audio_of(sample, rate=RATE, least=0))) for sample in batch]
        said = iter(self._listen([piece for clip in clips for piece in clip]))
        return [self._noted([next(said) for _ in clip]) for clip in clips]

    def _noted(self, said: Sequence[Said]) -> Noted[Media]:
        heard = [piece for piece in said if not piece.nothing]
        text = " ".join(self._whisper.hf_tokenizer.decode(piece.tokens).strip() for piece in heard)
        length = sum(len(piece.tokens) for piece in heard)
        total = sum(piece.score * len(piece.tokens) for piece in heard)
        record = {
            "confidence": round(exp(total / length), 4) if length else 0.0,
            "no_speech": round(min((piece.no_speech for piece in said), default=1.0), 4),
        }
        return Noted(Text(text), record)

    def _listen(self, audio: Sequence[FloatArray]) -> list[Said]:
        """Return what is said in each piece; while that is in doubt, in a window twice as long."""
        windows = [window_of(piece, self._options.padding) for piece in audio]
        said = self._decode(audio, windows)
        while doubtful := [
            index
            for index, piece in enumerate(audio)
            if windows[index] < WINDOW and is_doubtful(said[index], len(piece) / RATE)
        ]:
            for index in doubtful:
                windows[index] = min(WINDOW, 2 * windows[index])
            again = self._decode([audio[i] for i in doubtful], [windows[i] for i in doubtful])
            for index, heard in zip(doubtful, again, strict=True):
                said[index] = heard
        return said

    def _decode(self, audio: Sequence[FloatArray], windows: Sequence[int]) -> list[Said]:
        said = [Said()] * len(audio)
        for window, indices in grouped(windows):
            mel = np.stack([log_mel(self._whisper, audio[index], window) for index in indices])
            longest = max(len(audio[index]) for index in indices) / RATE
            for index, result in zip(indices, self._generate(mel, longest), strict=True):
                said[index] = Said(
                    tuple(result.sequences_ids[0]), result.scores[0], result.no_speech_prob
                )
        return said

    def _generate(self, mel: FloatArray, seconds: float) -> list[Any]:
        results: list[Any] = self._whisper.model.generate(
            _stored(mel),
            [self._prompt] * len(mel),
            beam_size=self._options.beam,
            # One token more than the longest clip of the batch can hold. A shorter clip that gets
            # this far has more tokens than it can hold too, and is doubtful in any batch.
            max_length=len(self._prompt) + budget(seconds) + 1,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return results

    def _prompt_in(self, language: str) -> list[str]:
        if language not in self._whisper.supported_languages:
            raise CheckpointError(
                f"whisper_asr: checkpoint {self._options.checkpoint!r} does not know the language "
                f"{language!r}; expected one of {', '.join(self._whisper.supported_languages)}, or "
                "a checkpoint such as 'Systran/faster-whisper-small'"
            )
        task = [f"<|{language}|>", "<|transcribe|>"] if self._whisper.model.is_multilingual else []
        return ["<|startoftranscript|>", *task, "<|notimestamps|>"]


def open_whisper(checkpoint: str, device: str, dtype: str, quantize: bool) -> WhisperModel:
    """Return the model; ``CheckpointError`` if a file is missing, ``RunError`` for the device."""
    folder = WHISPER.path_of(
        checkpoint,
        wanted=("config.json", "model.bin", "tokenizer.json", "vocabulary.*"),
        useful=("preprocessor_config.json",),
    )
    kind, _, index = device.partition(":")
    wanted = f"int8_{dtype}" if quantize else dtype
    if kind == "cuda" and int(index or 0) >= (count := ctranslate2.get_cuda_device_count()):
        raise RunError(
            f"device {device!r}: CTranslate2 finds {count or 'no'} CUDA device; use the device "
            "'cpu' for Whisper"
        )
    supported = ctranslate2.get_supported_compute_types(kind) if kind in ("cpu", "cuda") else set()
    if wanted not in supported:
        raise RunError(
            f"Whisper cannot compute in {wanted!r} on {device!r}; CTranslate2 runs on 'cpu' and "
            f"'cuda', and there supports {sorted(supported)!r}: choose another device or dtype"
        )
    return WhisperModel(
        str(folder), kind, device_index=int(index or 0), compute_type=wanted, local_files_only=True
    )


def window_of(piece: FloatArray, padding: float) -> int:
    """Return the window of a piece in whole seconds: what it needs, and never more than 30."""
    return min(WINDOW, ceil(len(piece) / RATE + padding))


def log_mel(whisper: WhisperModel, piece: FloatArray, window: int) -> FloatArray:
    """Return the log-mel spectrogram ``(mels, window * 100)`` of a piece followed by silence."""
    padded = np.pad(piece, (0, window * RATE - len(piece)))
    mel: FloatArray = whisper.feature_extractor(padded, padding=0).astype(np.float32)
    return mel


def pieces(samples: FloatArray) -> Iterator[FloatArray]:
    """Yield the audio in pieces of at most 26 s, cut at the quietest 0.1 s of the last five."""
    longest, shortest, quiet = 26 * RATE, 21 * RATE, RATE // 10
    while len(samples) > longest:
        energy = np.square(samples[shortest:longest]).reshape(-1, quiet).sum(axis=1)
        cut = shortest + int(energy.argmin()) * quiet + quiet // 2
        yield samples[:cut]
        samples = samples[cut:]
    if len(samples):
        yield samples


def budget(seconds: float) -> int:
    """Return how many tokens may be said in `seconds`."""
    rate, beside = TOKENS
    return ceil(rate * seconds) + beside


def is_doubtful(said: Said, seconds: float) -> bool:
    """Return whether a text may be wrong because its window was short."""
    if said.nothing:
        return False
    threes = list(zip(said.tokens, said.tokens[1:], said.tokens[2:], strict=False))
    return len(said.tokens) > budget(seconds) or len(set(threes)) < len(threes)


def grouped(windows: Sequence[int]) -> Iterable[tuple[int, list[int]]]:
    """Yield each window with the indices that have it, as many as are computed at once."""
    by_window: dict[int, list[int]] = defaultdict(list)
    for index, window in enumerate(windows):
        by_window[window].append(index)
    for window, indices in by_window.items():
        size = BATCH // window
        starts = [*range(0, len(indices), size), len(indices)]
        yield from ((window, indices[start:end]) for start, end in pairwise(starts))


def _stored(mel: FloatArray) -> ctranslate2.StorageView:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))


def _array(view: ctranslate2.StorageView) -> FloatArray:
    if view.dtype != ctranslate2.DataType.float32:
        view = view.to(ctranslate2.DataType.float32)
    return np.array(view)
