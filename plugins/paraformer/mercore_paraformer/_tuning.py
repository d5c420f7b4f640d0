"""Paraformer in training: how transcripts are spelt, and what is saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mercore.denoising import units
from mercore.errors import RegistryError
from mercore.tuning import Note, Recogniser, UnfitError, Utterance
from mercore_paraformer._features import RATE
from mercore_paraformer._funasr import undisturbed
from mercore_paraformer._published import CONFIGURATION, SEGMENTS, published, tokens_in
from mercore_paraformer.asr import Paraformer
from mercore_paraformer.tuning import ParaformerTuning


class ParaformerRecogniser(Recogniser):
    """A Paraformer that FunASR trains."""

    def __init__(self, component: Paraformer, tuning: ParaformerTuning) -> None:
        if component.backend != "torch":
            raise RegistryError("paraformer: backend: onnx cannot be trained; use backend: torch")
        self._tuning = tuning
        self._found = published(component.checkpoint, "model.pt")
        if self._found.kind != "Paraformer":
            raise RegistryError(
                f"paraformer: {self._found.config} is of a {self._found.kind}, which cannot be "
                "trained; give a Paraformer, such as the default checkpoint"
            )

    @cached_property
    def _tokenizer(self) -> Any:
        with undisturbed():
            from funasr.tokenizer.char_tokenizer import CharTokenizer

        files, told = self._found.files, self._found.told.get("tokenizer_conf") or {}
        segments = {"seg_dict": str(files[SEGMENTS])} if SEGMENTS in files else {}
        return CharTokenizer(**{**told, "token_list": str(tokens_in(files)), **segments})

    def spelt(self, text: str, seconds: float) -> str:
        """Return characters and words with spaces between, as FunASR cuts them."""
        words = units(text, "words")
        if not words:
            raise UnfitError("without words")
        if unknown := [part for word in words for part in self._unknown(word)]:
            raise UnfitError("with characters that the vocabulary lacks", unknown)
        spelt = " ".join(words)
        positions = len(self._tokenizer.encode(spelt)) + 1  # the end is one
        if positions > self._found.features.count(int(seconds * RATE)):
            raise UnfitError("too short for what is said")
        return spelt

    def _unknown(self, word: str) -> list[str]:
        lacks = self._tokenizer.unk_id
        if lacks not in self._tokenizer.encode(word):
            return []
        return [part for part in word if lacks in self._tokenizer.encode(part)] or [word]

    def fit(
        self,
        train: Sequence[Utterance],
        valid: Sequence[Utterance],
        folder: Path,
        *,
        device: str,
        seed: int,
        note: Note,
    ) -> Callable[[Path], None]:
        """Train the network; return what writes the checkpoint of the best epoch."""
        with undisturbed():
            from mercore_paraformer._training import trained  # takes seconds to import

        folder.mkdir(parents=True, exist_ok=True)
        lists = folder / "train.jsonl", folder / "valid.jsonl"
        for file, utterances in zip(lists, (train, valid), strict=True):
            file.write_text("".join(map(_line, utterances)), encoding="utf-8")
        weights = trained(self._found, self._tuning, lists, folder, device, seed, note)
        return lambda new: self._save(new, weights)

    def _save(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        """Write the checkpoint again, with these weights."""
        beside = {*self._found.files.values(), self._found.folder / CONFIGURATION}
        for file in (each for each in beside if each.is_file()):
            new = folder / file.relative_to(self._found.folder)
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, new)
        torch.save(weights, folder / self._found.network.relative_to(self._found.folder))


def _line(utterance: Utterance) -> str:
    """Return a line of the list that FunASR reads; it counts audio in frames of 10 ms."""
    content = {
        "key": utterance.id,
        "source": utterance.audio,
        "source_len": max(1, int(utterance.seconds * 100)),
        "target": utterance.text,
        "target_len": len(utterance.text.split()),
        # Else it takes the spaces out where "aishell" is part of the path.
        "text_language": "en",
    }
    return json.dumps(content, ensure_ascii=False) + "\n"
