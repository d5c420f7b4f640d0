from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from mercore.components import Decision
from mercore.listing import WORDS, first, rows, uncertain
from mercore.results import ManifestResult, Result


def result(media: dict[str, str], folder: str = "/runs/a", **values: Any) -> Result:
    """Return a run of one sample without branches."""
    given: dict[str, Any] = {
        "ids": ("one",),
        "splits": ("train",),
        "labels": np.array([0]),
        "decision": Decision(
            np.array([0]), np.array([[0.75, 0.25]], np.float32), np.ones(1, np.float32)
        ),
    }
    return Result(
        title="",
        created="",
        classes=("sad", "happy"),
        branches=(),
        ensemble="majority",
        mining=(),
        features=(),
        registry="",
        manifest=ManifestResult("", 1, {}),
        versions={},
        warnings=(),
        media=(media,) * len((given | values)["ids"]),
        folder=folder,
        ablation=None,
        **(given | values),
    )


def row(media: dict[str, str], folder: str = "/runs/a") -> Any:
    found: Any = rows(result(media, folder), np.array([0]))
    return found[0]


@pytest.mark.parametrize(
    ("media", "clip"),
    [
        ({"video": "/clips/a.mp4", "audio": "/clips/a.wav"}, "../../clips/a.mp4"),
        ({"audio": "/clips/a.wav", "text": "/words/a.txt"}, "../../clips/a.wav"),
        ({"text": "/words/a.txt"}, "../../words/a.txt"),
        ({"text": "so it is"}, None),
        ({"video": "/runs/a/b.mp4"}, "b.mp4"),
    ],
)
def test_a_sample_leads_to_its_video_else_audio_else_text(
    media: dict[str, str], clip: str | None
) -> None:
    assert row(media)["clip"] == clip


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b&c?d#e%f.mp4", '"><i>', "害怕.mp4"])
def test_a_link_is_a_path_whatever_the_name(name: str, tmp_path: Path) -> None:
    clip = tmp_path / "clips" / name
    clip.parent.mkdir()
    clip.touch()
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    link = row({"video": str(clip)}, str(folder))["clip"]
    assert not set(link) & set(':?#"<>& ')
    assert (folder / unquote(link)).samefile(clip)
    beside = row({"video": str(tmp_path / name)}, str(tmp_path))["clip"]
    assert ":" not in beside


def test_words_of_the_manifest_are_shown_and_long_ones_cut() -> None:
    assert row({"text": "so it is", "video": "/a.mp4"})["words"] == "so it is"
    assert row({"text": "/words/a.txt"})["words"] is None
    assert row({"video": "/a.mp4"})["words"] is None
    long = row({"text": "w" * 1000})["words"]
    assert (len(long), long[-1]) == (WORDS, "…")


def test_the_first_are_those_not_trained_on_and_the_uncertain_those_of_least_support() -> None:
    many = result(
        {},
        ids=("a", "b", "c"),
        splits=("train", "test", "train"),
        labels=np.array([0, 0, -1]),
        decision=Decision(
            np.array([0, 0, 1]),
            np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], np.float32),
            np.array([0.5, 1.0, 0.5], np.float32),
        ),
    )
    assert first(many).tolist() == [1, 0, 2]
    assert uncertain(many).tolist() == [2, 0, 1]
    found: Any = rows(many, np.array([2]))
    assert (found[0]["label"], found[0]["decided"], found[0]["second"]) == (None, "happy", "sad")
