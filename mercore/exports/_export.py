"""The export of features to a file or a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mercore.errors import RunError, did_you_mean
from mercore.exports._arrays import write_npy, write_npz
from mercore.exports._columns import Columns, Dtype
from mercore.exports._hdf5 import write_hdf5
from mercore.exports._tables import write_parquet
from mercore.exports._whole import check_free, whole
from mercore.selection import Missing
from mercore.watch import Silent, Watch, showing

if TYPE_CHECKING:
    from mercore.feature import SampleFeature
    from mercore.features import SampleFeatures

Format = Literal["parquet", "npz", "npy", "hdf5"]
FORMATS: Mapping[Format, Callable[[Columns, Path, Watch], None]] = {
    "parquet": write_parquet,
    "npz": write_npz,
    "npy": write_npy,
    "hdf5": write_hdf5,
}
_ENDINGS: Mapping[str, Format] = {
    ".parquet": "parquet", ".npz": "npz", ".hdf5": "hdf5", ".h5": "hdf5", "": "npy",
}  # fmt: skip


@dataclass(frozen=True)
class ExportedFeature:
    """What exporting one feature came to."""

    name: str
    dim: int
    fingerprint: str
    missing: Mapping[str, str]
    """Id to reason for the chosen samples that have no values of it."""
    failed: bool
    """Whether any of them is missing for another reason than that it has no such medium."""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    path: Path
    format: Format
    features: Sequence[ExportedFeature]
    samples: int
    """Those that were written."""
    dropped: int
    """Those that were left out since they lack a feature."""
    splits: Mapping[str, int]
    """How many of each split were written."""
    bytes: int

    @property
    def failed(self) -> bool:
        """Whether a feature of a sample had failed, or was not extracted yet."""
        return any(feature.failed for feature in self.features)


def export(
    features: SampleFeatures,
    to: str | Path,
    format: Format,
    names: Sequence[str] = (),
    *,
    frames: bool = False,
    dtype: Dtype = "float32",
    missing: Missing = "raise",
    overwrite: bool = False,
    watch: Watch | None = None,
) -> Exported:
    """Write the named features, or all, of the samples; return what that came to.

    ::

        parquet   id, split, label, and a list of dim numbers a feature
        npz       ids, labels, splits, NAME (samples, dim), about (JSON); nothing pickled
        npy       a folder: ids.csv, NAME.npy, about.json
        hdf5      as npz, a data set each

    With `frames` the sequences are written beside the vectors: NAME_frames, and the arrays of
    frames of all samples with NAME_offsets. A sample that lacks one of the features is a RunError,
    NaN (of frames one), or left out. Memory holds some of the samples at a time.

    `to` is there whole or not at all. It is replaced only with `overwrite`, and a folder only
    where it holds an earlier export. Raises RunError for that, and for values that float16 cannot
    hold.
    """
    _check_option("format", format, get_args(Format))
    _check_option("dtype", dtype, get_args(Dtype))
    to, folder = Path(to), format == "npy"
    check_free(to, overwrite=overwrite, folder=folder)
    chosen = features.together(names, missing, frames=frames)
    columns = Columns.of(chosen, frames=frames, dtype=dtype)
    with (
        whole(to, overwrite=overwrite, folder=folder) as path,
        showing(watch or Silent()) as told,
    ):
        FORMATS[format](columns, path, told)
    return Exported(
        path=to,
        format=format,
        features=[_feature(each.of_samples(features.samples), frames) for each in chosen],
        samples=len(columns.samples),
        dropped=len(features.samples) - len(columns.samples),
        splits=Counter(columns.samples.splits),
        bytes=_size(to),
    )


def _check_option(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        hint = did_you_mean(given, known)
        raise RunError(f"{what} {given!r}: expected one of {', '.join(known)}{hint}")


def format_of(to: str | Path) -> Format:
    """Return the format that the ending of a path says; raises RunError for another."""
    ending = Path(to).suffix.lower()
    if ending not in _ENDINGS:
        hint = did_you_mean(ending, _ENDINGS)
        raise RunError(
            f"{to}: ending {ending!r}, expected .parquet, .npz, .hdf5, .h5, or none for a folder "
            f"of .npy files{hint}; or give format="
        )
    return _ENDINGS[ending]


def _feature(feature: SampleFeature, frames: bool) -> ExportedFeature:
    lost: dict[str, str] = {}
    failed = False
    for part in feature.parts(frames=frames):
        missing = part.missing(feature.samples)
        lost |= missing
        failed = failed or not part.absent.issuperset(missing)
    return ExportedFeature(feature.name, feature.dim, feature.fingerprint, lost, failed)


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
