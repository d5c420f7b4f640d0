"""Who is told how a command goes on: progress bars, and what --log and --metrics name."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mercore import __version__
from mercore.cli.signals import Stopped, stoppable

if TYPE_CHECKING:
    from mercore.events import Event, RunStarted
    from mercore.watch import Watch

_STOPPING = "Stopping after what is under way; once more ends at once"


@contextmanager
def watching(options: dict[str, Any], registry: str | Path) -> Iterator[Watch]:
    """Give the Watch of a command, and tell it how the command begins and ends.

    Takes ``log`` and ``metrics`` out of the options; RunError for a file that cannot be written.
    """
    from mercore.progress import Bars
    from mercore.watch import Several

    began = time.monotonic()
    log, metrics = options.pop("log"), options.pop("metrics")
    with ExitStack() as stack:
        watch = Several([*_files(log, metrics, stack), stack.enter_context(Bars())])
        watch.note(_begun(Path(registry)))
        try:
            with stoppable(_STOPPING):
                yield watch
        except BaseException as error:
            watch.note(_broken_off(error, time.monotonic() - began))
            raise
        watch.note(_finished(time.monotonic() - began))


def _files(log: str | None, metrics: str | None, stack: ExitStack) -> list[Watch]:
    """Return those who write files; what they open is closed with the stack."""
    from mercore.log import Log
    from mercore.openmetrics import Metrics

    if log is not None and metrics is not None and os.path.abspath(log) == os.path.abspath(metrics):
        raise click.UsageError(f"--log and --metrics both name {log!r}: each needs its own file")
    watches: list[Watch] = []
    if log is not None:
        watches.append(stack.enter_context(Log(log, _warn)))
    if metrics is not None:
        watches.append(Metrics(metrics, _warn))
    return watches


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)


def _begun(registry: Path) -> RunStarted:
    from mercore.events import RunStarted

    return RunStarted(
        command=click.get_current_context().info_name or "",
        version=__version__,
        registry=str(registry),
        fingerprint=_fingerprint(registry),
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def _fingerprint(file: Path) -> str | None:
    """Return 12 hexadecimal digits of what is in the file, None where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError:  # the command itself says so
        return None


def _finished(seconds: float) -> Event:
    from mercore.events import RunFinished

    return RunFinished(seconds)


def _broken_off(error: BaseException, seconds: float) -> Event:
    from mercore.events import RunFailed, RunInterrupted

    if isinstance(error, KeyboardInterrupt):
        name = error.name if isinstance(error, Stopped) else "SIGINT"
        return RunInterrupted(name, seconds)
    return RunFailed(type(error).__name__, str(error), seconds)
