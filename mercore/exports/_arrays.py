"""Each feature as arrays, in blocks: what npy, npz and HDF5 hold.

::

    NAME             (samples, dim)
    NAME_frames      (frames of all samples, dim), one sample after another
    NAME_offsets     (samples + 1,) int64: the frames of sample i are [offsets[i]:offsets[i + 1]]
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mercore.exports._columns import Array, Columns
from mercore.exports._whole import ABOUT
from mercore.feature import SampleFeature
from mercore.table import csv_text
from mercore.watch import Watch


@dataclass(frozen=True, eq=False)
class Stream:
    """An array of which one block is in memory at a time."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Iterator[Array]


def streams(columns: Columns, watch: Watch) -> Iterator[Stream]:
    """Yield the arrays of each feature."""
    for feature in columns.features:
        watch.start(feature.name, len(feature))
        shape = (len(feature), feature.dim)
        yield Stream(feature.name, columns.dtype, shape, _vectors(columns, feature, watch))
        if columns.frames:
            offsets = columns.offsets(feature)
            total = (int(offsets[-1]), feature.dim)
            frames = _frames(columns, feature)
            yield Stream(f"{feature.name}_frames", columns.dtype, total, frames)
            yield whole_array(f"{feature.name}_offsets", offsets)


def whole_array(name: str, values: Array) -> Stream:
    """Return an array that is in memory."""
    return Stream(name, values.dtype.str, values.shape, iter([values]))


def _vectors(columns: Columns, feature: SampleFeature, watch: Watch) -> Iterator[Array]:
    for rows in columns.blocks():
        yield columns.vectors(feature, rows)
        watch.advance(feature.name, rows.stop - rows.start, 0)


def _frames(columns: Columns, feature: SampleFeature) -> Iterator[Array]:
    for rows in columns.blocks():
        yield np.concatenate(columns.sequences(feature, rows))


def write_npz(columns: Columns, path: Path, watch: Watch) -> None:
    """Write one npz: ``ids``, ``labels``, ``splits``, ``about`` (JSON), and the features."""
    columns.check_names(["ids", "labels", "splits", "about"])
    texts = {
        "ids": columns.samples.ids,
        "labels": [label or "" for label in columns.labels],
        "splits": columns.samples.splits,
        "about": json.dumps(columns.about()),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            _add(archive, whole_array(name, np.array(text, np.str_)))
        for stream in streams(columns, watch):
            _add(archive, stream)


def _add(archive: zipfile.ZipFile, stream: Stream) -> None:
    with archive.open(f"{stream.name}.npy", "w", force_zip64=True) as file:
        _write(file, stream)


def write_npy(columns: Columns, path: Path, watch: Watch) -> None:
    """Write a folder: an .npy an array, ids.csv (id, split, label, in their order), about.json."""
    columns.check_names([])
    labels = [label or "" for label in columns.labels]
    rows = zip(columns.samples.ids, columns.samples.splits, labels, strict=True)
    text = csv_text([("id", "split", "label"), *rows])
    (path / "ids.csv").write_text(text, encoding="utf-8", newline="")
    (path / ABOUT).write_text(json.dumps(columns.about(), indent=2) + "\n", encoding="utf-8")
    for stream in streams(columns, watch):
        with (path / f"{stream.name}.npy").open("wb") as file:
            _write(file, stream)


def _write(file: IO[bytes], stream: Stream) -> None:
    """Write the array in the .npy format, version 1.0 (numpy.lib.format): no pickles."""
    about = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(stream.dtype)),
        "fortran_order": False,
        "shape": stream.shape,
    }
    np.lib.format.write_array_header_1_0(file, about)
    for block in stream.blocks:
        file.write(np.ascontiguousarray(block).tobytes())
