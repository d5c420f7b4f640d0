"""Damage media files in thousands of ways, and decode each in a process of its own.

    python benchmarks/fuzz_media.py [--mutations 2000] [--seconds 20] [--memory 2048] [--seed 0]
        [--keep FOLDER]

The first seconds of a clip of the demo are written as wav, mp3, ogg, opus, flac, m4a, mp4, mkv,
webm and avi, beside a recording of speech in flac. A mutation flips bits, cuts the file, takes a
piece out, swaps, repeats, zeroes or overwrites pieces, or edits fields of its header. The child may
take so many seconds and so much memory (MiB of address space).

    decoded     mercore.decode.decode gave a medium for all that was asked of the file
    InputError  it said what is wrong with it: what it should do
    other       it raised anything else
    crash       the child died of a signal: FFmpeg wrote or read where it must not
    hang        it did not end in time

The exit status is 1 if anything but the first two was seen. --keep keeps such files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from mercore.decode import decode
from mercore.errors import InputError
from mercore.media import Audio, Frames, Spec, Video, Waveform

ROOT = Path(__file__).parent.parent
TOYS = str(ROOT / "tests" / "toys")
CLIP = ROOT / "examples" / "demo" / "clips" / "train_001.mp4"
SPEECH = ROOT / "tests" / "data" / "sense_and_sensibility_01_0870.flac"
SECONDS = 1.0
OUTCOMES = ("decoded", "InputError", "other", "crash", "hang")
SOUND: tuple[Spec, ...] = (Audio(rate=16_000),)
PICTURES: tuple[Spec, ...] = (Video(count=4), Video(rate=5))


class Outcome(NamedTuple):
    """What became of one file."""

    kind: str
    about: str = ""


def child(path: str, specs: Sequence[Spec], memory: int, to: Connection) -> None:
    """Decode the file as each spec asks; send the outcome."""
    resource.setrlimit(resource.RLIMIT_AS, (memory * 2**20, memory * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for spec in specs:
            decode(path, spec)
    except InputError as error:
        to.send(Outcome("InputError", str(error)))
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(where.filename).name}:{where.lineno}"
        to.send(Outcome("other", f"{type(error).__name__}: {error} ({at})"))
    else:
        to.send(Outcome("decoded"))


def outcome(path: Path, specs: Sequence[Spec], memory: int, seconds: float) -> Outcome:
    """Return what becomes of decoding the file in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(str(path), specs, memory, writer))
    process.start()
    writer.close()  # the child has its own: the pipe ends with it
    try:
        if not reader.poll(seconds):
            return Outcome("hang", f"longer than {seconds:g} s")
        found: Outcome = reader.recv()
        return found
    except EOFError:
        process.join()
        return Outcome("crash", f"exit status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def fuzz(
    whole: Path, count: int, given: argparse.Namespace, chance: random.Random
) -> Mapping[str, int]:
    """Return how many mutations of one file came to which outcome; print the unwelcome ones."""
    from mutations import damaged

    data = whole.read_bytes()
    # Sound is asked of every file: a video is audio too.
    specs = SOUND + (PICTURES if whole.suffix in (".mp4", ".mkv", ".webm", ".avi") else ())
    found: Counter[str] = Counter()
    for number in range(count):
        path = whole.with_name(f"mutation{whole.suffix}")
        path.write_bytes(damaged(data, chance))
        kind, about = outcome(path, specs, given.memory, given.seconds)
        found[kind] += 1
        if kind not in OUTCOMES[:2]:
            print(f"{whole.name}, mutation {number}: {kind}: {about}", file=sys.stderr, flush=True)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, given.keep / f"{whole.stem}-{number}{whole.suffix}")
    return found


def write_files(folder: Path) -> list[Path]:
    """Return the undamaged files."""
    from media_kinds import write_kinds

    frames, audio = decode(str(CLIP), Video(rate=10)), decode(str(CLIP), Audio(rate=48_000))
    assert isinstance(frames, Frames)
    assert isinstance(audio, Waveform)
    short = frames.times < SECONDS
    frames = Frames(frames.pixels[short][:, ::2, ::2], frames.times[short])
    audio = Waveform(audio.samples[: int(SECONDS * audio.rate)], audio.rate)
    speech = folder / "speech.flac"
    speech.write_bytes(SPEECH.read_bytes())
    return [*write_kinds(folder, frames, audio), speech]


def benchmark() -> None:
    """Print one row of counts a kind of file."""
    parser = argparse.ArgumentParser(description="Decode damaged media files.")
    parser.add_argument("--mutations", type=int, default=2000, help="of all files together")
    parser.add_argument("--seconds", type=float, default=20, help="a child may take")
    parser.add_argument("--memory", type=int, default=2048, help="MiB a child may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that were not taken well")
    given = parser.parse_args()
    sys.path.insert(0, TOYS)
    multiprocessing.set_forkserver_preload(["mercore.decode"])
    print("| file | mutations |", " | ".join(OUTCOMES), "|\n|" + "---|" * (2 + len(OUTCOMES)))
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder))
        each = -(-given.mutations // len(files))
        for path in files:
            found = fuzz(path, each, given, random.Random(f"{given.seed} {path.name}"))
            counts = " | ".join(str(found[kind]) for kind in OUTCOMES)
            print(f"| {path.name} | {each} | {counts} |", flush=True)
            total.update(found)
    counts = " | ".join(str(total[kind]) for kind in OUTCOMES)
    print(f"| all | {total.total()} | {counts} |")
    sys.exit(any(total[kind] for kind in OUTCOMES[2:]))


if __name__ == "__main__":
    benchmark()
