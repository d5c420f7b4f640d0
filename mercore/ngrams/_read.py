"""Reads the ARPA format of n-gram models."""

from __future__ import annotations

import gzip
import math
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from mercore.errors import CheckpointError
from mercore.ngrams._model import END, START, UNKNOWN, UNKNOWN_FLOOR, BackoffModel, State

_NATURAL = math.log(10)
_COUNT = re.compile(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})")
_SECTION = re.compile(rb"\\(\d{1,9})-grams:")


def read_arpa(path: Path) -> BackoffModel:
    r"""Return the model of an ARPA file, plain or gzip.

    ``<UNK>`` is read as ``<unk>``; where neither is, an unknown word has `UNKNOWN_FLOOR`. Raises
    CheckpointError naming the file and the line: no ``\data\``, a section that is missing, cut
    off or has another number of lines than announced, a word that is no 1-gram.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as lines:
            return _Reader(path, iter(lines)).read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot read the language model {path}: {reason}") from error


class _Reader:
    def __init__(self, path: Path, lines: Iterator[bytes]) -> None:
        self._path = path
        self._lines = lines
        self._number = 0
        self._words = {b"<UNK>": UNKNOWN}
        self._probabilities: dict[State, float] = {}
        self._backoffs: dict[State, float] = {}

    def read(self) -> BackoffModel:
        counts, line = self._header()
        for order, count in enumerate(counts, start=1):
            line = self._section(line, order, count, last=order == len(counts))
        if line != b"\\end\\":
            raise self._error(f"{_shown(line)}, expected \\end\\ after the {len(counts)}-grams")
        self._check_marks()
        self._probabilities.setdefault((UNKNOWN,), UNKNOWN_FLOOR * _NATURAL)
        return BackoffModel(len(counts), self._probabilities, self._backoffs)

    def _header(self) -> tuple[list[int], bytes]:
        """Return the announced counts and the line after them."""
        line = self._next("\\data\\; is this an ARPA file?")
        while line != b"\\data\\":
            line = self._next("\\data\\; is this an ARPA file?")
        counts: list[int] = []
        while found := _COUNT.fullmatch(line := self._next("a line like 'ngram 1=200'")):
            if int(found[1]) != len(counts) + 1:
                raise self._error(f"{_shown(line)}, expected 'ngram {len(counts) + 1}=...'")
            counts.append(int(found[2]))
        if not counts:
            raise self._error(f"{_shown(line)}, expected a line like 'ngram 1=200'")
        return counts, line

    def _section(self, line: bytes, order: int, count: int, *, last: bool) -> bytes:
        """Read the n-grams of one order; return the line after them."""
        found = _SECTION.fullmatch(line)
        if not found or int(found[1]) != order:
            raise self._error(f"{_shown(line)}, expected \\{order}-grams:")
        more = f"more {order}-grams"
        for done in range(count):
            line = self._next(more)
            if line.startswith(b"\\"):
                raise self._error(f"{done} {order}-grams, but {count} are announced in \\data\\")
            self._ngram(line.split(), order, last)
        line = self._next("\\end\\" if last else f"\\{order + 1}-grams:")
        if not line.startswith(b"\\"):
            raise self._error(f"more {order}-grams than the {count} announced in \\data\\")
        return line

    def _ngram(self, fields: list[bytes], order: int, last: bool) -> None:
        if not order + 1 <= len(fields) <= order + 2 - last:
            weight = "" if last else " and perhaps a back-off weight"
            raise self._error(f"{len(fields)} fields, expected a number, {order} words{weight}")
        probability = self._float(fields[0])
        if probability > 0:
            raise self._error(f"log10 probability {probability} is above 0")
        words = self._ngram_of(fields[1 : order + 1])
        if words in self._probabilities:
            raise self._error(f"the n-gram {' '.join(words)!r} is there twice")
        self._probabilities[words] = probability * _NATURAL
        if order > 1:
            self._backoffs.setdefault(words[:-1], 0.0)
        if len(fields) == order + 2 and (backoff := self._float(fields[-1])):
            self._backoffs[words] = backoff * _NATURAL

    def _float(self, field: bytes) -> float:
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if not value < math.inf:
            raise self._error(f"{_shown(field)} is not a number")
        return value

    def _ngram_of(self, fields: list[bytes]) -> State:
        if len(fields) == 1:
            return (self._new_word(fields[0]),)
        try:
            return tuple([self._words[field] for field in fields])
        except KeyError as error:
            raise self._error(f"the word {_shown(error.args[0])} is no 1-gram") from None

    def _new_word(self, field: bytes) -> str:
        try:
            word = sys.intern(field.decode())
        except UnicodeDecodeError:
            raise self._error(f"the word {field!r} is not UTF-8") from None
        return self._words.setdefault(field, word)

    def _check_marks(self) -> None:
        for mark in (START, END):
            if (mark,) not in self._probabilities:
                raise CheckpointError(f"{self._path}: no {mark} among the 1-grams")

    def _next(self, expected: str) -> bytes:
        """Return the next line that is not blank, without the spaces around it."""
        for line in self._lines:
            self._number += 1
            if stripped := line.strip():
                return stripped
        raise self._error(f"the file ends, expected {expected}")

    def _error(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self._path}:{self._number}: {found}")


def _shown(field: bytes) -> str:
    return repr(field.decode(errors="replace"))
