"""Features, labels and transcripts from MERTools, and to it.

::

    import_mertools(["features"], "label-6way.npz", trust_pickles=True)
    export_mertools(project, "for-mertools")

MERTools (Lian et al., "MERBench", 2024, arXiv:2401.03429) keeps one ``.npy`` a sample in a folder a
feature, labels in an npz of dicts and transcripts in a csv. Only that layout is used here, none of
its code.
"""

from mercore.mertools._export import Export, ExportedFeature, export_mertools
from mercore.mertools._fill import ImportedFeature
from mercore.mertools._import import Destination, Import, import_mertools
from mercore.mertools._labels import CLASSES, Label, read_labels, read_transcripts

__all__ = [
    "CLASSES",
    "Destination",
    "Export",
    "ExportedFeature",
    "Import",
    "ImportedFeature",
    "Label",
    "export_mertools",
    "import_mertools",
    "read_labels",
    "read_transcripts",
]
