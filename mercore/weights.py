"""Which weights are here: told from files alone, without a network and without loading any."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mercore.checkpoints import repository_of
from mercore.components import Component
from mercore.errors import CheckpointError

NONE, PACKAGED, HERE, MISSING = "none needed", "in the package", "here", "not here"
GIVEN, UNKNOWN = "yours to give", "unknown"
_WORST_FIRST = (UNKNOWN, MISSING, GIVEN, HERE, PACKAGED)

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".npz", ".h5", ".gguf")
_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\..*)")


@dataclass(frozen=True)
class Weights:
    """One checkpoint of a component, and whether it is here."""

    checkpoint: str
    """The hub id or the path; empty where an option without a default names it."""
    state: str
    """``in the package``, ``here``, ``not here``, ``yours to give`` or ``unknown``."""
    cure: str = ""
    """How to get what is not here; what went wrong where that is unknown."""


def weights_of(component: Component) -> list[Weights]:
    """Return the weights of the component, and those of the components that are its options."""
    return list(_weights(component))


def state_of(found: Sequence[Weights]) -> str:
    """Return one state for all: ``none needed``, or that of the weights hardest to come by."""
    states = {weights.state for weights in found}
    return next((state for state in _WORST_FIRST if state in states), NONE)


def _weights(component: Component) -> Iterator[Weights]:
    field = type(component).model_fields.get("checkpoint")
    if field is not None and not hasattr(component, "checkpoint"):
        yield Weights("", GIVEN, "name them by the option checkpoint")
    else:
        yield from _own(component)
    for name in type(component).model_fields:
        option = getattr(component, name, None)
        if isinstance(option, Component):
            yield from _weights(option)


def _own(component: Component) -> list[Weights]:
    try:
        return [_found(checkpoint) for checkpoint in component.checkpoints()]
    except CheckpointError as error:
        return [Weights("", MISSING, str(error))]
    except Exception as error:  # of a plugin: the others are listed all the same
        return [Weights("", UNKNOWN, f"checkpoints() raises {type(error).__name__}: {error}")]


def _found(checkpoint: str | Path) -> Weights:
    if isinstance(checkpoint, Path):
        if checkpoint.exists():
            return Weights(str(checkpoint), PACKAGED)
        return Weights(str(checkpoint), MISSING, "install its package again")
    repository = repository_of(checkpoint)
    if repository is None:
        if Path(os.path.expanduser(checkpoint)).exists():
            return Weights(checkpoint, HERE)
        return Weights(checkpoint, MISSING, "give another path, or a hub id")
    folder = repository.copy()
    if folder is not None and _whole(folder):
        return Weights(checkpoint, HERE)
    return Weights(
        checkpoint,
        MISSING,
        f"where there is a network the first use fetches it; else run `{repository.command()}` "
        f"where there is one, and give `checkpoint: {repository.name.split('/')[1]}`",
    )


def _whole(folder: Path) -> bool:
    """Return whether a folder holds weights, and of weights in shards all that their names count.

    Which other files a model needs, only the code that loads it knows.
    """
    names = [path.name for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.exists()]
    shards: dict[tuple[str, str, str], int] = {}
    for name in names:
        if part := _SHARD.fullmatch(name):
            key = part["stem"], part["suffix"], part["count"]
            shards[key] = shards.get(key, 0) + 1
    return bool(names) and all(found == int(key[2]) for key, found in shards.items())
