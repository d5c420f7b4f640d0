"""Repair: what is damaged is named, and dropped, so that it is made anew or known to be missing.

Samples are dropped as compaction does it: all that is right becomes the next base, which takes the
place of what was there by one pointer. So it is as safe to die in it, and beside readers, writers
and other compactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mercore.errors import StoreError
from mercore.store._base import newest_generation, read_pointer
from mercore.store._compact import clean, publish
from mercore.store._documents import group
from mercore.store._files import Files
from mercore.store._survey import GROUPS, HEADER, Survey, Tell, documents, survey
from mercore.store._view import ATTEMPTS


@dataclass(frozen=True)
class Damage:
    """A file of the store that is not what was written."""

    collection: str
    """``group/name@fingerprint``; ``""`` for the store's own."""
    file: str
    """Its path, or its URL."""
    found: str
    samples: Sequence[str] | None
    """Those that are lost with it; None where it cannot be told which."""


def examine(files: Files, start: Tell, advance: Tell) -> Survey:
    """Return what is right and what is damaged in a collection, at a moment of no compaction."""
    for _ in range(ATTEMPTS):
        generation = newest_generation(files)
        found = survey(files, generation, start, advance)
        if newest_generation(files) == generation:
            return found
    raise StoreError(f"{files.named('')}: compacted again and again while it was read; try again")


def repaired(files: Files, start: Tell, advance: Tell) -> Survey:
    """Return what was found, once what is damaged is dropped.

    Only what is right is left then, but for a header, which is not known here.
    """
    for _ in range(ATTEMPTS):
        found = examine(files, start, advance)
        if not found.inside or _drop(files, found):
            break
    else:
        raise StoreError(f"{files.named('')}: compacted again and again; try again")
    for each in found.beside:
        if each.key != HEADER:
            files.delete(each.key)
        if each.key in GROUPS:
            files.put_new(each.key, [group()])
    if found.inside:
        clean(files, read_pointer(files, newest_generation(files)))
    return found


def _drop(files: Files, found: Survey) -> bool:
    """Return whether all but the damaged samples is now the base; False if another was first."""
    with suppress(FileNotFoundError):  # the other has deleted what was read here
        return publish(files, found.view, found.segments)
    return False


def damage_of(files: Files, found: Survey, collection: str) -> list[Damage]:
    """Return the damaged files as users know them."""
    return [
        Damage(collection, files.named(each.key), each.found, each.lost(found.latest))
        for each in [*found.inside, *found.beside]
    ]


def check_documents(files: Files, known: Mapping[str, bytes], *, dry_run: bool) -> list[Damage]:
    """Return which documents, of which it is known what they hold, are damaged; write them anew."""
    found = list(documents(files, list(known)))
    for each in [] if dry_run else found:
        files.delete(each.key)
        files.put_new(each.key, [known[each.key]])
    return [Damage("", files.named(each.key), each.found, ()) for each in found]
