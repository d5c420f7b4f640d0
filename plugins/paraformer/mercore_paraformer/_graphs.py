"""Graphs that hold a language model: compiled from ARPA, or read."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mercore.errors import CheckpointError
from mercore.ngrams import read_arpa
from mercore.packages import needed
from mercore_paraformer._language import format_of
from mercore_paraformer.decoding import WORDS

UNKNOWN: Final = "<unk>"
_BACKOFF: Final = "#0"
_OF_TOKENS: Final = "TLG"


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph and what its input labels stand for.

    `labels` maps tokens to labels; `unknown` is the label of all other tokens and `silent` that of
    a position without a token, where the graph has them.
    """

    fst: Any
    labels: Mapping[str, int]
    unknown: int | None = None
    silent: int | None = None


def graph_of(path: Path, tokens: Sequence[str]) -> Graph:
    """Return the graph of an ARPA file, plain or gzip, of ``TLG*.fst``, or of another .fst.

    In a TLG the labels are those of the tokens, from 1 on; the labels of another graph are in the
    words.txt beside it. Raises CheckpointError for a file that cannot be read or knows no token.
    """
    found = format_of(path)
    if found == "kenlm":
        raise CheckpointError(
            f"{path}: decode: wfst cannot read KenLM's binary format; give the ARPA file, or use "
            "decode: beam"
        )
    if found == "arpa":
        return _compiled(path, tokens)
    fst = _read(path)
    if path.name.upper().startswith(_OF_TOKENS):
        return Graph(fst, {token: place for place, token in enumerate(tokens, start=1)})
    return _words_graph(fst, _words_in(path.with_name(WORDS)), tokens, path)


def _compiled(path: Path, tokens: Sequence[str]) -> Graph:
    """Return the graph that kaldilm compiles; the label of a token is its place, from 1 on."""
    model = read_arpa(path)  # which says what is wrong, and what words there are
    labels = {"<eps>": 0} | {token: place for place, token in enumerate(tokens, start=1)}
    for mark in (UNKNOWN, "<s>", "</s>", _BACKOFF):
        labels.setdefault(mark, len(labels))
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = (f"{word} {label}\n" for word, label in labels.items())
        (folder / WORDS).write_text("".join(lines), encoding="utf-8")
        plain = str(_plain(path, folder))
        with _quiet():
            kaldi("kaldilm").arpa2fst(
                plain,
                str(folder / "G.fst"),
                disambig_symbol=_BACKOFF,
                read_symbol_table=str(folder / WORDS),
                max_arpa_warnings=0,
            )
        fst = _read(folder / "G.fst")
    known = {word: label for word, label in labels.items() if word in model or word == _BACKOFF}
    return _words_graph(fst, known, tokens, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what kaldilm logs, which it writes past Python's stderr."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _plain(path: Path, folder: Path) -> Path:
    """Return the ARPA file as kaldilm reads it: not compressed, ``<UNK>`` in lower case."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    plain = folder / "lm.arpa"
    with gzip.open(path) if zipped else path.open("rb") as source, plain.open("wb") as target:
        target.writelines(line.replace(b"<UNK>", b"<unk>") for line in source)
    return plain


def _words_graph(fst: Any, words: Mapping[str, int], tokens: Sequence[str], path: Path) -> Graph:
    labels = {token: words[token] for token in tokens if token in words and token != UNKNOWN}
    unknown = words.get(UNKNOWN)
    if not labels and unknown is None:
        raise CheckpointError(
            f"{path}: none of its words is a token of the recogniser; it wants single Chinese "
            "characters, as `mer lm build` makes them"
        )
    silent = max(words.values()) + 1
    _loosen(fst, words.get(_BACKOFF), silent)
    return Graph(fst, labels, unknown, silent)


def _loosen(fst: Any, backoff: int | None, silent: int) -> None:
    """Let back-off arcs read nothing, and each state a position without a token."""
    kaldifst = kaldi("kaldifst")
    for state in range(fst.num_states):
        arcs = list(kaldifst.ArcIterator(fst, state))
        labels = [arc.ilabel for arc in arcs]
        if backoff in labels:
            first = labels.index(backoff)
            fst.delete_arcs(state, len(arcs) - first)  # the last ones
            for label, arc in zip(labels[first:], arcs[first:], strict=True):
                read = 0 if label == backoff else label
                fst.add_arc(state, kaldifst.StdArc(read, arc.olabel, arc.weight, arc.nextstate))
        fst.add_arc(state, kaldifst.StdArc(silent, 0, 0.0, state))


def _read(path: Path) -> Any:
    fst = kaldi("kaldifst").StdVectorFst.read(str(path))
    if fst is None or not fst.num_states:
        raise CheckpointError(f"{path}: is no OpenFst vector graph; compile or fetch it again")
    return fst


def _words_in(path: Path) -> dict[str, int]:
    """Return the symbols of a words.txt: a word and its label a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}; a compiled graph needs the symbols it was made with"
        ) from error
    found = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdecimal():
            raise CheckpointError(f"{path}:{number}: {line!r}, expected a word and its label")
        found[fields[0]] = int(fields[1])
    return found


def kaldi(package: str) -> Any:
    """Return the module; raises RunError that says how to install it."""
    cure = "run `pip install 'mercore-paraformer[wfst]'`, or use `decode: beam`"
    return needed(package, "`decode: wfst`", cure)
