"""A YAML file whose every mistake can be reported with its line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mercore.errors import RegistryError, listed

Key = tuple[str | int, ...]
"""The way to a place of the file: ``("features", "hubert", "uses")``."""
Mistake = tuple[Key, str]

_LARGEST = 1024**2  # characters; the registry of the paper has 2,000
_DEEPEST = 32  # an option of a component that is an option of a component is 6 deep
_SHOWN = 100  # characters of a key
_HALF = re.compile("[\ud800-\udfff]")  # of a pair of UTF-16; YAML and JSON can say one alone


@dataclass(frozen=True)
class Document:
    """The content of a YAML mapping and where each key stands."""

    path: Path
    text: str
    data: dict[str, Any]
    lines: Mapping[Key, int]
    """Key to line number, from 1."""
    duplicates: tuple[Mistake, ...]
    """Keys that are written twice; YAML itself would let the last win."""

    @classmethod
    def read(cls, path: Path) -> Document:
        """Return the file's content; raises RegistryError when it is not a plain YAML mapping."""
        text = _text(path)
        try:
            _check_events(path, text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            data = _constructed(path, text)
        except yaml.YAMLError as error:
            raise RegistryError(_syntax(path, error)) from error
        if not isinstance(data, dict):
            raise RegistryError(f"{path}: expected a mapping such as 'features: ...'")
        return cls(path, text, data, dict(_walk(root, ())), tuple(_duplicates(root, ())))

    def error(self, mistakes: Iterable[Mistake]) -> RegistryError:
        """Return one error for all mistakes, in the order of the file."""
        placed = sorted((self._line(key), _dotted(key), text) for key, text in mistakes)
        texts = [
            f"{self.path.name}:{line}: {key + ': ' if key else ''}{text}"
            for line, key, text in placed
        ]
        count = f"{len(texts)} mistake" + ("s" if len(texts) > 1 else "")
        return RegistryError(f"{self.path} has {count}:{listed(texts)}")

    def _line(self, key: Key) -> int:
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise RegistryError(f"no registry at {str(path)!r}; name one with --registry") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"cannot read {path}: {error}") from error
    if len(text) > _LARGEST:
        raise RegistryError(f"{path}: more than {_LARGEST} characters; no registry is so large")
    return text


def _check_events(path: Path, text: str) -> None:
    """Refuse what makes much of little, before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{path.name}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent):
            raise RegistryError(f"{where}: YAML aliases (*name) are not used here")
        if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):
            raise RegistryError(f"{where}: half of a character (\\ud83d alone); write it itself")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise RegistryError(f"{where}: nested more than {_DEEPEST} deep; no registry is so")


def _constructed(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (ValueError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML lets others than its own errors pass: a thirteenth month, 5000 digits.
        raise RegistryError(f"{path.name}: a value that YAML cannot read: {error}") from error


def _dotted(key: Key) -> str:
    """Return the key as ``features.hubert.uses``; what is far too long for a name is cut."""
    names = map(str, key)
    return ".".join(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in names)


def _syntax(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    return f"{path.name}{place}: not YAML: {getattr(error, 'problem', None) or error}"


def _walk(node: yaml.Node | None, key: Key) -> Iterator[tuple[Key, int]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, str(name.value))
            yield inner, name.start_mark.line + 1
            yield from _walk(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*key, index), value.start_mark.line + 1
            yield from _walk(value, (*key, index))


def _duplicates(node: yaml.Node | None, key: Key) -> Iterator[Mistake]:
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            text = str(name.value)
            if text in first:
                yield (*key, text), f"written twice, first on line {first[text]}"
            first.setdefault(text, name.start_mark.line + 1)
            yield from _duplicates(value, (*key, text))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _duplicates(value, (*key, index))
