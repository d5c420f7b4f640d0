"""What a notebook shows of an object: a short table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Cell = str | int | float | None


def html_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> str:
    """Return the rows as an HTML table."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: Cell) -> str:
    return f"<td>{'' if value is None else escape(str(value))}</td>"
