"""Trainings side by side that differ in some options: the paper's Table 2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.errors import RunError
from mercore.media import FloatArray
from mercore.tuning.offers import feature_of
from mercore.tuning.tune import job_of, on_labels

if TYPE_CHECKING:
    from mercore.project import Project
    from mercore.tuning._job import Job, Part

Options = Mapping[str, Any]


def variations(options: Options, vary: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the options of each combination of values, in order."""
    both = sorted(options.keys() & vary.keys())
    if both:
        raise RunError(f"--vary and --with both give {', '.join(both)}; leave one out")
    return [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]


def compare(
    project: Project,
    name: str,
    options: Options,
    vary: Mapping[str, Sequence[Any]],
    out: str | Path,
    *,
    fold: int = 0,
) -> list[dict[str, JsonValue]]:
    """Return what each variation came to, each trained in a folder of its own below `out`.

    ``probe`` is the WAF of a linear classifier on the features that the trained encoder gives.
    """
    node, varied = feature_of(project, name), variations(options, vary)
    for each in varied:  # all mistakes before the first training
        encoder, tuning, _ = on_labels(project, node, {**options, **each})
        tuning.trunk(encoder)
    rows: list[dict[str, JsonValue]] = []
    for each in varied:
        job = job_of(project, name, {**options, **each}, Path(out) / _folder(each), fold=fold)
        rows.append({"varied": each, **job.run(), "probe": _probe(project, job)})
    return rows


def _probe(project: Project, job: Job) -> dict[str, JsonValue]:
    """Return what is kept of ``probed`` beside a training; it is computed once."""
    if (kept := job.folder.read("probe.json")) is not None:
        return kept
    found: dict[str, JsonValue] = {**probed(project, job)}
    job.folder.save_probe(found)
    return found


def _folder(varied: Options) -> str:
    parts = [f"{name}={value}" for name, value in varied.items()]
    return re.sub(r"[^\w=.,-]+", "_", ",".join(parts)) or "one"


def probed(project: Project, job: Job) -> dict[str, float]:
    """Return how well a linear classifier does on the features of a trained encoder."""
    from mercore.tuning._data import Samples
    from mercore.tuning._probe import encoded, probe

    encoder = job.tuning.trained(job.encoder, job.folder.checkpoint)

    def of(part: Part) -> tuple[FloatArray, IntArray]:
        assert isinstance(part.source, Samples)
        samples = part.source.samples
        reader = part.source.reader.of(encoder)
        features, rows = encoded(encoder, reader, samples, project.machine)
        names = [str(samples[row].label) for row in rows.tolist()]
        return features, np.array([project.classes.index(name) for name in names], np.int64)

    return probe(*of(job.train), *of(job.valid), len(project.classes))
