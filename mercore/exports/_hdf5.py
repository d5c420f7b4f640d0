"""HDF5: one data set an array, the texts as UTF-8, what the values are as attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mercore.exports._arrays import streams
from mercore.exports._columns import Columns
from mercore.exports._needed import CURE
from mercore.packages import needed
from mercore.watch import Watch


def write_hdf5(columns: Columns, path: Path, watch: Watch) -> None:
    """Write one HDF5 file: ``ids``, ``labels``, ``splits`` and the features; needs h5py."""
    h5py = needed("h5py", "HDF5", CURE)
    columns.check_names(["ids", "labels", "splits"])
    texts: dict[str, list[str]] = {
        "ids": columns.samples.ids,
        "labels": [label or "" for label in columns.labels],
        "splits": columns.samples.splits,
    }
    with h5py.File(path, "w") as file:
        file.attrs["mercore"] = json.dumps(columns.about())
        for name, text in texts.items():
            file.create_dataset(name, data=text, dtype=h5py.string_dtype())
        for stream in streams(columns, watch):
            data = file.create_dataset(stream.name, stream.shape, stream.dtype)
            at = 0
            for block in stream.blocks:
                data[at : at + len(block)] = block
                at += len(block)
        _note(file, columns)


def _note(file: Any, columns: Columns) -> None:
    for feature in columns.features:
        file[feature.name].attrs["fingerprint"] = feature.fingerprint
