"""The JSON files beside published weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mercore.errors import CheckpointError

Parsed = TypeVar("Parsed", bound=BaseModel)


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises CheckpointError where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}; fetch it") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is no JSON: {error}; fetch the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file}: holds a {type(content).__name__}, expected an object; fetch the file again"
        )
    return content


def parsed(kind: type[Parsed], file: Path, content: object, expected: str = "") -> Parsed:
    """Return the `content` of a file as a model of `kind`; `expected` says what it should be of.

    Raises CheckpointError that names all keys that are missing or wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(map(_said, error.errors()))
        hint = f"expected that of {expected}" if expected else "fetch the file again"
        raise CheckpointError(f"{file}: cannot be used: {wrong}; {hint}") from error


def _said(mistake: ErrorDetails) -> str:
    told = f"{'.'.join(map(str, mistake['loc'])) or 'the whole'}: {mistake['msg']}"
    # Where a key is missing, or keys do not go together, what was found is all of the file.
    whole = mistake["type"] == "missing" or not mistake["loc"]
    return told if whole else f"{told}, found {mistake['input']!r}"
