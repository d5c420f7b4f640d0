"""Reasons why something is not computed as before, for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercore.recipes import Change

Json = dict[str, Any]
_LONG = 60  # characters of a value that are shown


def changed(change: Change) -> Json:
    """Return one reason."""
    return {"what": change.what, "before": change.before, "after": change.after}


def why(change: Json) -> str:
    """Return one reason for people."""
    what, before, after = change["what"], change["before"], change["after"]
    kind = what.partition(" ")[0]
    if what == "samples":
        return "other samples: their splits, their files, or which of them failed"
    if what.endswith("media"):
        return f"{what.removesuffix('media')}media are decoded otherwise"
    if kind in ("stream", "feature") and ":" not in what:
        return f"{what} changed"
    if kind in ("branch", "mining", "ensemble"):
        return f"{what} {after}"
    if what == "name":
        return f"is {before} by another name: the store goes by the name"
    return f"{what}: {shown(before)} -> {shown(after)}"


def shown(value: Any) -> str:
    """Return a value of an option for people, cut where it is long."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."
