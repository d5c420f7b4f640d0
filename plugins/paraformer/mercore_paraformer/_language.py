"""The language models that sentences are rescored with."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from mercore.errors import CheckpointError
from mercore.ngrams import read_arpa
from mercore.packages import needed

Format = Literal["arpa", "kenlm", "fst"]

_KENLM: Final = b"mmap lm http://kheafield.com/code"
_FST: Final = b"\xd6\xfd\xb2\x7e"
_NATURAL: Final = math.log(10)
_COMPILED: Final = (
    "run `pip install kenlm` (it is compiled, for minutes), or give the ARPA file it was made from"
)


class LanguageModel(Protocol):
    """Scores one word after another by natural log-probabilities."""

    def __contains__(self, word: object, /) -> bool:
        """Return whether the model knows the word."""

    def start(self) -> Any:
        """Return the state at the begin of a sentence: hashable, equal where all that follows is.

        Equal states score the same words alike.
        """

    def score(self, state: Any, word: str, /) -> tuple[float, Any]:
        """Return the log-probability of the word after `state`, and the next state."""

    def end(self, state: Any, /) -> float:
        """Return the log-probability that the sentence ends after `state`."""


def language_model(path: Path) -> LanguageModel:
    """Return the model of an ARPA file, plain or gzip, or of KenLM's binary format.

    Raises CheckpointError for a file that is neither, and RunError where it needs kenlm.
    """
    found = format_of(path)
    if found == "fst":
        raise CheckpointError(f"{path}: is a compiled graph; use decode: wfst, or an ARPA file")
    return KenLM(path) if found == "kenlm" else read_arpa(path)


def format_of(path: Path) -> Format:
    """Return the format that the file begins like; raises CheckpointError if it is not there."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_KENLM))
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot read the language model {path}: {reason}") from error
    if begin == _KENLM:
        return "kenlm"
    return "fst" if begin.startswith(_FST) else "arpa"


class NoLanguage:
    """Scores all words alike: what there is without a language model."""

    def __contains__(self, word: object) -> bool:
        """Return False."""
        return False

    def start(self) -> None:
        """Return the only state."""

    def score(self, state: None, word: str) -> tuple[float, None]:
        """Return 0 and the only state."""
        return 0.0, None

    def end(self, state: None) -> float:
        """Return 0."""
        return 0.0


class KenLM:
    """A model in KenLM's binary format, as its ``build_binary`` writes it."""

    def __init__(self, path: Path) -> None:
        self._kenlm = needed("kenlm", f"{path}: KenLM's binary format", _COMPILED)
        try:
            self._model = self._kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"cannot read the language model {path}: {reason}") from error

    def __contains__(self, word: object) -> bool:
        """Return whether the model knows the word."""
        return word in self._model

    def start(self) -> Hashable:
        """Return the state after ``<s>``."""
        state: Hashable = self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        """Return the log-probability of the word after `state`, and the next state."""
        following: Hashable = self._kenlm.State()
        return self._model.BaseScore(state, word, following) * _NATURAL, following

    def end(self, state: Hashable) -> float:
        """Return the log-probability of ``</s>`` after `state`."""
        return self.score(state, "</s>")[0]
