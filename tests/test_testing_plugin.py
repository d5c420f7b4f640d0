from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mercore.decode import decode
from mercore.media import Audio, Frames, Video, Waveform

PLUGIN = "mercore.testing._plugin"
SUITE = """\
import numpy as np
import pytest
from mercore import Decision
from mercore.testing import EnsembleTests, xfail
from mercore.voting import Majority


class Loud(Majority):
    def decide(self, votes):
        found = super().decide(votes)
        return Decision(found.labels, np.ones_like(found.probabilities), 2 * found.support)


class TestMajority(EnsembleTests):
    component = Majority()

    @xfail(reason="it needs two")
    def test_one_branch_is_enough(self):
        super().test_one_branch_is_enough()

    def test_of_its_own(self):
        pass


class TestLoud(EnsembleTests):
    component = Loud()

    @xfail(reason="it is loud")
    def test_probabilities_sum_to_1(self):
        super().test_probabilities_sum_to_1()

    @pytest.mark.skip(reason="not now")
    @xfail(reason="skipped")
    def test_one_branch_is_enough(self):
        super().test_one_branch_is_enough()


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
    # The plugins of others take seconds to import.
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    always = ("-q", "-p", "no:cacheprovider", "-p", PLUGIN, "-W", "error")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *always, *options],
        cwd=folder,
        env=os.environ | environment,
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


@pytest.mark.parametrize("options", [(), ("-p", "xdist.plugin", "-n", "1")], ids=["alone", "xdist"])
def test_the_table_has_each_component_with_its_checks_and_verdicts(
    folder: Path, options: tuple[str, ...]
) -> None:
    quick = ("-k", "sum_to_1 or support or one_branch or of_its_own or no_check")
    table = run(folder, "--mercore-verdicts", *quick, *options).partition("mercore verdicts")[2]
    first, _, second = table.partition("majority (test_suites.py::TestLoud)")
    assert "majority (test_suites.py::TestMajority)" in first
    assert "test_one_branch_is_enough failed [XPASS(strict)] it needs" in " ".join(first.split())
    assert "2 passed, 1 failed" in first
    lines = {
        line.split()[0]: " ".join(line.split()[1:]) for line in second.splitlines() if line.strip()
    }
    assert lines["test_probabilities_sum_to_1"] == "overridden it is loud"
    assert lines["test_one_branch_is_enough"] == "skipped not now"
    support = lines["test_support_is_the_share_of_branches_that_agree"]
    assert support.startswith("failed majority: support is [")
    assert "test_of_its_own" not in table
    assert "test_no_check" not in table


def test_the_marker_tells_the_checks_from_other_tests(folder: Path) -> None:
    found = run(folder, "-m", "not mercore", "--strict-markers", "--mercore-verdicts")
    assert "no check of mercore.testing was run" in found
    assert "2 passed" in found


def test_a_run_of_another_project_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(LIGHT)
    assert "1 passed" in run(tmp_path)


def test_pytest_finds_the_plugin_by_itself(request: pytest.FixtureRequest) -> None:
    (found,) = entry_points(group="pytest11", name="mercore")
    assert found.value == PLUGIN
    assert request.config.pluginmanager.has_plugin("mercore")


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
