"""The tables of scores that the commands print on the terminal, as Markdown or as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich.cells import cell_len

from mercore.cli.show import Json
from mercore.markup import Grid

_LONGEST = 30  # columns: longer words are broken where there is no room


def split_name(name: str) -> str:
    """Return how a split is called where scores are shown."""
    return "train (cross-validated)" if name == "train" else name


def branch_scores(report: Mapping[str, JsonValue]) -> Grid:
    """Return one row a labelled split and branch: it fits a terminal whatever the splits."""
    from mercore.report import summary_table

    columns = ("branch", "split", "WAF", "95% interval", "accuracy")
    rows = [
        (
            row.branch,
            split_name(row.split),
            f"{row.waf:.4f}",
            _interval(row.low, row.high),
            f"{row.accuracy:.4f}",
        )
        for row in summary_table(report)
    ]
    return Grid(columns, rows, left=2)


def branches_by_split(report: Mapping[str, JsonValue]) -> Grid:
    """Return one row a branch and the columns of every labelled split: for papers."""
    from mercore.report import summary_table

    scores = summary_table(report)
    splits = list(dict.fromkeys(row.split for row in scores))
    columns = [f"{what}, {split_name(split)}" for split in splits for what in ("WAF", "accuracy")]
    found = {(row.branch, row.split): row for row in scores}
    rows = [
        (branch, *(cell for split in splits for cell in _cells(found[branch, split]._asdict())))
        for branch in dict.fromkeys(row.branch for row in scores)
    ]
    return Grid(("branch", *columns), rows)


def _cells(score: Mapping[str, float]) -> tuple[str, str]:
    interval = _interval(score["low"], score["high"])
    return f"{score['waf']:.4f} ({interval})", f"{score['accuracy']:.4f}"


def ablation(about: Json) -> Grid:
    """Return one row a combination of features, the best first."""
    others = [split for split in about["splits"] if split != "train"]
    columns = ("features", "reads", "WAF (CV)", "accuracy", "vs best", "p")
    rows = [_ablated(row, about["features"], others) for row in about["rows"]]
    return Grid((*columns, *(f"WAF, {split}" for split in others)), rows, left=2)


def _ablated(row: Json, features: Json, others: Sequence[str]) -> tuple[str, ...]:
    return (
        " + ".join(row["features"]),
        " + ".join(" & ".join(features[name]["reads"]) for name in row["features"]),
        *_cells(row["scores"]["train"]),
        *_behind(row["behind"]),
        *(f"{row['scores'][split]['waf']:.4f}" for split in others),
    )


def _behind(difference: Json | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    value, p = difference["waf"], difference["p_holm"]
    interval = _interval(difference["low"], difference["high"])
    return f"{value:.4f} ({interval})", "<0.001" if p < 0.001 else f"{p:.3f}"


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"


def widths(grid: Grid, room: int) -> list[int]:
    """Return how wide each column is: the widest give way, as far as their words stay whole."""
    columns = [list(column) for column in zip(grid.columns, *grid.rows, strict=True)]
    widths = [max(map(cell_len, cells)) for cells in columns]
    least = [
        min(_LONGEST, max((cell_len(word) for cell in cells for word in cell.split()), default=1))
        for cells in columns
    ]
    gaps = 2 * (len(columns) - 1)
    while sum(widths) + gaps > room:
        able = [i for i, width in enumerate(widths) if width > least[i]]
        if not able:
            break
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths
