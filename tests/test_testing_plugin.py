from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mercore.decode import decode
from mercore.media import Audio, Frames, Video, Waveform

SUITE = """\
import numpy as np
import pytest
from mercore import Decision
from mercore.testing import EnsembleTests, xfail
from mercore.voting import Majority


class Loud(Majority):
    def decide(self, votes):
        found = super().decide(votes)
        return Decision(found.labels, 2 * found.probabilities, found.support)


class TestMajority(EnsembleTests):
    component = Majority()

    @xfail(reason="it holds all the same")
    def test_one_branch_is_enough(self):
        super().test_one_branch_is_enough()

    def test_of_its_own(self):
        pass


class TestLoud(EnsembleTests):
    component = Loud()

    @xfail(reason="another has the name")
    def test_it_is_registered(self):
        super().test_it_is_registered()

    @pytest.mark.skipif(True, reason="not now")
    @xfail(reason="skipped")
    def test_importing_is_light(self):
        super().test_importing_is_light()


def test_no_check():
    pass
"""
LIGHT = """\
import sys


def test_nothing_heavy_was_imported():
    assert "mercore.testing._plugin" in sys.modules
    assert not {"av", "numpy", "pydantic", "torch"} & sys.modules.keys()
"""


def run(folder: Path, *options: str) -> str:
    # The other plugins of this environment are nobody's here.
    others = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *others, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with suites whose checks come to each verdict, and a test that is no check."""
    path = tmp_path_factory.mktemp("suites")
    (path / "test_suites.py").write_text(SUITE)
    return path


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_the_table_has_each_component_with_its_checks_and_verdicts(
    folder: Path, options: tuple[str, ...]
) -> None:
    table = run(folder, "--mercore-verdicts", *options).partition("mercore verdicts")[2]
    first, _, second = table.partition("majority (test_suites.py::TestLoud)")
    assert "majority (test_suites.py::TestMajority)" in first
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in second.splitlines() if line}
    assert lines["test_ties_are_decided_and_always_alike"] == "passed"
    assert lines["test_probabilities_sum_to_1"] == "failed majority: rows sum to 2.0 .. 2.0"
    assert lines["test_it_is_registered"] == "overridden another has the name"
    assert lines["test_importing_is_light"] == "skipped not now"
    assert "test_one_branch_is_enough failed [XPASS(strict)]" in " ".join(first.split())
    assert "test_of_its_own" not in table
    assert "test_no_check" not in table


def test_the_marker_tells_the_checks_from_other_tests(folder: Path) -> None:
    assert "2 passed" in run(folder, "-m", "not mercore", "--strict-markers")
    assert "no check of mercore.testing was run" in run(
        folder, "-m", "not mercore", "--mercore-verdicts"
    )


def test_a_run_of_another_project_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(LIGHT)
    assert "1 passed" in run(tmp_path)


def test_the_clips_are_a_second_of_sound_and_pictures(
    mercore_audio_clip: Path, mercore_video_clip: Path
) -> None:
    for clip in (mercore_audio_clip, mercore_video_clip):
        sound = decode(str(clip), Audio(rate=16_000))
        assert isinstance(sound, Waveform)
        assert sound.seconds == pytest.approx(1.0, abs=0.1)
    shown = decode(str(mercore_video_clip), Video())
    assert isinstance(shown, Frames)
    assert len(shown.pixels) == 10
