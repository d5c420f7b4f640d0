"""Reads the sentences of a text and cuts them into the units of a language model."""

from __future__ import annotations

import gzip
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal

from mercore.errors import InputError
from mercore.ngrams._model import END, START, UNKNOWN
from mercore.watch import Silent, Watch

Units = Literal["characters", "words", "tokens"]

_HAN = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHARACTER = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:'[^\W_{_HAN}]+)*")
_BOM = b"\xef\xbb\xbf"
_EVERY = 5000


def cut(line: str, units: Units) -> list[str]:
    """Return the units of a line.

    ``characters``: Chinese characters and kana one by one, runs of other letters and digits whole,
    in lower case and Unicode's NFKC; punctuation is left out, as an ASR writes none.
    ``words`` and ``tokens``: what is between spaces, as it is.
    """
    if units != "characters":
        return line.split()
    return _CHARACTER.findall(unicodedata.normalize("NFKC", line).lower().replace("’", "'"))


def read_sentences(
    source: str,
    units: Units = "characters",
    tokens: Collection[str] = (),
    watch: Watch | None = None,
) -> Iterator[list[str]]:
    """Yield the units of each line that has any; `source` is a text file, plain or gzip, or ``-``.

    Raises InputError naming the file and the line: text that is not UTF-8, ``<s>`` or ``</s>``
    as a unit and, where `units` is ``tokens``, a unit that is not in `tokens`.
    """
    for number, line in _lines(source, watch or Silent()):
        if number == 1 and line.strip() == b"\\data\\":
            raise InputError(f"{source}: is a language model (ARPA), expected text")
        try:
            found = cut(line.decode(), units)
        except UnicodeDecodeError as error:
            raise InputError(f"{source}:{number}: not UTF-8: {error.reason}") from error
        if START in found or END in found:
            raise InputError(f"{source}:{number}: {START} and {END} are marks of the model itself")
        if units == "tokens" and (strange := [unit for unit in found if unit not in tokens]):
            raise InputError(f"{source}:{number}: {strange[0]!r} is not in the list of tokens")
        if found:
            yield found


def read_tokens(path: Path) -> list[str]:
    """Return the tokens of a checkpoint's tokens.json without ``<s>``, ``</s>`` and ``<unk>``.

    Those with a space in them are left out: no unit has one. Raises InputError where it is not a
    JSON list of texts, or none is left.
    """
    try:
        tokens = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the tokens in {path}: {error}") from error
    if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
        known = [token for token in tokens if token.split() == [token]]
        if left := [token for token in known if token not in (START, END, UNKNOWN)]:
            return left
    raise InputError(f"{path}: expected a JSON list of tokens, as Paraformer's tokens.json is")


def _lines(source: str, watch: Watch) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers, which start at 1."""
    try:
        with ExitStack() as stack:
            if source == "-":
                yield from _watched(source, sys.stdin.buffer, sys.stdin.buffer, None)
                return
            raw = stack.enter_context(Path(source).open("rb"))
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            text = stack.enter_context(gzip.open(raw)) if zipped else raw
            yield from _watched(source, raw, text, watch if raw.seekable() else None)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the text {source}: {reason}") from error


def _watched(
    source: str, raw: IO[bytes], text: IO[bytes] | gzip.GzipFile, watch: Watch | None
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines; tell the watch how many kilobytes of the file are read."""
    told = 0
    if watch:
        watch.start(source, -(-Path(source).stat().st_size // 1000))
    for number, line in enumerate(text, start=1):
        yield number, line.removeprefix(_BOM) if number == 1 else line
        if watch and number % _EVERY == 0:
            watch.advance(source, raw.tell() // 1000 - told, 0)
            told = raw.tell() // 1000
    if watch:
        watch.advance(source, -(-raw.tell() // 1000) - told, 0)
