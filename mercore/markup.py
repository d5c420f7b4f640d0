"""A table of texts, written as Markdown or as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN = re.compile(r"([\\`*_~<>\[\]|&])")
_MINUS = re.compile(r"(?<!\w)-(?=\d)")


@dataclass(frozen=True)
class Grid:
    """A table; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    """How many of the first columns hold words; the others hold numbers and lie to the right."""


def markdown(grid: Grid) -> str:
    """Return the table in GitHub's Markdown, columns aligned for those who read the source."""
    rows = [[_markdown(cell) for cell in row] for row in (grid.columns, *grid.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(grid.columns))]
    rule = [
        "-" * width if i < grid.left else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ]
    lines = [
        " | ".join(
            cell.ljust(width) if i < grid.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (rows[0], rule, *rows[1:])
    ]
    return "".join(f"| {line} |\n" for line in lines)


def latex(grid: Grid) -> str:
    """Return the table as a LaTeX ``tabular``; it takes the package booktabs.

    It has no caption and no float: those are the paper's.
    """
    form = "l" * grid.left + "r" * (len(grid.columns) - grid.left)
    head, *body = (
        " & ".join(map(_latex, row)) + r" \\" + "\n" for row in (grid.columns, *grid.rows)
    )
    return (
        f"\\begin{{tabular}}{{{form}}}\n\\toprule\n{head}\\midrule\n{''.join(body)}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _latex(text: str) -> str:
    words = " ".join(text.split())
    # A hyphen before a digit is a minus, which LaTeX sets wider.
    parts = ("".join(_LATEX.get(sign, sign) for sign in part) for part in _MINUS.split(words))
    return "$-$".join(parts)
