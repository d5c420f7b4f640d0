"""Features as files and tables that other programs read.

::

    export(project.features, "features.parquet", "parquet")
    export(project.features.select(split="test"), "test.npz", "npz", ["speech"], missing="drop")

A file or folder is there whole or not at all. Parquet, pandas and HDF5 need the packages of
``mercore[export]``.
"""

from mercore.exports._columns import Dtype
from mercore.exports._export import FORMATS, Exported, Format, export, format_of
from mercore.exports._tables import to_arrow, to_pandas

__all__ = [
    "FORMATS",
    "Dtype",
    "Exported",
    "Format",
    "export",
    "format_of",
    "to_arrow",
    "to_pandas",
]
