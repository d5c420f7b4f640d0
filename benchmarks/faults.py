"""Let each write of an extraction go wrong in turn, on a disk and on S3, and look for what is lost.

    python benchmarks/faults.py [--samples 40] [--every 1] [WHAT]...

`mer extract` is run once for each file that it writes (or each `every`-th), and in each run that
one write goes wrong:

    fails          nothing of it is written, and the answer is an error
    torn           half of it is written, then the process ends; on S3 the connection
    unheard        it is written, but the answer is an error; S3 is asked once more
    twice          it is written two times: the second is the duplicate of a request
    fails for good as fails, and so do all writes after it

Then `mer extract` is run once more, undisturbed. What is there after either of the two is compared,
byte for byte, with what undisturbed runs leave.

    writes      how many runs there were
    ended       how many of them ended with an error; the others came to their end all the same
    known       samples that were said to be committed
    lost        of these, not there afterwards
    wrong       there, but not what undisturbed runs leave
    torn        stores with a damaged or incomplete part
    not mended  not like an undisturbed one after the second run

The exit status is 1 if one of the last four is not 0. The plugin is that of the tests; the server
is moto's, on this machine, and the waits before a request is sent again are shortened.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kill_child import run
from kill_jobs import Found, make_experiment, samples_at

from mercore.errors import MercoreError, RunError
from mercore.store import Collection, Row, _bucket
from mercore.store._disk import LocalFiles
from mercore.store._files import Content

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

from bad_server import Fault, Proxy, lost, refused, torn, twice
from places import BUCKET, KEYS, moto, served

SMALL = ("--device=cpu", "--parallel=1", "--batch=0.1")
"""One stream or feature at a time, and a few samples a commit."""
COLUMNS = ("writes", "ended", "known", "lost", "wrong", "torn", "not mended")
Spoil = Callable[[int], AbstractContextManager[list[int]]]
"""Let the write of a number go wrong; at its end the value holds how many writes there were."""


class Death(BaseException):
    """The process is gone."""


class Disk:
    """A disk on which one write goes wrong."""

    def __init__(self, fault: str, number: int) -> None:
        self.fault, self.number, self.seen = fault, number, 0
        self.unheard: set[Path] = set()
        self.stage, self.publish = LocalFiles._stage, LocalFiles._publish
        self.publish_new = LocalFiles._publish_new

    def staging(self, files: LocalFiles, path: Path, content: Content) -> Path:
        """Write a temporary file, or not, or half of it."""
        after, self.seen = self.seen - self.number, self.seen + 1
        if (after == 0 and self.fault == "fails") or (after >= 0 and self.fault.endswith("good")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if after >= 0 and self.fault == "torn":
            whole = b"".join(bytes(piece) for piece in content)
            if after == 0:
                self.stage(files, path, [whole[: len(whole) // 2]])
            raise Death
        temporary = self.stage(files, path, content)
        if after == 0 and self.fault == "unheard":
            self.unheard.add(temporary)
        return temporary

    def publishing(self, files: LocalFiles, temporary: Path, path: Path) -> None:
        """Give a file its name, and answer, or not."""
        self.publish(files, temporary, path)
        self._answer(temporary)

    def publishing_new(self, files: LocalFiles, temporary: Path, path: Path) -> None:
        """Give a new file its name, and answer, or not."""
        self.publish_new(files, temporary, path)
        self._answer(temporary)

    def _answer(self, temporary: Path) -> None:
        if temporary in self.unheard:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def on_disk(fault: str) -> Spoil:
    """Return how a write to a disk goes wrong."""

    @contextmanager
    def spoilt(number: int) -> Iterator[list[int]]:
        disk, writes = Disk(fault, number), list[int]()
        # Functions, as bound methods are not given the files that they are called of.
        functions: dict[str, Any] = {
            "_stage": lambda *given: disk.staging(*given),
            "_publish": lambda *given: disk.publishing(*given),
            "_publish_new": lambda *given: disk.publishing_new(*given),
        }
        with patch.multiple(LocalFiles, **functions):
            yield writes
        writes.append(disk.seen)

    return spoilt


def on_server(proxy: Proxy, fault: Fault, *, always: bool = False) -> Spoil:
    """Return how a request that changes something goes wrong."""

    @contextmanager
    def spoilt(number: int) -> Iterator[list[int]]:
        writes = list[int]()
        proxy.fault, proxy.always, proxy.left = fault, always, number
        yield writes
        writes.append(number - proxy.left)
        proxy.left = None

    return spoilt


def examine(
    command: Sequence[str], store: str, wanted: Found, spoilt: AbstractContextManager[object]
) -> Counter[str]:
    """Return the counts of one run, and of the one after it."""
    known: set[str] = set()
    commit = Collection.commit

    def noting(at: Collection, rows: Sequence[Row]) -> None:
        commit(at, rows)
        known.update(f"{at.identity.folder} {row.id}" for row in rows)

    counts = Counter({"writes": 1, "ended": 1})
    with patch.object(Collection, "commit", noting), spoilt, suppress(Death, RunError):
        run([*command, store])
        counts["ended"] = 0
    counts["known"] = len(known)
    found = seen(store)
    counts["torn"] = int(found is None)
    counts["lost"] = len(known - (found or wanted).keys())
    counts["wrong"] = sum(each != wanted[key] for key, each in (found or wanted).items())
    with suppress(RunError):
        run([*command, store])
    counts["not mended"] = int(seen(store) != wanted)
    return counts


def seen(store: str) -> Found | None:
    """Return what is in a store; None where it is damaged."""
    try:
        return samples_at(store)
    except MercoreError as error:
        print(error, file=sys.stderr)
        return None


def examine_all(command: Sequence[str], home: str, spoil: Spoil, every: int) -> Counter[str]:
    """Return the counts of all writes."""
    with spoil(sys.maxsize) as writes:
        run([*command, f"{home}/undisturbed"])
    wanted, total = samples_at(f"{home}/undisturbed"), Counter[str]()
    for number in range(0, writes[0], every):
        total += examine(command, f"{home}/{number}", wanted, spoil(number))
    return total


def benchmark() -> None:
    """Print one row of counts a place and fault."""
    parser = argparse.ArgumentParser(description="Let writes go wrong.")
    parser.add_argument("what", nargs="*", help="rows by how they begin, as disk; default: all")
    for name, default in (("samples", 40), ("every", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    os.environ.update(KEYS)
    print("| |", " | ".join(COLUMNS), "|\n|" + "---|" * (1 + len(COLUMNS)), flush=True)
    total: Counter[str] = Counter()
    short = patch.object(_bucket, "BACKOFF", timedelta(milliseconds=1))
    with tempfile.TemporaryDirectory() as folder, moto() as server, short:
        proxy = Proxy(server.url, refused)
        with served(proxy) as os.environ["AWS_ENDPOINT_URL"]:
            home = Path(folder)
            make_experiment(home, given.samples, random.Random(0))
            command = ["extract", f"--registry={home}/registry.yaml"]
            command += [f"--manifest={home}/manifest.csv", *SMALL, "--store"]
            for what, at, spoil in spoils(home, proxy):
                if not what.startswith(tuple(given.what) or ""):
                    continue
                counts = examine_all(command, f"{at}/{what}".replace(" ", "-"), spoil, given.every)
                print(f"| {what} |", *(f"{counts[column]} |" for column in COLUMNS), flush=True)
                total += counts
    sys.exit(any(total[column] for column in COLUMNS[3:]))


def spoils(home: Path, proxy: Proxy) -> Iterator[tuple[str, str, Spoil]]:
    """Yield what is tried: its name, where its stores are, and how it goes wrong."""
    for fault in ("fails", "torn", "unheard", "fails for good"):
        yield f"disk, {fault}", str(home), on_disk(fault)
    bucket = f"s3://{BUCKET}"
    for name, does in (("fails", refused), ("torn", torn), ("unheard", lost), ("twice", twice)):
        yield f"S3, {name}", bucket, on_server(proxy, does)
    yield "S3, fails for good", bucket, on_server(proxy, refused, always=True)


if __name__ == "__main__":
    benchmark()
