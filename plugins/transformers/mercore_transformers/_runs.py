"""Which samples run together."""

from __future__ import annotations

from collections.abc import Sequence


def runs(lengths: Sequence[int], budget: int, *, alike: bool) -> list[list[int]]:
    """Return the places of the samples of each run, those of like length together.

    Padded to its longest, a run holds `budget` at most, or one sample; with `alike` only samples
    of one length.
    """
    found: list[list[int]] = []
    previous = -1
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        length = lengths[place]
        fits = found and (len(found[-1]) + 1) * length <= budget
        if not fits or (alike and length != previous):
            found.append([])
        found[-1].append(place)
        previous = length
    return found


def budget_of(device: str, *, cpu: int, cuda: int) -> int:
    """Return how much runs at once on that device."""
    return cpu if device == "cpu" else cuda
