"""Features as tables: Apache Arrow, Parquet and pandas.

A row a sample: ``id``, ``split``, ``label`` (null for none), and a column a feature, which is a
list of `dim` numbers; with frames ``NAME_frames`` beside it, a list of such lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mercore.exports._columns import Array, Columns
from mercore.exports._needed import CURE
from mercore.feature import SampleFeature
from mercore.packages import needed
from mercore.selection import Selection
from mercore.watch import Silent, Watch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def to_pandas(features: Sequence[SampleFeature]) -> pd.DataFrame:
    """Return a DataFrame with a column a dimension; see ``SampleFeatures.to_pandas``."""
    pandas = needed("pandas", "to_pandas()", CURE)
    columns = Columns.of(features, frames=False)
    index = pandas.Index(columns.samples.ids, name="id")
    about = {"split": columns.samples.splits, "label": columns.labels}
    parts = [pandas.DataFrame(about, index=index)]
    for feature in columns.features:
        names = [f"{feature.name}_{number}" for number in range(feature.dim)]
        parts.append(pandas.DataFrame(feature.matrix("nan"), index=index, columns=names))
    return pandas.concat(parts, axis=1)


def to_arrow(features: Sequence[SampleFeature], *, frames: bool = False) -> pa.Table:
    """Return the table that ``write_parquet`` writes."""
    arrow = needed("pyarrow", "to_arrow()", CURE)
    columns = Columns.of(features, frames=frames)
    return arrow.Table.from_batches(_batches(arrow, columns, Silent()), _schema(arrow, columns))


def write_parquet(columns: Columns, path: Path, watch: Watch) -> None:
    """Write one Parquet file, a row group a block, so that one block is in memory at a time."""
    arrow = needed("pyarrow", "Parquet", CURE)
    parquet = needed("pyarrow.parquet", "Parquet", CURE)
    columns.check_names(["id", "split", "label"])
    schema = _schema(arrow, columns)
    # Hardly two numbers of a feature are the same: a dictionary of them would only cost.
    with parquet.ParquetWriter(path, schema, use_dictionary=["split", "label"]) as writer:
        for batch in _batches(arrow, columns, watch):
            writer.write_batch(batch)


def _schema(arrow: Any, columns: Columns) -> Any:
    fields = [
        arrow.field("id", arrow.string(), nullable=False),
        arrow.field("split", arrow.string(), nullable=False),
        arrow.field("label", arrow.string()),
    ]
    for feature in columns.features:
        row = _row_type(arrow, columns, feature)
        about = {"fingerprint": feature.fingerprint}
        fields.append(arrow.field(feature.name, row, metadata=about))
        if columns.frames:
            fields.append(arrow.field(f"{feature.name}_frames", arrow.list_(row), metadata=about))
    return arrow.schema(fields, metadata={"mercore": json.dumps(columns.about())})


def _row_type(arrow: Any, columns: Columns, feature: SampleFeature) -> Any:
    number = {"float32": arrow.float32(), "float16": arrow.float16()}[columns.dtype]
    return arrow.list_(number, feature.dim)


def _batches(arrow: Any, columns: Columns, watch: Watch) -> Iterator[Any]:
    schema = _schema(arrow, columns)
    for feature in columns.features:
        watch.start(feature.name, len(feature))
    for rows in columns.blocks():
        arrays = [*_texts(arrow, columns.samples.at(range(len(columns.samples))[rows]))]
        for feature in columns.features:
            kind = _row_type(arrow, columns, feature)
            arrays.append(_rows(arrow, columns.vectors(feature, rows), kind))
            if columns.frames:
                arrays.append(_ragged(arrow, columns.sequences(feature, rows), kind))
            watch.advance(feature.name, rows.stop - rows.start, 0)
        yield arrow.record_batch(arrays, schema=schema)


def _texts(arrow: Any, samples: Selection) -> list[Any]:
    labels = [sample.label for sample in samples.samples]
    return [arrow.array(column, arrow.string()) for column in (samples.ids, samples.splits, labels)]


def _rows(arrow: Any, matrix: Array, kind: Any) -> Any:
    """Return ``(rows, dim)`` as lists of one size, without a copy."""
    return arrow.FixedSizeListArray.from_arrays(arrow.array(matrix.reshape(-1)), type=kind)


def _ragged(arrow: Any, sequences: Sequence[Array], kind: Any) -> Any:
    offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int32)
    frames = _rows(arrow, np.concatenate(sequences), kind)
    return arrow.ListArray.from_arrays(arrow.array(offsets), frames)
