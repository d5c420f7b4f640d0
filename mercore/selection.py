"""Some samples of a manifest, in its order: what features and streams are read for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from mercore.components import IntArray
from mercore.dataset import label_indices
from mercore.errors import ManifestError, RunError, did_you_mean, few
from mercore.manifest import Sample

Missing = Literal["raise", "nan", "drop"]
"""What to do about samples without values: an error, NaN in their place, or leave them out."""


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Some samples of a manifest."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    """The labels in their order."""

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Selection({len(self)} samples)"

    @cached_property
    def ids(self) -> list[str]:
        """The id of each sample."""
        return [sample.id for sample in self.samples]

    @cached_property
    def splits(self) -> list[str]:
        """The split of each sample."""
        return [sample.split for sample in self.samples]

    @cached_property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where there is no label."""
        return label_indices(self.samples, self.classes)

    def row(self, key: str | int) -> int:
        """Return the position of a sample by its id or position, from the end where negative.

        Raises ManifestError for an unknown id and IndexError for a position beyond the samples.
        """
        if isinstance(key, str):
            if key not in self._rows:
                hint = did_you_mean(key, self._rows)
                raise ManifestError(f"no sample {key!r} among these {len(self)}{hint}")
            return self._rows[key]
        return range(len(self))[key]

    def at(self, rows: Iterable[int]) -> Selection:
        """Return the samples at these positions."""
        return Selection(tuple(self.samples[row] for row in rows), self.classes)

    def without(self, ids: Collection[str]) -> Selection:
        """Return all samples but these."""
        left = tuple(sample for sample in self.samples if sample.id not in ids)
        return Selection(left, self.classes)

    def select(
        self,
        *,
        split: str | None = None,
        label: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> Selection:
        """Return the samples of a split, of a class, or those named, in this order.

        Several conditions hold at once. Raises ManifestError for a split or an id that there is
        not, and RunError for a label that is no class.
        """
        if split is not None and split not in self.splits:
            found = list(dict.fromkeys(self.splits))
            hint = did_you_mean(split, found) or f"; has {few(found)}"
            raise ManifestError(f"no sample is in the split {split!r}{hint}")
        if label is not None and label not in self.classes:
            hint = did_you_mean(label, self.classes) or f"; has {', '.join(self.classes)}"
            raise RunError(f"no class {label!r}{hint}")
        wanted = None if ids is None else {self.row(id) for id in _several(ids)}
        return self.at(
            row
            for row, sample in enumerate(self.samples)
            if (split is None or sample.split == split)
            and (label is None or sample.label == label)
            and (wanted is None or row in wanted)
        )

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {id: row for row, id in enumerate(self.ids)}


def _several(ids: Iterable[str]) -> Iterable[str]:
    """Return the ids; one id alone is not taken for a sequence of letters."""
    return [ids] if isinstance(ids, str) else ids


def check_missing(missing: str) -> None:
    """Raise RunError where it is none of the ways to treat samples without values."""
    if missing not in get_args(Missing):
        raise RunError(f"missing {missing!r}: expected 'raise', 'nan' or 'drop'")
