"""Damages files the way disks, networks and people do, and settings of hypothesis for it.

Everything follows from a seed, so that a failure can be had again.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from hypothesis import HealthCheck, settings

from mercore.errors import MercoreError

MANY = os.environ.get("MERCORE_FUZZ") == "many"
"""Whether to look for long: ``MERCORE_FUZZ=many pytest tests/test_fuzz_*.py``."""

FUZZ = settings(
    max_examples=2000 if MANY else 60,
    deadline=None,
    derandomize=not MANY,  # what decides whether a change lands is the same each time
    suppress_health_check=list(HealthCheck),
    database=None,
)

ORDERS: tuple[Literal["big"], Literal["little"]] = ("big", "little")
NUMBERS = (0, 1, -1, 2, 255, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64)
ODD: tuple[Any, ...] = (
    None, True, False, *NUMBERS, 10**400, 0.5, -0.0, float("nan"), float("inf"), 1e308,
    "", " ", "a", "\0", "../../x", "/etc/hostname", "é" * 200, "\ud800", "x" * 5000, "1" * 5000,
    [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}},
)  # fmt: skip


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Return the data with one to eight bits the other way round."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Return the beginning of the data."""
    return data[: chance.randrange(len(data))]


def beheaded(data: bytes, chance: random.Random) -> bytes:
    """Return the end of the data."""
    return data[chance.randrange(len(data)) :]


def zeroed(data: bytes, chance: random.Random) -> bytes:
    """Return the data with a run of zeros, as a disk leaves it that lost a block."""
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice((1, 16, 512, 4096)))
    return data[:start] + bytes(stop - start) + data[stop:]


def swapped(data: bytes, chance: random.Random) -> bytes:
    """Return the data with two pieces in each other's place."""
    a, b, c, d = sorted(chance.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def dropped(data: bytes, chance: random.Random) -> bytes:
    """Return the data without a piece of it."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice((1, 2, 100, 4096)) :]


def repeated(data: bytes, chance: random.Random) -> bytes:
    """Return the data with another piece of itself at its end, or in its middle."""
    start, at = chance.randrange(len(data)), chance.choice((len(data), chance.randrange(len(data))))
    return data[:at] + data[start:] + data[at:]


def edited(data: bytes, chance: random.Random) -> bytes:
    """Return the data with another number in a field of its first KiB, where headers are."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randrange(max(1, min(len(data), 1024) - size))
    number = chance.choice((*NUMBERS, chance.getrandbits(64))) % 2 ** (8 * size)
    field: bytes = number.to_bytes(size, chance.choice(ORDERS))
    return data[:at] + field + data[at + size :]


def noisy(data: bytes, chance: random.Random) -> bytes:
    """Return the data with a run of random bytes."""
    start = chance.randrange(len(data))
    noise = chance.randbytes(min(len(data) - start, chance.choice((1, 4, 64, 1024))))
    return data[:start] + noise + data[start + len(noise) :]


Damage = Callable[[bytes, random.Random], bytes]
DAMAGES: tuple[Damage, ...] = (
    flipped, cut, beheaded, zeroed, swapped, dropped, repeated, edited, noisy
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return the data damaged in one way, or in two."""
    for _ in range(chance.choice((1, 1, 1, 2))):
        data = chance.choice(DAMAGES)(data or b"\0", chance)
    return data


@contextmanager
def told(kind: type[MercoreError], about: str = "") -> Iterator[None]:
    """Let an error of this kind pass if it names what it is about, in a text that can be shown."""
    try:
        yield
    except kind as error:
        text = str(error)
        if about not in text or len(text.encode()) > 10_000:
            raise AssertionError(f"{about!r} is not named, or at length: {text[:500]!r}") from error


def twisted(value: Any, chance: random.Random, times: int | None = None) -> Any:
    """Return a copy of plain values, some (one to three) of them changed, moved or taken away."""
    found = copy.deepcopy(value)
    for _ in range(times or chance.choice((1, 1, 2, 3))):
        places = list(_places(found))
        if not places:
            return chance.choice(ODD)
        holder, key = chance.choice(places)
        _twist(holder, key, chance)
    return found


def _twist(holder: Any, key: Any, chance: random.Random) -> None:
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(chance.choice(ODD))[:300]] = holder.pop(key)
        case 2:
            holder[key] = [holder[key]]
        case 3 if isinstance(holder[key], int | float):
            holder[key] += chance.choice((-1, 1, 7))
        case _:
            holder[key] = copy.deepcopy(chance.choice(ODD))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each dict or list that is in the value, with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def as_json(value: Any) -> bytes:
    """Return JSON, also of what it cannot say: NaN, and texts that are no Unicode."""
    return json.dumps(value).encode()
