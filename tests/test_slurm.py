"""The script for SLURM, run without it: `srun` and `mer` say what they are given."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from click import Option

from mercore.cli import main
from mercore.registry import Registry

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples/slurm/extract.sbatch"


def run(folder: Path, **variables: str) -> list[str]:
    """Return the words that the script gives to `srun`."""
    srun = folder / "bin/srun"
    srun.parent.mkdir(exist_ok=True)
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "threads $OMP_NUM_THREADS"\n')
    srun.chmod(0o755)
    environment = {
        "PATH": f"{srun.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "8",
    }
    done = subprocess.run(
        ["bash", SCRIPT], cwd=folder, env=environment | variables,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_each_job_of_the_array_has_one_feature_of_the_paper(tmp_path: Path) -> None:
    features = Registry.read(ROOT / "examples/mer2024/registry.yaml").content.features
    array = re.search(r"--array=0-(\d+)", SCRIPT.read_text())
    assert array
    given = [run(tmp_path, SLURM_ARRAY_TASK_ID=str(task)) for task in range(int(array[1]) + 1)]
    assert [words[:2] for words in given] == [["mer", "extract"]] * len(given)
    assert {words[2] for words in given} == set(features)
    assert given[0][-1] == "threads 8"
    assert f"logs/{given[1][2]}-7.jsonl" in given[1]
    assert (tmp_path / "logs").is_dir()


def test_streams_are_made_by_a_job_of_their_own(tmp_path: Path) -> None:
    assert run(tmp_path, STREAMS="denoised faces")[:5] == [
        "mer", "extract", "denoised", "faces", "--registry"
    ]  # fmt: skip


def test_the_options_are_those_of_the_command(tmp_path: Path) -> None:
    options = {
        name
        for option in main.commands["extract"].params
        if isinstance(option, Option)
        for name in option.opts
    }
    used = {word for word in run(tmp_path) if word.startswith("--")}
    assert used
    assert used <= options


def test_a_job_that_fails_fails(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(tmp_path, SLURM_ARRAY_TASK_ID="99")
