"""Word error rates."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein


def error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the errors in the words understood, over the words spoken: (spoken, understood)."""
    words = [(plain(spoken), plain(understood)) for spoken, understood in pairs]
    errors = sum(Levenshtein.distance(spoken, understood) for spoken, understood in words)
    return errors / sum(len(spoken) for spoken, _ in words)


def plain(text: str) -> list[str]:
    """Return the words in lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())
