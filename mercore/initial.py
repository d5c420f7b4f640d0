"""A project from a folder of clips: manifest, registry and the schema for editors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mercore import draft
from mercore.decode import has_audio
from mercore.errors import InputError, RunError
from mercore.folder import replace as write_whole
from mercore.layouts import Found, Layout, Wanted, choose
from mercore.manifest import TRAIN, UNLABELLED, Manifest, Sample
from mercore.plugins import Plugins
from mercore.schema import FILE, plugin_schema, schema_line, write_schema
from mercore.writing import manifest_text, refuse_existing

_FOLDS = 5
_LISTENED = 3  # videos that are opened to see whether they have a sound track


@dataclass(frozen=True)
class Initial:
    """What was found and written."""

    layout: Layout
    found: Found
    manifest: Path
    registry: Path
    schema: Path
    features: Sequence[str]

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Split to label to how many samples, train first; ``""`` stands for no label."""
        splits = Manifest.of(self.manifest, self.found.samples).splits
        counts = {split: Counter[str]() for split in splits}
        for sample in self.found.samples:
            counts[sample.split][sample.label or ""] += 1
        return counts


def initialise(
    folder: str | Path,
    into: str | Path = ".",
    *,
    layout: str = "auto",
    labels: str | Path | None = None,
    classes: Sequence[str] = (),
    features: Sequence[str] | None = None,
    trust_pickles: bool = False,
    overwrite: bool = False,
) -> Initial:
    """Write manifest.csv, registry.yaml and registry.schema.json; return what was found.

    `features` names encoders; none of them: the starter's that fit the media. Raises ManifestError
    for data that cannot be used, and RunError where manifest or registry is there already; then
    nothing is written. The schema, which follows from the installed plugins, is written anew.
    """
    folder, into = Path(folder), Path(into)
    manifest, registry, schema = (into / name for name in ("manifest.csv", "registry.yaml", FILE))
    if into.exists() and not into.is_dir():
        raise RunError(f"{into}: is a file; give a folder with --into")
    if not overwrite:
        refuse_existing((manifest, registry), "give another folder with --into, or --overwrite")
    chosen = choose(folder, layout)
    wanted = Wanted(folder, Path(labels) if labels else None, tuple(classes), trust_pickles)
    media, found = _heard(chosen.read(wanted))
    plugins = Plugins()
    data = _data(chosen, found, media)
    planned = draft.features_for(data, plugins, features)
    text = draft.text_of(data, planned, plugins)
    write_schema(schema, plugin_schema(plugins))
    write_whole(manifest, manifest_text(found.samples, into).encode())
    write_whole(registry, (schema_line(registry) + text).encode())
    return Initial(chosen, found, manifest, registry, schema, [x.name for x in planned])


def _heard(found: Found) -> tuple[frozenset[str], Found]:
    """Return the media that samples have, and what is found with a note where videos are silent."""
    media = {name for sample in found.samples for name in sample.media}
    if "audio" in media or "video" not in media:
        return frozenset(media), found
    if _sounds(found.samples):
        return frozenset({*media, "audio"}), found
    note = f"of {_LISTENED} videos none has sound that can be read: no features of audio"
    return frozenset(media), replace(found, notes=[*found.notes, note])


def _data(layout: Layout, found: Found, media: frozenset[str]) -> draft.Data:
    sizes = Counter(sample.label for sample in found.samples if sample.split == TRAIN)
    folds = max(2, min(_FOLDS, max(sizes.values(), default=_FOLDS)))  # what can be trained at all
    minable = any(sample.split == UNLABELLED for sample in found.samples)
    return draft.Data(
        layout.name, found.classes, media, _language(found), minable, folds, found.notes
    )


def _sounds(samples: Sequence[Sample]) -> bool:
    """Return whether one of a few videos has a sound track."""
    videos = [sample.media["video"] for sample in samples if "video" in sample.media]
    for path in videos[:: max(1, len(videos) // _LISTENED)][:_LISTENED]:
        try:
            if has_audio(path):
                return True
        except InputError:  # broken; `mer extract` says so
            continue
    return False


def _language(found: Found) -> str:
    """Return what the layout says, or else ``zh`` where most words are Chinese."""
    if found.language:
        return found.language
    words = "".join(sample.media.get("text", "") for sample in found.samples[:1000])
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in words)
    return "zh" if chinese > len(words) / 3 else ""
