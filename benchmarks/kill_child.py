"""What kill.py kills: a process that says what it has done, once that is on the disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from click.testing import CliRunner

from mercore import folder
from mercore.cli import main
from mercore.engines._crew import Crew
from mercore.errors import RunError
from mercore.folder import RunFolder
from mercore.store import Collection, Store
from mercore.store._disk import LocalFiles

PRELOADED = ["click.testing", "mercore.cli.show", "mercore.cli.tables", "mercore.extract"]
PRELOADED += ["mercore.project", "safetensors.numpy", "sklearn.model_selection", "zarr"]
"""Imported before a child starts: importing takes longer than what is to be killed."""

LOCK = Lock()
"""A pipe is not for several threads."""


def child(arguments: Sequence[str], to: Connection) -> None:
    """Run a command, and send the names of what it has written, then how long it took.

    Before the names nothing is sent for each file, by which it is seen how far it is.
    """
    for kind, method in ((LocalFiles, "_stage"), (folder, "replace")):
        say_after(to, kind, method, lambda *_: [])
    say_after(
        to, Collection, "commit", lambda at, rows: [f"{at.identity.folder} {r.id}" for r in rows]
    )
    say_after(to, Crew, "_committed", lambda crew, _, message: done(crew, message.ids))
    say_after(to, RunFolder, "save_branch", lambda at, name, *_: [f"{at.path}/branches/{name}"])
    to.send([])
    began = time.perf_counter()
    try:
        run(arguments)
    except RunError as error:  # such as for a worker that was killed before it was ready
        sys.exit(str(error))
    to.send(time.perf_counter() - began)


def done(crew: Crew, ids: Sequence[str]) -> list[str]:
    """Return the names of the samples that a worker process has committed."""
    node = crew._extraction.node
    return [f"{group}/{node.name}@{node.fingerprint} {id}" for group in node.groups for id in ids]


def say_after(to: Connection, kind: object, method: str, names: Callable[..., list[str]]) -> None:
    """Let a method, or a function, send the names of what it was given once it has returned."""
    silent = getattr(kind, method)

    def speaking(*arguments: Any) -> Any:
        result = silent(*arguments)
        with LOCK:
            to.send(names(*arguments))
        return result

    setattr(kind, method, speaking)


def run(arguments: Sequence[str]) -> None:
    """Run a command of `mer`, or ``compact STORE``, to its end; print nothing."""
    if arguments[0] == "compact":
        for collection in Store(arguments[1]).collections():
            collection.compact()
        return
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    if result.exit_code not in (0, 3):  # 3: some samples failed, as they should
        raise RunError(result.output)
