"""Samples that a training leaves out: looked for once, before it, and kept beside it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mercore.components import Inputs
from mercore.errors import InputError, SilentError
from mercore.folder import replace
from mercore.tuning._data import Source, reason_line, reasons
from mercore.watch import Watch

_AT_ONCE = 64  # samples between two reports

Check = Callable[[Inputs], str | None]


def left_out(
    source: Source, check: Check, file: Path, threads: int, watch: Watch
) -> dict[str, str]:
    """Return the samples that `check` finds unfit, by name, with the reason.

    Files of digital silence, which are not read, are among them; others that cannot be read are
    not: the training notes them. What was found is kept in `file`, and not looked for again.
    """
    if not file.exists():
        found = _found(source, check, threads, watch)
        lines = [reason_line(name, reason) for name, reason in found.items()]
        replace(file, "".join(lines).encode())
    return reasons(file)


def _found(source: Source, check: Check, threads: int, watch: Watch) -> dict[str, str]:
    found: dict[str, str] = {}
    watch.start("samples", len(source))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(source), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(source)))
            looked_at = zip(rows, pool.map(partial(_reason, source, check), rows), strict=True)
            found |= {source.name(row): reason for row, reason in looked_at if reason}
            watch.advance("samples", len(rows), 0)
    return found


def _reason(source: Source, check: Check, row: int) -> str | None:
    try:
        return check(source[row])
    except SilentError:
        return "silent"
    except InputError:
        return None
