"""Collections whose every row says to which commit it belongs, so that a wrong one is noticed."""

from __future__ import annotations

import numpy as np

from mercore.store import Collection, Row

State = dict[str, float | str]
"""What a sample has: the number in its rows, or why it failed."""


def rows_of(state: State) -> list[Row]:
    return [
        Row(id, None, failed=what) if isinstance(what, str) else Row(id, filled(what))
        for id, what in state.items()
    ]


def filled(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((1 + int(value) % 3, 2), value, np.float32)


def state_of(collection: Collection) -> State:
    """Return the state of all samples; rows that were never committed as such are an error."""
    state: State = {}
    for id, entry in collection.entries().items():
        if entry.failed is not None:
            state[id] = entry.failed
            continue
        values = collection.sequence(id)
        np.testing.assert_array_equal(values, filled(float(values[0, 0])))
        state[id] = float(values[0, 0])
    return state


OLD: State = {"a": 1, "b": 2, "c": "no audio", "d": 4}
NEW: State = {"b": 12, "c": 13, "d": "no video", "e": 15}


def prepared(collection: Collection) -> None:
    """Make a base, a segment that replaces some of it, and one more."""
    collection.commit(rows_of({"a": 7, "b": 8, "c": "no audio"}))
    collection.compact()
    collection.commit(rows_of({"b": 2, "a": 1}))
    collection.commit(rows_of({"d": 4}))
