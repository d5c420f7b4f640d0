"""What can happen to a machine: kills, full and read-only disks, two processes at one store."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mercore.branches import Fold, Trained
from mercore.cli import main
from mercore.errors import RunError
from mercore.folder import RunFolder
from mercore.predict import Predictor
from mercore.store import Store
from mercore.store._disk import LocalFiles
from mercore.store._files import Content
from mercore.store._parts import Array

ROOT = Path(__file__).parent.parent
REGISTRY = """\
classes: [sad, happy]
streams:
  loud: {uses: shout, inputs: {text: text}}
features:
  few: {uses: letters, inputs: {text: text}, with: {letters: 5}, frames: true}
  all: {uses: letters, inputs: {text: text}}
  shouted: {uses: letters, inputs: {text: loud}}
fusion: centroid
branches:
  one: few
  both: few + all
ensemble: rank_mode
folds: 3
"""
SMALL = ("--batch=0.02", "--parallel=2", "--device=cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment on a hundred samples, no two of them alike."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    rows = ["id,split,label,text"]
    for number in range(100):
        words = "a" * number + " " + "b" * (number % 7) + " padding" * 8
        rows.append(f"s{number},train,{('sad', 'happy')[number % 2]},{words}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def done(*arguments: str) -> Result:
    """Return the result of a command that must succeed."""
    result = mer(*arguments)
    assert result.exit_code == 0, result.output
    return result


def contents(path: Path) -> Mapping[str, object]:
    """Return all that a store holds of each sample; a damaged file is an error."""
    found: dict[str, object] = {}
    for collection in Store(path, create=False).collections():
        collection.verify()
        for id, entry in collection.entries().items():
            found[f"{collection.identity.folder} {id}"] = (entry, collection.sequence(id).tolist())
    return found


@pytest.fixture
def undisturbed(folder: Path) -> Mapping[str, object]:
    """What the store holds after an extraction that nothing went wrong with."""
    done("extract", "--store", "undisturbed.zarr")
    return contents(folder / "undisturbed.zarr")


@pytest.mark.slow
def test_random_kills_lose_nothing_and_leave_nothing_half_done() -> None:
    script = str(ROOT / "benchmarks" / "kill.py")
    jobs = ["extraction", "training", "mining", "compaction"]
    command = [sys.executable, script, "--kills=2", "--samples=60", *jobs]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split("|")[1:-1] for line in result.stdout.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == jobs
    assert sum(int(row[2]) for row in rows) > 0, "all kills came too early or too late"


# A run folder


def trained(value: float) -> Trained:
    fold = Fold({"centres": np.full((2, 3), value)}, {"few": np.full((1, 3), value, np.float32)})
    table = np.tile(np.array([1 / value, 1 - 1 / value], np.float32), (4, 1))
    return Trained((fold, fold), table, 0.5, (0.5, 0.5), 0, 1.0)


def save(path: Path, value: float) -> None:
    ids, classes = ["a", "b", "c", "d"], ["sad", "happy"]
    about = {"key": f"{value}", "features": {"few": "f"}, "fusion": {"name": "centroid"}}
    RunFolder(path).save_branch("one", about, trained(value), ids, classes)


def branch_of(path: Path) -> float | None:
    """Return the number in all parts of the branch; None where it is not complete."""
    run = RunFolder(path)
    about = run.trained("one")
    if about is None:
        return None
    value = float(about["key"])
    parts: list[Array] = [1 / run.probabilities("one", ["a", "b", "c", "d"], 2)[:, :1]]
    for fold in run.folds("one", 2):
        parts += [*fold.weights.values(), *fold.means.values()]
    for part in parts:
        np.testing.assert_array_equal(part, value)
    return value


class Death(BaseException):
    """The process is gone."""


def dying(monkeypatch: pytest.MonkeyPatch, left: int, reason: BaseException) -> list[str]:
    """Let `left` steps of writing files go well, and none after: half a file is written then.

    Return the names of the files of all steps, as they come.
    """
    write, rename = Path.write_bytes, Path.replace
    steps: list[str] = []

    def writing(path: Path, content: bytes) -> int:
        steps.append(path.name)
        if len(steps) > left:
            write(path, content[: len(content) // 2])
            raise reason
        return write(path, content)

    def renaming(path: Path, to: Path) -> Path:
        steps.append(to.name)
        if len(steps) > left:
            raise reason
        return rename(path, to)

    monkeypatch.setattr(Path, "write_bytes", writing)
    monkeypatch.setattr(Path, "replace", renaming)
    return steps


@pytest.mark.parametrize("reason", [Death(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
@pytest.mark.parametrize("old", [None, 1.0])
def test_a_branch_that_was_not_saved_to_its_end_is_not_taken_for_one(
    tmp_path: Path, reason: BaseException, old: float | None
) -> None:
    for number in range(100):
        path = tmp_path / str(number)
        if old is not None:
            save(path, old)
        with pytest.MonkeyPatch.context() as patch, suppress(Death, RunError):
            dying(patch, number, reason)
            save(path, 2.0)
            break
        # Before its first step the old one is whole; from then on there is none.
        assert branch_of(path) in (old, None)
        assert number < 2 or branch_of(path) is None
        save(path, 2.0)
        assert branch_of(path) == 2.0
    assert number > 10
    assert branch_of(path) == 2.0


def test_a_branch_that_another_run_has_completed_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    save(tmp_path, 1.0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("old", "new", "command"), [("seed: 0", "seed: 1", "train"), ("cap: 3", "cap: 6", "mine")]
)
def test_a_training_that_is_broken_off_is_not_half_used(
    folder: Path, old: str, new: str, command: str
) -> None:
    """What is applied to new clips is all of the old training, all of the new, or nothing."""
    text = REGISTRY + "seed: 0\n"
    if command == "mine":
        text += "mining: {split: test, rounds: 1, agree: 2, cap: 3}\n"
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("train,", "test,", 40))
    (folder / "word.txt").write_text("aa b padding")
    done("extract", "--device=cpu")
    whole, steps = [], list[str]()
    for name in ("old", "new"):
        (folder / "registry.yaml").write_text(text if name == "old" else text.replace(old, new))
        if name == "new":
            shutil.copytree(folder / "old", folder / "new")
        with pytest.MonkeyPatch.context() as patch:
            steps = dying(patch, 10**6, Death())
            done(command, "--device=cpu", "--out", name)
        whole.append(applied(folder / name))
    assert None not in whole
    assert whole[0] != whole[1]
    # The other files are not looked at before these are there.
    marks = ("registry.yaml", "branch.json", "mining.json")
    for number in [n for n, name in enumerate(steps) if any(mark in name for mark in marks)]:
        shutil.copytree(folder / "old", folder / f"{number}")
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, number, Death())
            with pytest.raises(Death):
                mer(command, "--device=cpu", "--out", str(number))
        assert applied(folder / f"{number}") in (*whole, None), steps[number]


def applied(run: Path) -> tuple[float, ...] | None:
    """Return what a run says of a text; None where it says that it is not whole."""
    try:
        (found,) = Predictor.open(run).predict_files([run.parent / "word.txt"], store="words.zarr")
    except RunError:
        return None
    return tuple(found.probabilities.values())


# A full disk


def mount(*arguments: str | Path) -> None:
    """Mount a file system, where that is permitted: by root on Linux."""
    if not shutil.which("mount"):
        pytest.skip("there is no mount command")
    made = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"mount is not permitted: {made.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=200k", "tmpfs", path)
    yield path
    subprocess.run(["umount", path], check=True)


def check_full(result: Result) -> None:
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "No space left on device; free some space, or give another --store" in line


def test_a_full_disk_ends_the_extraction_and_room_lets_it_go_on(
    folder: Path, small_disk: Path, undisturbed: Mapping[str, object]
) -> None:
    path = small_disk / "mer.zarr"
    check_full(mer("extract", "--store", str(path), *SMALL))
    found = contents(path)
    assert 0 < len(found) < len(undisturbed)
    assert found.items() <= undisturbed.items()
    assert not [each for each in path.rglob(".*") if each.is_file()]
    mount("-o", "remount,size=16m", small_disk)
    done("extract", "--store", str(path), *SMALL)
    assert contents(path) == undisturbed


def room_for(files: int) -> Callable[[LocalFiles, Path, Content], Path]:
    """Return how a disk that has room for so many more files writes one."""
    stage, left = LocalFiles._stage, iter(range(files))

    def writing(files: LocalFiles, path: Path, content: Content) -> Path:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return stage(files, path, content)

    return writing


def test_a_full_disk_at_any_commit_is_told_in_one_line(
    folder: Path, undisturbed: Mapping[str, object]
) -> None:
    for most in (0, 7, 40, 90):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalFiles, "_stage", room_for(most))
            check_full(mer("extract", *SMALL))
    done("extract", *SMALL)
    assert contents(folder / "mer.zarr") == undisturbed


def test_a_full_disk_spares_the_run_folder(folder: Path, small_disk: Path) -> None:
    done("extract")
    (small_disk / "ballast").write_bytes(bytes(190 * 1024))
    result = mer("train", "--device=cpu", "--out", str(small_disk / "run"))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: cannot write {small_disk}")
    assert "No space left on device" in line
    (small_disk / "ballast").unlink()
    for command in ("train", "ensemble"):
        done(command, "--out", str(small_disk / "run"))
        done(command)
    for name in ("predictions.csv", "branches/both/fold0.safetensors"):
        expected = (folder / "runs/default" / name).read_bytes()
        assert (small_disk / "run" / name).read_bytes() == expected


# A store that cannot be written


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Make a folder read-only until the end of the test."""
    undo: list[Callable[[], object]] = []

    def forbid(path: Path) -> None:
        if os.name == "nt":
            pytest.skip("a folder cannot be made read-only on Windows")
        if os.geteuid() == 0:  # whom permissions do not bind
            mount("--bind", path, path)
            undo.append(partial(subprocess.run, ["umount", path], check=True))
            mount("-o", "remount,ro,bind", path)
            return
        for each in (path, *path.rglob("*")):
            mode = each.stat().st_mode
            undo.append(partial(each.chmod, mode))
            each.chmod(mode & ~0o222)

    yield forbid
    for step in undo:
        step()


def test_a_read_only_store_serves_all_that_needs_no_new_sample(
    folder: Path, read_only: Callable[[Path], None]
) -> None:
    done("extract")
    before = contents(folder / "mer.zarr")
    read_only(folder / "mer.zarr")
    for command in ("extract", "status", "train", "ensemble", "report", "run"):
        done(command)
    assert contents(folder / "mer.zarr") == before
    assert Store(folder / "mer.zarr")["few"].matrix(["s3"]).shape == (1, 5)


def test_a_read_only_store_says_so_when_a_sample_is_new(
    folder: Path, read_only: Callable[[Path], None]
) -> None:
    done("extract")
    before = contents(folder / "mer.zarr")
    with (folder / "manifest.csv").open("a") as file:
        file.write("late,test,,a new one\n")
    read_only(folder / "mer.zarr")
    result = mer("extract")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: mer.zarr")
    assert line.endswith("; check the permissions, or give another --store")
    assert contents(folder / "mer.zarr") == before


# Two processes

MER = """
import sys
import mercore.project, mercore.extract, mercore.cli.show, mercore.cli.tables
from mercore.cli import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    """Return a `mer` that begins when it is sent a line."""
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "toys")}
    command = [sys.executable, "-c", MER, *arguments]
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True
    )


@pytest.mark.parametrize("compacting", [False, True])
def test_two_extractions_at_once_lose_nothing(
    folder: Path, undisturbed: Mapping[str, object], compacting: bool
) -> None:
    running = [start("extract", *SMALL) for _ in range(2)]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    compactions = 0
    while compacting and any(process.poll() is None for process in running):
        for collection in Store(folder / "mer.zarr").collections():
            collection.compact()
            compactions += 1
    told = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert compactions or not compacting
    assert contents(folder / "mer.zarr") == undisturbed
    notes = [each.notes() for each in Store(folder / "mer.zarr").collections("features")]
    assert any(len(each) == 2 for each in notes), "the two were not at work at once"
