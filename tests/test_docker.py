"""The container files, which are not built here: read by hadolint, and compared with the clone."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "docker/Dockerfile", ROOT / "docker/Dockerfile.gpu"]
HADOLINT = Path(sys.executable).with_name("hadolint")

both = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return the name and the arguments of each instruction."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def last_stage(file: Path) -> list[tuple[str, str]]:
    found = instructions(file)
    start = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


@both
def test_hadolint_finds_nothing(file: Path) -> None:
    command = [str(HADOLINT), "--failure-threshold", "style", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@both
def test_each_base_is_pinned(file: Path) -> None:
    stages: set[str] = set()
    for base in (about for name, about in instructions(file) if name == "FROM"):
        image, _, stage = base.partition(" AS ")
        assert image in stages or re.search(r":.*\d", image), base
        assert not image.endswith(":latest")
        stages.add(stage)


@both
def test_the_image_runs_mer_as_a_user_who_is_not_root(file: Path) -> None:
    told = dict(last_stage(file))
    made = re.search(r"useradd .*--uid (\d+)", told["RUN"])
    assert made
    assert told["USER"] == made[1] != "0"
    assert told["ENTRYPOINT"] == '["mer"]'


@both
def test_the_image_has_neither_sources_nor_caches(file: Path) -> None:
    copied = [about for name, about in last_stage(file) if name == "COPY"]
    assert copied == ["--from=build /opt/mercore /opt/mercore"]
    runs = " ".join(about for name, about in instructions(file) if name == "RUN")
    assert runs.count("pip install") == runs.count("pip install --no-cache-dir")
    assert runs.count("apt-get update") == runs.count("rm -rf /var/lib/apt/lists/*")


@both
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for about in (about for name, about in instructions(file) if name == "COPY"):
        if about.startswith("--from"):
            continue
        for source in about.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


@both
def test_all_plugins_are_installed_by_the_constraints_with_extras_that_exist(file: Path) -> None:
    installed = next(
        about for name, about in instructions(file) if name == "RUN" and "constraints" in about
    )
    assert "-c constraints.txt" in installed
    assert "./plugins/*/" in installed
    for path, extras in re.findall(r'"(\.[^"\[]*)\[([^\]]*)\]"', installed):
        about = tomllib.loads((ROOT / path / "pyproject.toml").read_text())["project"]
        assert set(extras.split(",")) <= set(about["optional-dependencies"])
