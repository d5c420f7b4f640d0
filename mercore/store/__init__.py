"""The feature store: every sample is computed once, and what was committed is never lost.

::

    store = Store("mer.zarr")
    store["hubert"].matrix(ids)                              # (n, dim) float32
    hubert = store.create("features", "hubert", fingerprint, header)
    hubert.commit([Row("clip1", values), Row("clip2", None, failed="no audio")])

All of it is valid Zarr v3. A commit is one immutable segment whose metadata is written last;
compaction turns the segments into one sharded array without compression.
"""

from mercore.store._collection import Collection
from mercore.store._feature import Feature
from mercore.store._parts import Entries, Entry, Row, RowType
from mercore.store._repair import Damage
from mercore.store._segments import writer_of
from mercore.store._store import Store

__all__ = [
    "Collection", "Damage", "Entries", "Entry", "Feature", "Row", "RowType", "Store", "writer_of",
]  # fmt: skip
