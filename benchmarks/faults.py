"""Let each write of an extraction go wrong in turn, on a disk and on S3, and look for what is lost.

    python benchmarks/faults.py [--samples 40] [--every 1] [PLACE]...

`mer extract` runs once for each file that it writes (or each `every`-th), and that write goes wrong:

    fails       nothing of it is written
    torn        half of its bytes are written, then the process ends; on S3 the connection breaks off
    unheard     it is written, but the answer is an error

On S3 the client sends such a request again, which may be its duplicate; `fails for good` is a
server that refuses all from there on. Then `mer extract` is run once more, undisturbed. What is
left after each of the two is compared, byte for byte, with what an undisturbed one left.

    ended       runs that ended with an error; the others went on by themselves
    known       samples that were said to be done
    lost        of these, not there afterwards
    wrong       there, but not what the undisturbed one left
    torn        stores with a damaged or incomplete part
    not mended  not like the undisturbed one after running again

The exit status is 1 if one of the last four is not 0. The plugin is that of the tests, and the
server is moto's.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kill_child import run
from kill_jobs import samples_in

from mercore.errors import MercoreError, RunError
from mercore.store import Collection
from mercore.store._disk import LocalFiles
from mercore.store._files import Content

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

COLUMNS = ("writes", "ended", "known", "lost", "wrong", "torn", "not mended")
Writes = Callable[[], int]
"""How many writes there were."""
Spoiling = Callable[[int], AbstractContextManager[Writes]]
"""Let the write of a number go wrong; the value says how many there were."""


class Death(BaseException):
    """The process is gone."""


@contextmanager
def spoilt_disk(fault: str, number: int) -> Iterator[Writes]:
    """Let one write to a disk go wrong."""
    stage, publish, publish_new = (
        getattr(LocalFiles, name) for name in ("_stage", "_publish", "_publish_new")
    )
    writes, unheard = count(), set()

    def staging(files: LocalFiles, path: Path, content: Content) -> Path:
        hit = next(writes) == number
        if hit and fault == "fails":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if hit and fault == "torn":
            whole = b"".join(bytes(piece) for piece in content)
            stage(files, path, [whole[: len(whole) // 2]])
            raise Death
        temporary: Path = stage(files, path, content)
        if hit:
            unheard.add(temporary)
        return temporary

    def publishing(action: Callable[..., None], files: LocalFiles, old: Path, new: Path) -> None:
        action(files, old, new)
        if old in unheard:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with ExitStack() as patches:
        for name, new in (
            ("_stage", staging),
            ("_publish", lambda *given: publishing(publish, *given)),
            ("_publish_new", lambda *given: publishing(publish_new, *given)),
        ):
            patches.enter_context(patch.object(LocalFiles, name, new))
        yield lambda: next(writes)


@contextmanager
def spoilt_server(proxy: Any, fault: Any, always: bool, number: int) -> Iterator[Writes]:
    """Let one request that writes go wrong, or all from there on."""
    proxy.fault, proxy.always, proxy.left = fault, always, number
    yield lambda: number - proxy.left
    proxy.left = None


def examine(
    command: list[str], store: str, wanted: Mapping[str, object], spoilt: Any
) -> Counter[str]:
    """Return the counts of one write."""
    known: set[str] = set()
    commit, counts = Collection.commit, Counter({"writes": 1})

    def noting(at: Collection, rows: Any) -> None:
        commit(at, rows)
        known.update(f"{at.identity.folder} {row.id}" for row in rows)

    with patch.object(Collection, "commit", noting), spoilt, suppress(Death):
        try:
            counts["ended"] = 1
            run([*command, store])
            counts["ended"] = 0
        except RunError:
            pass
    counts["known"] = len(known)
    try:
        found = samples_in(store)
        counts["lost"] = len(known - found.keys())
        counts["wrong"] = sum(found[key] != wanted[key] for key in found)
    except MercoreError as error:
        print(error, file=sys.stderr)
        counts["torn"] = 1
    with suppress(MercoreError):
        run([*command, store])
        counts["not mended"] = int(samples_in(store) != wanted)
        return counts
    counts["not mended"] = 1
    return counts


def examine_all(command: list[str], store: str, spoil: Spoiling, every: int) -> Counter[str]:
    """Return the counts of all writes."""
    run([*command, f"{store}-undisturbed"])
    wanted, total = samples_in(f"{store}-undisturbed"), Counter[str]()
    for number in count(0, every):
        with spoil(number) as writes:
            pass
        spoilt = spoil(number)
        total += examine(command, f"{store}-{number}", wanted, spoilt)
        if writes() < number:
            return total
    return total
