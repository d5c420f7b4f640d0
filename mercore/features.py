"""The features of a project's samples, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mercore.components import Features, IntArray
from mercore.errors import RegistryError, RunError, did_you_mean
from mercore.feature import SampleFeature
from mercore.notebook import Cell, html_table
from mercore.pipeline import Pipeline
from mercore.rows import SampleRows
from mercore.selection import Missing, Selection, check_missing
from mercore.store import Store
from mercore.watch import Watch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mercore.exports import Dtype, Exported, Format


@dataclass(frozen=True, eq=False, repr=False)
class SampleFeatures:
    """The features of some samples; ``features["hubert"]`` is one of them.

    Iterating gives their names; those that are not extracted yet are among them.
    """

    pipeline: Pipeline
    store: Store
    samples: Selection

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, samples={len(self.samples)})"

    def _repr_html_(self) -> str:
        known: list[list[Cell]] = [self._told(name) for name in self]
        return html_table(("feature", "uses", "dim", "samples", "missing"), known)

    def __len__(self) -> int:
        return len(self.pipeline.features)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pipeline.features)

    def __contains__(self, name: object) -> bool:
        return name in self.pipeline.features

    def __getitem__(self, name: str) -> SampleFeature:
        node = self.pipeline.features.get(name)
        if node is None:
            stream = name in self.pipeline.streams
            hint = "; project.streams has it" if stream else did_you_mean(str(name), self)
            raise RegistryError(f"the registry has no feature {name!r}{hint}")
        return SampleFeature.of(node, self.store, self.samples)

    @property
    def ids(self) -> list[str]:
        """The ids of the samples."""
        return self.samples.ids

    @property
    def labels(self) -> IntArray:
        """``(samples,)`` class indices, -1 where there is no label."""
        return self.samples.labels

    @property
    def splits(self) -> list[str]:
        """The split of each sample."""
        return self.samples.splits

    def select(
        self,
        *,
        split: str | None = None,
        label: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> SampleFeatures:
        """Return the features of some samples; see ``Selection.select``."""
        return replace(self, samples=self.samples.select(split=split, label=label, ids=ids))

    def together(
        self, names: Sequence[str] = (), missing: Missing = "raise", *, frames: bool = False
    ) -> tuple[SampleFeature, ...]:
        """Return the named features, or all, of the same samples.

        With "drop" these are the samples that have every one of them, with `frames` its sequence
        too. With "raise" a sample that lacks one is a RunError.
        """
        check_missing(missing)
        found = tuple(self[name] for name in names or self)
        stored = [part for each in found for part in each.parts(frames=frames)]
        if missing == "raise":
            for part in stored:
                part.require(self.ids, "give missing='nan' or missing='drop'")
        if missing == "drop":
            lost = {id for part in stored for id in part.missing(self.samples)}
            left = self.samples.without(lost)
            found = tuple(feature.of_samples(left) for feature in found)
        return found

    def rows(self, *names: str, missing: Missing = "raise", frames: bool = False) -> SampleRows:
        """Return the samples as dicts with the named features, or all; see ``mercore.rows``.

        Of the samples without values only "raise" (an error here, before anything is read) and
        "drop" are possible.
        """
        if missing == "nan":
            raise RunError("rows(missing='nan'): expected 'raise' or 'drop'; matrices() has 'nan'")
        features = self.together(names, missing, frames=frames)
        samples = features[0].samples if features else self.samples
        return SampleRows(samples, features, frames=frames)

    def matrices(self, *names: str, missing: Missing = "raise") -> Features:
        """Return a ``(samples, dim)`` float32 matrix for each named feature, or for all.

        With "drop" they have the rows of the samples that have every one of the features.
        """
        return {each.name: each.matrix(missing) for each in self.together(names, missing)}

    def to_pandas(self, *names: str, missing: Missing = "raise") -> pd.DataFrame:
        """Return a table with a row a sample and a column a dimension; needs pandas.

        The index is the id; the columns are ``split``, ``label`` (None for none) and, of each
        named feature or of all, ``NAME_0``, ``NAME_1``, ...
        """
        from mercore.exports import to_pandas

        return to_pandas(self.together(names, missing))

    def to_arrow(self, *names: str, missing: Missing = "raise", frames: bool = False) -> pa.Table:
        """Return what ``export`` writes as Parquet, as a table in memory; needs pyarrow."""
        from mercore.exports import to_arrow

        return to_arrow(self.together(names, missing, frames=frames), frames=frames)

    def export(
        self,
        to: str | Path,
        *names: str,
        format: Format | None = None,
        frames: bool = False,
        dtype: Dtype = "float32",
        missing: Missing = "raise",
        overwrite: bool = False,
        watch: Watch | None = None,
    ) -> Exported:
        """Write the named features, or all, to a file or folder; see ``mercore.exports.export``.

        The format is that of the ending (``.parquet``, ``.npz``, ``.hdf5``, ``.h5``), npy (a
        folder) where there is none, unless it is given.
        """
        from mercore.exports import export, format_of

        return export(
            self,
            to,
            format or format_of(to),
            names,
            frames=frames,
            dtype=dtype,
            missing=missing,
            overwrite=overwrite,
            watch=watch,
        )

    def _told(self, name: str) -> list[Cell]:
        node = self.pipeline.features[name]
        try:
            feature = self[name]
        except RunError:
            return [name, node.component.name, "", 0, len(self.samples)]
        lost = len(feature.missing)
        return [name, node.component.name, feature.dim, len(feature) - lost, lost]
