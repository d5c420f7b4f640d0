"""The plugin of an outside author, installed beside mercore: it is found, passes, and is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from environments import BUILD, ROOT, environment, run

from mercore.decode import read_audio
from mercore.manifest import Manifest
from mercore.scaffold import Scaffold
from mercore.store import Store

EXAMPLE = ROOT / "examples/third_party_plugin"
DEMO = ROOT / "examples/demo/manifest.csv"
LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
CLASSES = ("angry", "sad")
REGISTRY = """\
classes: [angry, sad]
features:
  voice: {uses: egemaps, inputs: {audio: audio}}
  curve: {uses: egemaps, inputs: {audio: audio}, with: {level: descriptors}, frames: true}
branches: {one: {features: voice + curve, uses: linear}}
folds: 2
"""
THEIRS = """\
import json, numpy, sys
from opensmile import FeatureSet, Smile
found = Smile(FeatureSet.eGeMAPSv02).process_signal(numpy.load(sys.argv[1]), 16_000)
print(json.dumps(found.to_numpy()[0].tolist()))
"""
"""What openSMILE makes of samples, without mercore."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with wheels of mercore, a fusion and the example alone."""
    home = tmp_path_factory.mktemp("environment")
    for source in (ROOT, ROOT / "plugins/linear", EXAMPLE):
        run(*BUILD, "--wheel", "--out-dir", home, source, folder=home)
    wheels = {path.name.partition("-")[0]: path.as_uri() for path in home.glob("*.whl")}
    return environment(
        home,
        f"mercore @ {wheels['mercore']}",
        f"mercore-linear @ {wheels['mercore_linear']}",
        f"mercore-egemaps[test] @ {wheels['mercore_egemaps']}",
    )


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry that uses the example, and six of the demo's clips a class."""
    folder = tmp_path_factory.mktemp("used")
    (folder / "registry.yaml").write_text(REGISTRY)
    rows = ["id,split,label,video"]
    for label in CLASSES:
        ours = [s for s in Manifest.read(DEMO, LABELS).samples if s.label == label]
        rows += [f"{s.id},train,{label},{s.media['video']}" for s in ours[:6]]
    (folder / "manifest.csv").write_text("\n".join([*rows, ""]))
    return folder


def test_it_is_listed_with_what_it_reads_and_gives(programs: Path) -> None:
    listed = json.loads(run(programs / "mer", "plugins", "--json", folder=programs))
    assert listed["broken"] == listed["conflicts"] == []
    (row,) = [row for row in listed["components"] if row["distribution"] == "mercore-egemaps"]
    found = {key: row[key] for key in ("version", "kind", "name", "dim")}
    assert found == {"version": "0.1.0", "kind": "encoder", "name": "egemaps", "dim": 88}


def test_its_licence_is_shown_as_that_of_the_program_it_runs(programs: Path) -> None:
    said = run(programs / "mer", "plugins", "show", "egemaps", folder=programs)
    assert "weights: none needed\nlicence of the program it runs: audEERING" in said
    assert "@article{eyben2016gemaps," in said


def test_the_doctor_finds_nothing_wrong_with_it(programs: Path) -> None:
    found = json.loads(run(programs / "mer", "plugins", "doctor", "--json", folder=programs))
    assert [finding for finding in found["findings"] if finding["severity"] != "note"] == []


def test_its_own_tests_pass(programs: Path, tmp_path: Path) -> None:
    place = tmp_path / "mercore-egemaps"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns(".*_cache", "__pycache__"))
    shutil.rmtree(place / "mercore_egemaps")  # the installed one is tested
    said = run(programs / "pytest", folder=place)
    assert " passed" in said
    assert " failed" not in said


def test_features_of_clips_are_those_of_opensmile(programs: Path, used: Path) -> None:
    done = json.loads(run(programs / "mer", "extract", "--json", folder=used))
    found = {row["name"]: (row["extracted"], row["failed"]) for row in done}
    assert found == {"voice": (12, 0), "curve": (12, 0)}
    sample = Manifest.read(used / "manifest.csv", CLASSES).samples[-1]
    np.save(used / "heard.npy", read_audio(sample.media["video"], 16_000).samples)
    expected = json.loads(run(programs / "python", "-c", THEIRS, used / "heard.npy", folder=used))
    kept = Store(used / "mer.zarr")["voice"].matrix([sample.id])
    np.testing.assert_allclose(kept, [expected], rtol=1e-6)


def test_a_branch_is_trained_on_them(programs: Path, used: Path) -> None:
    (branch,) = json.loads(run(programs / "mer", "train", "--json", folder=used))
    assert branch["features"] == ["voice", "curve"]
    assert min(branch["fold_waf"]) > 0.8


def test_it_began_as_what_mer_new_writes() -> None:
    written = Scaffold("encoder", "egemaps", "The authors of mercore-egemaps").files()
    there = {str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*") if path.is_file()}
    assert set(written) <= there
    for name in (".github/workflows/test.yml", ".gitignore", "mercore_egemaps/py.typed"):
        assert (EXAMPLE / name).read_text() == written[name], name
