"""Which worker gets which samples, and what becomes of those whose worker ended."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

from mercore.manifest import Sample

LARGEST = 256
"""Samples of a part: as many as a batch may hold."""
_SHARES = 8
"""A part is about this fraction of a worker's share of what is left."""
_LEAST = 4
"""Samples of a part, while there are so many for each worker: each batch costs a commit."""


class Handout:
    """The samples that are still to be done, and who has which.

    Parts are taken from the longest samples to the shortest, and get smaller with what is left, so
    that the workers end together whatever their speed. When a worker ends, the samples that it had
    not committed are suspects: each is given out again by itself, after all others, so that the one
    that ends a worker is known.
    """

    def __init__(
        self, samples: Sequence[Sample], lengths: Sequence[float], workers: int, retries: int
    ) -> None:
        """`lengths` is how long each sample takes, in any unit; `retries`: see ``lost``."""
        self._lengths = {s.id: length for s, length in zip(samples, lengths, strict=True)}
        self._queue = deque(sorted(samples, key=lambda sample: -self._lengths[sample.id]))
        self._left = sum(lengths)
        self._workers = workers
        self._retries = retries
        self._held: dict[int, dict[str, Sample]] = defaultdict(dict)
        self._suspects: deque[Sample] = deque()
        self._suspected: set[str] = set()
        self._ended: Counter[str] = Counter()

    def next(self, worker: int, *, one: bool = False) -> Sequence[Sample] | None:
        """Return the part that the worker does next.

        Empty: there is none for it before it has done what it holds, or, if it holds nothing, none
        at all any more. None: there is none now, but others may lose theirs; ask again when they
        have done some. With `one` no two workers get samples at once.
        """
        held = self._held[worker]
        if held:
            alone = one or not self._suspected.isdisjoint(held)
            return [] if alone or not self._queue else self._part(worker)
        others = any(self._held.values())
        if one and others:
            return None
        if self._queue:
            return self._part(worker)
        if self._suspects:
            return self._give(worker, [self._suspects.popleft()])
        return None if others else []

    def done(self, worker: int, ids: Iterable[str]) -> None:
        """Take note that the worker has committed these samples."""
        for id in ids:
            self._held[worker].pop(id, None)

    def lost(self, worker: int) -> Sample | None:
        """Take back what a worker that has ended held; return a sample that is to be given up.

        That is one that was all its worker held, `retries` times.
        """
        held = self._held.pop(worker, {})
        if len(held) == 1:
            (id,) = held
            self._ended[id] += 1
            if self._ended[id] >= self._retries:
                return held[id]
        self._suspected.update(held)
        self._suspects.extend(held.values())
        return None

    def returned(self, worker: int) -> None:
        """Take back what a worker held whose end no sample can have caused."""
        held = list(self._held.pop(worker, {}).values())
        self._queue.extendleft(reversed(held))
        self._left += sum(self._lengths[sample.id] for sample in held)

    def holds(self, worker: int) -> bool:
        """Return whether the worker has samples that it has not committed."""
        return bool(self._held[worker])

    @property
    def open(self) -> bool:
        """Whether there are samples that no worker has."""
        return bool(self._queue or self._suspects)

    @property
    def over(self) -> bool:
        """Whether all samples are done."""
        return not self.open and not any(self._held.values())

    def _part(self, worker: int) -> Sequence[Sample]:
        share = self._left / (_SHARES * self._workers if self._workers > 1 else 1)
        least = _LEAST if len(self._queue) >= _LEAST * self._workers else 1
        part: list[Sample] = []
        taken = 0.0
        while self._queue and len(part) < LARGEST:
            length = self._lengths[self._queue[0].id]
            if len(part) >= least and taken + length > share:
                break
            part.append(self._queue.popleft())
            taken += length
        self._left -= taken
        return self._give(worker, part)

    def _give(self, worker: int, part: Sequence[Sample]) -> Sequence[Sample]:
        self._held[worker].update((sample.id, sample) for sample in part)
        return part
