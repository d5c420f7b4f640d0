"""What is exported: features of the same samples, read block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mercore import __version__
from mercore.components import IntArray
from mercore.errors import RunError
from mercore.feature import SampleFeature
from mercore.selection import Selection

Dtype = Literal["float32", "float16"]
Array = NDArray[Any]
BLOCK = 2048
"""Vectors read at once: 40 MB of 5,120 dimensions."""
FRAMES_BLOCK = 256
"""Sequences read at once: 1 GB of 1,000 frames and 1,024 dimensions."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Features of the same samples. A sample without values is NaN, of its frames there is one."""

    features: Sequence[SampleFeature]
    frames: bool
    """Whether the sequences are wanted beside the vectors."""
    dtype: Dtype = "float32"

    @classmethod
    def of(
        cls, features: Sequence[SampleFeature], *, frames: bool, dtype: Dtype = "float32"
    ) -> Columns:
        """Return the columns; raises RunError where there is nothing to export."""
        if not features or not len(features[0].samples):
            raise RunError("nothing to export: no sample has values of all these features")
        for feature in features:
            if not feature.dim:
                why = next(iter(feature.missing.values()), "it has no values")
                raise RunError(f"nothing to export of feature {feature.name!r}: {why}")
        return cls(features, frames, dtype)

    @property
    def samples(self) -> Selection:
        """The samples, in the order of the manifest."""
        return self.features[0].samples

    @property
    def labels(self) -> list[str | None]:
        """The label of each sample."""
        return [sample.label for sample in self.samples.samples]

    def check_names(self, taken: Sequence[str]) -> None:
        """Raise RunError where two columns would have one name; `taken` are those of no feature."""
        names = [feature.name for feature in self.features]
        more = [f"{name}_{part}" for name in names for part in ("frames", "offsets")]
        counts = Counter([*names, *(more if self.frames else []), *taken])
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise RunError(f"two columns would be called {twice[0]!r}; rename that feature")

    def blocks(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        count, size = len(self.samples), FRAMES_BLOCK if self.frames else BLOCK
        return (slice(start, min(start + size, count)) for start in range(0, count, size))

    def vectors(self, feature: SampleFeature, rows: slice) -> Array:
        """Return the ``(rows, dim)`` vectors of a block."""
        return self._cast(feature.name, feature[rows].matrix("nan"))

    def sequences(self, feature: SampleFeature, rows: slice) -> list[Array]:
        """Return the ``(frames, dim)`` sequences of a block."""
        found = feature[rows].sequences("nan", np.float32)
        return [self._cast(feature.name, sequence) for sequence in found]

    def offsets(self, feature: SampleFeature) -> IntArray:
        """Return ``(samples + 1,)``: the frames of sample i are those from i to i + 1."""
        assert feature.frames is not None  # else they could not have been asked for
        entries, lacking = feature.frames.collection.entries(), feature.frames.lacking
        lengths = [1 if id in lacking else entries[id].length for id in self.samples.ids]
        return np.cumsum([0, *lengths], dtype=np.int64)

    def about(self) -> dict[str, JsonValue]:
        """Return what the values are: classes, and the origin of each feature."""
        features: dict[str, JsonValue] = {each.name: _about(each) for each in self.features}
        return {
            "mercore": __version__,
            "samples": len(self.samples),
            "classes": list(self.samples.classes),
            "dtype": self.dtype,
            "features": features,
        }

    def _cast(self, name: str, values: Array) -> Array:
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype, copy=False)
        if self.dtype == "float16" and np.isinf(cast).any():
            most = float(np.nanmax(np.abs(values)))
            raise RunError(
                f"feature {name!r} has values up to {most:.6g}, which float16 cannot hold; export "
                "it as float32"
            )
        return cast


def _about(feature: SampleFeature) -> dict[str, JsonValue]:
    header = feature.vectors.collection.header
    kept = ("component", "distribution", "frame_rate", "inputs")
    return {
        "fingerprint": feature.fingerprint,
        "dim": feature.dim,
        **{key: header[key] for key in kept if key in header},
    }
