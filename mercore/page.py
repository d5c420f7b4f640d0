"""The page of a report: one HTML file with its style and script inside."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: Mapping[str, JsonValue], template: str = "report.html.jinja") -> str:
    """Return one HTML page that shows `report` and loads nothing else.

    The content security policy names the page's own script by its hash, so that no other runs.
    """
    from markupsafe import Markup

    script = _read("report.js")
    return (
        _environment()
        .get_template(template)
        .render(
            report,
            css=Markup(_read("report.css")),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )


@cache
def _environment() -> Environment:
    """Return what compiles the templates, and keeps them."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=_duration, rate=_rate, plain=_plain, line=_line)
    return environment


def _duration(seconds: float) -> str:
    """Return seconds as people read them: ``"0.4 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _rate(per_second: float) -> str:
    """Return three digits or all before the point: ``"0.28"``, ``"41.3"``, ``"1,190"``."""
    places = 2 if per_second < 10 else 1 if per_second < 100 else 0
    return f"{per_second:,.{places}f}"


def _plain(value: JsonValue) -> str:
    """Return an option as registry.yaml writes it: ``null`` and ``true``, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return ``(step, value)`` of the rows of a log that have the value."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _read(name: str) -> str:
    return files("mercore").joinpath(name).read_text(encoding="utf-8")
