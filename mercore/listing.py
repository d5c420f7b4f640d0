"""The samples that a report lists, and where a reader finds their clips."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote

import numpy as np
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.manifest import is_text_file
from mercore.results import Result

ROWS = 300  # keeps the HTML of 20,000 samples far below 2 MB; predictions.csv has them all
UNCERTAIN = 20
WORDS = 200


def first(result: Result) -> IntArray:
    """Return the indices of the samples to list, those the branches did not train on first."""
    training = np.array(result.splits) == "train"
    return np.argsort(training, kind="stable")[:ROWS]


def uncertain(result: Result) -> IntArray:
    """Return the indices of the decisions with the least support, then the least probable."""
    top = result.decision.probabilities.max(axis=1)
    return np.lexsort((top, result.decision.support))[:UNCERTAIN]


def rows(result: Result, indices: IntArray) -> JsonValue:
    """Return a row for each of the samples, as ``mercore.report`` describes it."""
    voted = {branch.name: branch.labels for branch in result.branches}
    return [_row(result, voted, i) for i in indices.tolist()]


def _row(result: Result, voted: Mapping[str, IntArray], i: int) -> JsonValue:
    classes, decided = result.classes, int(result.decision.labels[i])
    probabilities, label = result.decision.probabilities[i], int(result.labels[i])
    others = np.where(np.arange(len(classes)) == decided, -1, probabilities)
    return {
        "id": result.ids[i],
        "split": result.splits[i],
        "label": classes[label] if label >= 0 else None,
        "decided": classes[decided],
        "probability": float(probabilities[decided]),
        "support": float(result.decision.support[i]),
        "second": classes[int(others.argmax())],
        "branches": {name: classes[labels[i]] for name, labels in voted.items()},
        "clip": _clip(result.media[i], result.folder),
        "words": _words(result.media[i]),
    }


def _clip(media: Mapping[str, str], folder: str) -> str | None:
    """Return a link to the video, else the audio, else the text file; None where there is none.

    It is relative, so that it holds where folder and clips are moved or served together, and every
    sign that a browser could take for another thing than a path is quoted.
    """
    text = media.get("text", "")
    file = media.get("video") or media.get("audio") or (text if is_text_file(text) else None)
    return quote(os.path.relpath(file, folder)) if file else None


def _words(media: Mapping[str, str]) -> str | None:
    """Return the words of the manifest, or the start of them; None where they are in a file."""
    text = media.get("text", "")
    if not text or is_text_file(text):
        return None
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"
