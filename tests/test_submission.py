from __future__ import annotations

import re
from pathlib import Path

import pytest

from mercore.errors import RunError
from mercore.submission import FORMATS, submit

HEADER = "id,split,label,predicted,support\n"
ROWS = [
    "b,test1,,happy,1.0", "a,train,sad,sad,1.0", "d,unlabelled,,angry,0.5", "c,test1,,neutral,1.0"
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose samples are in an order of their own."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "predictions.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    return folder


def candidates(run: Path, *names: str) -> Path:
    path = run.parent / "candidates.csv"
    path.write_text("name,note\n" + "".join(f"{name},x\n" for name in names))
    return path


@pytest.mark.parametrize("challenge", FORMATS)
def test_each_candidate_is_there_once_in_the_order_of_its_file(run: Path, challenge: str) -> None:
    out = run.parent / "answer.csv"
    done = submit(run, challenge, out, candidates=candidates(run, "d", "b", "a"))
    assert out.read_bytes() == b"name,discrete\nd,angry\nb,happy\na,sad\n"
    assert {label: count for label, count in done.counts.items() if count} == {
        "angry": 1, "happy": 1, "sad": 1,
    }  # fmt: skip
    assert done.notes == [f"3 names, {challenge} expects 20000"]


def test_without_candidates_all_but_train_are_in_the_order_of_the_manifest(run: Path) -> None:
    out = run.parent / "deep/answer.csv"
    submit(run, "mer2024", out)
    assert out.read_text() == "name,discrete\nb,happy\nd,angry\nc,neutral\n"


def test_a_split_is_taken_alone(run: Path) -> None:
    out = run.parent / "answer.csv"
    submit(run, "mer2024", out, split="test1")
    assert out.read_text() == "name,discrete\nb,happy\nc,neutral\n"
    with pytest.raises(RunError, match="no sample is in split 'test'; did you mean 'test1'"):
        submit(run, "mer2024", out, split="test")


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written(run: Path) -> None:
    rows = [*ROWS, "e,test1,,calm,1.0", "a,train,sad,sad,1.0"]
    (run / "predictions.csv").write_text(HEADER + "\n".join(rows) + "\n")
    names = [*(f"n{number}" for number in range(7)), "b", "b", "e"]
    out = run.parent / "answer.csv"
    with pytest.raises(RunError) as caught:
        submit(run, "mer2025", out, candidates=candidates(run, *names))
    found = str(caught.value)
    assert "7 of 10 candidates are not predicted: 'n0', 'n1', 'n2', 'n3', 'n4' and 2 more" in found
    assert "there twice among the candidates: 'b'" in found
    assert "predicted twice: 'a'" in found
    assert "labels that the challenge does not know: 'calm'; it knows neutral, angry" in found
    assert not out.exists()


def test_an_answer_that_was_there_stays_when_there_is_none_to_give(run: Path) -> None:
    out = run.parent / "answer.csv"
    out.write_text("name,discrete\nold,sad\n")
    with pytest.raises(RunError):
        submit(run, "mer2025", out, candidates=candidates(run, "nobody"))
    assert out.read_text() == "name,discrete\nold,sad\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nme\na\n", "no column 'name' in ['nme']; did you mean 'nme'?"),
        ("name\n", "no candidates; expected a column 'name'"),
        ('name\n"a', "cannot read"),
    ],
)
def test_a_file_of_candidates_that_is_none_is_said_to_be_so(
    run: Path, text: str, message: str
) -> None:
    path = run.parent / "candidates.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=re.escape(message)):
        submit(run, "mer2025", run.parent / "answer.csv", candidates=path)


def test_what_is_missing_is_named_with_the_next_step(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer.csv"
    with pytest.raises(RunError, match=r"candidates.csv: no such file"):
        submit(run, "mer2025", out, candidates=tmp_path / "candidates.csv")
    with pytest.raises(RunError, match=r"no .*predictions.csv; `mer run` or `mer ensemble`"):
        submit(tmp_path, "mer2025", out)
    with pytest.raises(RunError, match="called 'mer2225'; did you mean 'mer2025'"):
        submit(run, "mer2225", out)
    (run / "predictions.csv").write_text(HEADER + "a,train,sad,sad,1.0\n")
    with pytest.raises(RunError, match="no candidate: all samples are in train"):
        submit(run, "mer2025", out)
    (run / "predictions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="not the predictions of a run"):
        submit(run, "mer2025", out)
