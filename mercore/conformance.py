"""Runs the conformance suite of `mercore.testing` on an installed component."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from pydantic import JsonValue

from mercore.components import Component, Inputs, MediaComponent
from mercore.errors import CheckpointError, InputError, MercoreError, PluginError, RunError
from mercore.machine import Machine
from mercore.media import Media, Spec, Text, Words
from mercore.packages import needed
from mercore.plugins import KINDS, Plugins
from mercore.weights import MISSING, weights_of

PASSED, FAILED, SKIPPED, XFAILED = "passed", "failed", "skipped", "xfailed"
LEAST_CLIPS = 3
WITHOUT_GPU = ("-k", "not test_devices")

_MODULE = '''\
"""The conformance suite of mercore for {kind} {name!r}."""

from mercore.conformance import component, samples
from mercore.testing import {suite}


class Test{title}({suite}):
    component = component({kind!r}, {name!r}, {options!r})
{samples}'''
_SAMPLES = """\
    samples = samples(component, {clips!r})
"""


@dataclass(frozen=True)
class Check:
    """What one check of the suite came to."""

    name: str
    """The name of the test: ``test_order_is_kept``."""
    outcome: str
    """``passed``, ``failed``, ``skipped`` or ``xfailed``."""
    seconds: float
    message: str = ""
    """What was found and how to cure it; or why it was skipped."""


@dataclass(frozen=True)
class Verdict:
    """What all checks of a component came to."""

    kind: str
    name: str
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.outcome != FAILED for check in self.checks)


def run(
    plugins: Plugins,
    kind: str,
    name: str,
    options: Mapping[str, JsonValue],
    *,
    clips: Sequence[str] = (),
    device: str = "auto",
) -> Verdict:
    """Return what the checks of the component come to; its options are checked first.

    Without `clips` the samples are made up. The checks run on the CPU, and those of devices on a
    GPU too where there is one: `device` is ``auto``, ``cpu`` to leave them out, or ``cuda`` to
    insist on them. Raises RunError without pytest or a GPU that is insisted on, PluginError for too
    few clips, InputError for a clip that cannot be read, CheckpointError for missing weights.
    """
    needed("pytest", f"testing {name!r}", 'run `pip install "mercore[test]"`')
    subject = plugins.build(KINDS[kind], name, options)
    _check_weights(subject)
    if clips:
        samples(subject, clips)  # said once, not by every check
    if device == "cuda":
        Machine(device=device).chosen_device()  # raises where there is none
    with TemporaryDirectory() as folder:
        # pytest keeps modules by their name, and would take an earlier one of the same name.
        path = Path(folder) / f"test_{name}_{uuid4().hex}.py"
        path.write_text(_module(kind, name, options, clips), encoding="utf-8")
        try:
            return Verdict(kind, name, _checks(path, [] if device != "cpu" else WITHOUT_GPU))
        except InputError as error:
            made_up = "" if clips else "the made-up samples; give three or more clips (--clip): "
            raise InputError(f"{name} cannot use {made_up or 'a clip: '}{error}") from error


def component(kind: str, name: str, options: str) -> Component:
    """Return the installed component with its options, which are JSON."""
    return Plugins().build(KINDS[kind], name, json.loads(options))


def samples(component: Component, clips: Sequence[str]) -> list[Inputs]:
    """Return a sample a clip with all that the component reads.

    Text is that of the file of the same name with ``.txt``; the id is the name of the clip. Raises
    PluginError for fewer than three, or for a component that reads no media.
    """
    if not isinstance(component, MediaComponent):
        raise PluginError(f"{component.name!r} reads no media; leave the clips out")
    if len(clips) < LEAST_CLIPS:
        raise PluginError(
            f"clips: found {len(clips)}, expected {LEAST_CLIPS} or more, of different lengths; the "
            "checks compare samples with each other"
        )
    return [
        {name: _medium(clip, name, spec) for name, spec in component.needs().items()}
        for clip in clips
    ]


def _medium(clip: str, name: str, spec: Spec) -> Media:
    from mercore.decode import decode

    if name == "id":
        return Text(Path(clip).stem)
    path = Path(clip).with_suffix(".txt") if isinstance(spec, Words) else Path(clip)
    if not path.is_file():
        beside = " beside the clip" if path != Path(clip) else ""
        raise InputError(f"{str(path)!r}: no such file{beside}, for the input {name!r}")
    return decode(str(path), spec)


def _check_weights(component: Component) -> None:
    for weights in weights_of(component):
        if weights.state == MISSING:
            which = f"the weights {weights.checkpoint!r} are not here; "
            raise CheckpointError(
                f"{component.name}: {which if weights.checkpoint else ''}{weights.cure}"
            )


def _module(kind: str, name: str, options: Mapping[str, JsonValue], clips: Sequence[str]) -> str:
    paths = [str(Path(clip).absolute()) for clip in clips]
    return _MODULE.format(
        kind=kind,
        name=name,
        suite=f"{KINDS[kind].__name__}Tests",
        title="".join(part.title() for part in name.split("_")),
        options=json.dumps(options),
        samples=_SAMPLES.format(clips=paths) if clips else "",
    )


def _checks(path: Path, more: Sequence[str]) -> list[Check]:
    """Return the checks of a test module, run by pytest in this process."""
    import pytest

    reports = _Reports()
    quiet = io.StringIO()
    options = ["-p", "no:cacheprovider", "-p", "no:faulthandler", "--import-mode=importlib"]
    options += ["-q", "--noconftest", "-c", os.devnull, "--rootdir", str(path.parent), *more]
    with redirect_stdout(quiet), redirect_stderr(quiet):
        status = pytest.main([*options, str(path)], plugins=[reports])
    sys.modules.pop(path.stem, None)
    if reports.fatal is not None:
        raise reports.fatal
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if not reports.checks:
        said = quiet.getvalue().strip()
        raise PluginError(f"pytest ran no check (status {int(status)}):\n{said}")
    return reports.checks


@dataclass
class _Reports:
    """A pytest plugin that keeps what each check came to, and stops where all would fail."""

    checks: list[Check] = field(default_factory=list)
    fatal: MercoreError | None = None

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        """Note an error that is none of the check: missing weights, samples that do not suit it.

        The checks themselves take care of what a component may refuse.
        """
        error = call.excinfo.value
        if isinstance(error, CheckpointError | RunError | InputError):
            self.fatal = error
            node.session.shouldstop = "all other checks would end the same way"

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the report of the check itself, or of what comes before it where that ends it."""
        from mercore.testing._verdicts import said  # needs pytest

        if report.when == "call" or (report.when == "setup" and not report.passed):
            name = report.nodeid.rpartition("::")[2]
            outcome = XFAILED if hasattr(report, "wasxfail") else report.outcome
            self.checks.append(Check(name, outcome, report.duration, said(report)))
