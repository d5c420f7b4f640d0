"""The samples that files are, where there is no manifest: new clips."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mercore.errors import InputError
from mercore.manifest import MANIFESTS, UNLABELLED, Manifest, Sample
from mercore.root import Root


def samples_of(
    files: Iterable[str | Path],
    classes: Sequence[str],
    *,
    bare: bool = False,
    root: str | Path | None = None,
) -> list[Sample]:
    """Return the samples that the files are, each once.

    Files with one stem in one folder are one sample: ``clip.mp4`` with ``clip.txt``, its words. A
    manifest (.csv, .jsonl) gives its rows, which need no medium where they may be `bare`. With a
    `root` all clips must lie below that folder. Raises InputError for a file that is not there or
    lies elsewhere, and where two files give the same of a sample, or two samples have one id.
    """
    below = Root(root) if root is not None else None
    media: dict[Path, dict[str, str]] = {}
    names: dict[Path, str] = {}
    samples: list[Sample] = []
    for file in files:
        path = Path(file)
        if not path.is_file():
            raise InputError(f"{file}: {'is a folder' if path.is_dir() else 'no such file'}")
        if path.suffix in MANIFESTS:
            samples += Manifest.read(path, classes, bare=bare, root=root).samples
            continue
        if below and (outside := below.mistake(path)):
            raise InputError(f"{file}: {outside}")
        stem, kind = path.absolute().with_suffix(""), _kind(path)
        names.setdefault(stem, str(file))
        other = media.setdefault(stem, {}).setdefault(kind, str(path.absolute()))
        if other != str(path.absolute()):
            raise InputError(f"{file}: {other} is the {kind} of the same clip; keep one of them")
    samples += [Sample(names[stem], UNLABELLED, None, given) for stem, given in media.items()]
    _check_once(samples)
    return samples


def _check_once(samples: Sequence[Sample]) -> None:
    counts = Counter(sample.id for sample in samples)
    twice = [identifier for identifier, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: given twice; each clip needs an id of its own")


def _kind(path: Path) -> str:
    """Return the column of the manifest that the file belongs to."""
    if path.suffix == ".txt":
        return "text"
    guessed, _ = mimetypes.guess_type(path.name)
    return "audio" if (guessed or "").startswith("audio/") else "video"
