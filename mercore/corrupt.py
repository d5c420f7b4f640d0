"""A noisy copy of a manifest's clips, with a record of what was added to each.

The components that add noise and blur are a plugin's; here clips are read, handed to them and
written. What is done and unchanged is not done again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from mercore.components import Inputs, Noted, Preprocessor, Transform
from mercore.copies import Copy, CopyFolder
from mercore.decode import has_audio, read_track, stream_frames
from mercore.encode import write_mp4, write_wav
from mercore.errors import (
    InputError,
    ManifestError,
    MercoreError,
    PluginError,
    RunError,
    did_you_mean,
)
from mercore.fingerprints import describe, fingerprint
from mercore.limits import DEFAULT, Limits
from mercore.manifest import Manifest, Sample
from mercore.media import REVISION, Frames, Media, Text, Waveform
from mercore.plugins import Plugins
from mercore.sources import Sources
from mercore.table import Table
from mercore.watch import Silent, Watch

_RATE = 16_000  # Hz: what the components that add noise, and those that listen, work at
_AT_ONCE = 32  # frames in memory
_STREAK = 20  # clips in a row that fail for no reason of their own: the machine is at fault

Options = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Corrupted:
    """What corrupting a manifest came to."""

    folder: CopyFolder
    copies: Mapping[str, Copy]
    """What was done, by sample id, in the order of the manifest."""
    new: Collection[str]
    """The ids of those done in this run."""
    failed: Mapping[str, str]
    """Sample id to the reason; they are not in the new manifest."""
    stale: Sequence[str]
    """Clips of earlier runs that are not in the new manifest, relative to the folder."""


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest, with whatever labels it has; there is no registry to ask."""
    return Manifest.read(path, sorted(set(Table.read(Path(path))["label"])))


def corrupt(
    manifest: Manifest,
    out: str | Path,
    *,
    noise: Options | None = None,
    blur: Options | None = None,
    splits: Collection[str] = (),
    threads: int = 2,
    limits: Limits = DEFAULT,
    watch: Watch | None = None,
) -> Corrupted:
    """Write noisy copies of the clips below `out`, and return what that came to.

    `noise` are the options of the component ``add_noise``, `blur` those of ``blur``; None leaves
    the voice, or the picture, as it is. Audio becomes 16-bit WAV at 16 kHz, video H.264 with AAC in
    mp4, whatever it was. `splits` limits the copies to these; the rows of others keep their files.
    A clip that cannot be used, or is beyond the `limits`, fails alone.

    Raises PluginError where the components are not installed, RegistryError for options that are
    wrong, RunError where an original would be replaced, ManifestError for an unknown split.
    """
    folder, chosen = CopyFolder(Path(out)), _chosen(manifest, splits)
    folder.check(manifest)
    adding = None if noise is None else worsening("add_noise", noise)
    blurring = None if blur is None else worsening("blur", blur)
    work = _Work(folder, adding, blurring, limits)
    before = folder.read()
    folder.start(before.values())
    done = {sample.id: before[sample.id] for sample in chosen if work.is_done(sample, before)}
    todo = [sample for sample in chosen if sample.id not in done and work.columns(sample)]
    failed: dict[str, str] = {}
    new: list[str] = []
    for sample, result in _all(work, todo, threads, watch or Silent()):
        if isinstance(result, Copy):
            folder.add(result)
            done[sample.id] = result
            new.append(sample.id)
        else:
            failed[sample.id] = _reason(result, sample)
    folder.finish(manifest, done, failed)
    copies = {id: done[id] for id in manifest.ids if id in done}
    return Corrupted(folder, copies, new, failed, folder.stale(manifest, copies.values()))


def worsening(name: str, options: Options) -> Preprocessor:
    """Return the component ``add_noise`` or ``blur``; PluginError where they are not installed."""
    plugins = Plugins()
    try:
        plugins.provided("preprocessor", name)
    except PluginError as error:
        raise PluginError(f"{error}; run `pip install mercore-noise`, which has it") from error
    return plugins.build(Preprocessor, name, options)


def _chosen(manifest: Manifest, splits: Collection[str]) -> list[Sample]:
    for split in splits:
        if split not in manifest.splits:
            hint = did_you_mean(split, manifest.splits)
            known = ", ".join(manifest.splits)
            raise ManifestError(
                f"{manifest.path}: no sample is in split {split!r}{hint}; has {known}"
            )
    return [sample for sample in manifest.samples if not splits or sample.split in splits]


def _all(
    work: _Work, samples: list[Sample], threads: int, watch: Watch
) -> Iterator[tuple[Sample, Copy | Exception]]:
    """Yield each sample as it is done, with its copy or the reason why there is none."""
    watch.start("clips", len(samples))
    streak = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="corrupt")
    try:
        running = {pool.submit(work.copy, sample): sample for sample in samples}
        for future in as_completed(running):
            result = _result(future)
            failed = isinstance(result, Exception)
            watch.advance("clips", 1, int(failed))
            streak = streak + 1 if failed and not isinstance(result, InputError) else 0
            if streak == _STREAK:
                raise RunError(
                    f"{streak} clips in a row failed, the last with {type(result).__name__}: "
                    f"{result}; mend that and run it again"
                )
            yield running[future], result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Copy]) -> Copy | Exception:
    try:
        return future.result()
    except Exception as error:
        if isinstance(error, MercoreError) and not isinstance(error, InputError):
            raise  # no clip can cause it
        return error


def _reason(error: Exception, sample: Sample) -> str:
    """Return why a clip failed, without its path, so that equal reasons can be counted."""
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    for path in sample.media.values():
        reason = reason.removeprefix(f"{path}: ")
    return reason


class _Work:
    """What the clips of one run share: the components, loaded, and where the copies go."""

    def __init__(
        self,
        folder: CopyFolder,
        noise: Preprocessor | None,
        blur: Preprocessor | None,
        limits: Limits,
    ) -> None:
        self.folder = folder
        self._limits = limits
        self._key = fingerprint(
            {
                "media": REVISION,
                "audio": describe(noise) if noise else None,
                "video": describe(blur) if blur else None,
            }
        )
        self._add_noise = noise.load("cpu", "float32") if noise else None
        self._blur = blur.load("cpu", "float32") if blur else None
        self._sources = Sources()

    def columns(self, sample: Sample) -> list[str]:
        """Return the columns of the manifest for which the sample gets new files."""
        video = ["video"] if "video" in sample.media else []
        audio = ["audio"] if "audio" in sample.media and self._add_noise else []
        return video + audio

    def is_done(self, sample: Sample, before: Mapping[str, Copy]) -> bool:
        """Return whether the record says that the clip, as it is now, was done like this."""
        copy = before.get(sample.id)
        return (
            copy is not None
            and copy.key == self._key
            and self._sources.unchanged(copy.source, sample, _roots(sample))
            and self.folder.whole(copy)
        )

    def copy(self, sample: Sample) -> Copy:
        """Write the noisy files of one sample; return the line of the record."""
        source = self._sources.identity(sample, _roots(sample))
        files = {column: self.folder.target(sample, column) for column in self.columns(sample)}
        audio, heard = self._heard(sample)
        seen: dict[str, JsonValue] = {}
        if "audio" in files:
            assert audio is not None  # a file without audio was refused
            self.folder.place(files["audio"], lambda path: write_wav(path, audio))
        if "video" in files:
            parts = self._seen(sample, seen)
            self.folder.place(files["video"], lambda path: write_mp4(path, parts, audio))
        return Copy(sample.id, self._key, source, files, heard, seen or None)

    def _heard(self, sample: Sample) -> tuple[Waveform | None, dict[str, JsonValue] | None]:
        """Return the audio of the copy, if it has any, and the record of what was added."""
        path = sample.file("audio")
        if path is None or ("audio" not in sample.media and not has_audio(path)):
            return None, None
        audio = read_track(path, _RATE, limits=self._limits)
        if self._add_noise is None:
            return audio, None
        noisy, record = _applied(self._add_noise, {"audio": audio, "id": Text(sample.id)})
        assert isinstance(noisy, Waveform)
        return noisy, record

    def _seen(self, sample: Sample, record: dict[str, JsonValue]) -> Iterator[Frames]:
        """Yield the frames of the copy, and note in `record` what was done to them."""
        for frames in stream_frames(sample.media["video"], _AT_ONCE, self._limits):
            if self._blur is None:
                yield frames
                continue
            blurred, noted = _applied(self._blur, {"video": frames, "id": Text(sample.id)})
            record.update(noted)
            assert isinstance(blurred, Frames)
            yield blurred


def _applied(transform: Transform, inputs: Inputs) -> tuple[Media, dict[str, JsonValue]]:
    (output,) = transform([inputs])
    return (output.value, dict(output.record)) if isinstance(output, Noted) else (output, {})


def _roots(sample: Sample) -> list[str]:
    return [column for column in ("audio", "video") if sample.file(column)]
