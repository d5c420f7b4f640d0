from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import escape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from pydantic import JsonValue

from mercore.components import Decision
from mercore.media import FloatArray
from mercore.metrics import accuracy, bootstrap, confusion, waf
from mercore.report import (
    BranchResult,
    FeatureResult,
    ManifestResult,
    Result,
    build,
    render,
    summary_table,
)
from mercore.results import FASTER

CLASSES = ("neutral", "angry", "happy")
EVIL = "<script>alert('x')</script>"


def probabilities(labels: list[int], confidence: float = 0.7) -> FloatArray:
    table = np.full((len(labels), len(CLASSES)), (1 - confidence) / 2, np.float32)
    table[np.arange(len(labels)), labels] = confidence
    return table


def branch(name: str, labels: list[int]) -> BranchResult:
    return BranchResult(
        name=name,
        features=("mel", "vit"),
        fusion="attention",
        options={"hidden": 64},
        probabilities=probabilities(labels),
        waf=0.6,
        fold_waf=(0.5, 0.75),
        filled=2,
        seconds=12.5,
    )


def feature(name: str, failed: tuple[tuple[str, str], ...] = ()) -> FeatureResult:
    return FeatureResult(
        name=name,
        uses="mel_statistics",
        kind="feature",
        fingerprint="0a2b4c6d8e10ffff",
        dim=160,
        samples=8 - len(failed),
        failed=failed,
        seconds=2.0,
        decode=1.0,
        encode=2.5,
        write=0.5,
        slowest="encode",
        records={"clipped": 1},
    )


@pytest.fixture
def result() -> Result:
    """Four training samples, two of a test split, two unlabelled ones."""
    decided = [0, 1, 1, 2, 0, 2, 1, 1]
    return Result(
        title="A small run",
        created="2026-03-04T10:20:30+00:00",
        classes=CLASSES,
        ids=tuple(f"clip{i}" for i in range(8)),
        splits=("train",) * 4 + ("test1",) * 2 + ("unlabelled",) * 2,
        labels=np.array([0, 1, 1, 1, 0, 1, -1, -1]),
        branches=(branch("av", decided), branch("tv", [0, 1, 0, 2, 0, 1, 1, 0])),
        ensemble="rank_mode",
        decision=Decision(
            labels=np.array(decided),
            probabilities=probabilities(decided, 0.6),
            support=np.array([1, 1, 0.5, 1, 1, 0.5, 1, 0.5], np.float32),
        ),
        mining=(
            {
                "round": 0,
                "accepted": {name: 0 for name in CLASSES},
                "left": 3,
                "right": None,
                "branches": {"av": 0.5},
                "waf": {"train": 0.5, "test1": 0.6},
            },
            {
                "round": 1,
                "accepted": {name: 1 for name in CLASSES},
                "left": 0,
                "right": 0.75,
                "branches": {"av": 0.75},
                "waf": {"train": 0.7, "test1": 0.8},
            },
        ),
        features=(feature("mel", (("clip3", "no audio stream"),)), feature("vit")),
        registry="classes: [neutral, angry, happy]\n",
        manifest=ManifestResult("data/manifest.csv", 8, {"licence": "CC BY 4.0"}),
        versions={"mercore": "0.1.0", "numpy": "2.3.1"},
        warnings=("branch 'tv': 2 samples lack 'vit'",),
        media=tuple({"video": f"/data/clips/clip{i}.mp4"} for i in range(8)),
        folder="/data/runs/a",
        ablation=None,
    )


def ablation(name: str) -> dict[str, JsonValue]:
    """Return an ablation.json of two rows; only the second is behind."""
    score: JsonValue = {"waf": 0.75, "low": 0.5, "high": 0.875, "accuracy": 0.8125}
    scores: JsonValue = {"train": score, "test1": score, name: score}
    behind: JsonValue = {"waf": -0.25, "low": -0.375, "high": -0.125, "p": 0.001, "p_holm": 0.0625}
    about: dict[str, JsonValue] = {"uses": name, "dim": None, "reads": [name], "upstream": [name]}
    return {
        "fusion": name,
        "draws": 5000,
        "features": {name: about, "words": {**about, "dim": 1024, "reads": ["denoised", "id"]}},
        "rows": [
            {"features": [name, "words"], "scores": scores, "behind": None},
            {"features": [name], "scores": scores, "behind": behind},
        ],
    }


def built(result: Result) -> Any:
    """Return the report as a reader of report.json gets it."""
    return json.loads(json.dumps(build(result), allow_nan=False))


class Page(HTMLParser):
    """Collects the links of a page and checks that its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in {"src", "href", "action"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells.append(data.strip())


def test_scores_are_those_of_the_labelled_samples_of_a_split(result: Result) -> None:
    labels, decided = result.labels[4:6], result.decision.labels[4:6]
    score = built(result)["ensemble"]["scores"]["test1"]
    assert score["waf"] == waf(labels, decided, 3)
    assert [score["low"], score["high"]] == list(bootstrap(waf, labels, decided, 3))
    assert score["accuracy"] == accuracy(labels, decided, 3) == 0.5
    assert score["confusion"] == confusion(labels, decided, 3).tolist()
    assert score["recall"] == [1.0, 0.0, 0.0]


def test_each_branch_is_scored_by_its_most_probable_class(result: Result) -> None:
    av, tv = built(result)["branches"]
    assert av["scores"]["test1"]["accuracy"] == 0.5
    assert tv["scores"]["test1"]["accuracy"] == 1.0
    assert tv["scores"]["train"]["accuracy"] == 0.5


def test_a_split_without_labels_has_no_scores(result: Result) -> None:
    report = built(result)
    assert list(report["ensemble"]["scores"]) == ["train", "test1"]
    unlabelled = report["splits"][2]
    assert (unlabelled["labelled"], unlabelled["baselines"]) == (0, None)
    assert unlabelled["decided"] == [0, 2, 0]


def test_unlabelled_samples_of_a_labelled_split_do_not_count(result: Result) -> None:
    labels = result.labels.copy()
    labels[5] = -1
    report = built(replace(result, labels=labels))
    assert report["ensemble"]["scores"]["test1"]["accuracy"] == 1.0
    assert report["splits"][1]["support"] == [1, 0, 0]


def test_a_run_without_any_label_still_has_a_page(result: Result) -> None:
    report = built(replace(result, labels=np.full(8, -1)))
    assert report["ensemble"]["scores"] == {}
    assert summary_table(report) == []
    page = render(report)
    assert 'id="scores"' not in page
    assert 'href="#scores"' not in page
    assert "clip7" in page


def test_the_majority_baseline_is_the_most_frequent_training_class(result: Result) -> None:
    baselines = built(result)["splits"][1]["baselines"]
    assert baselines["class"] == "angry"
    assert baselines["majority"] == waf(result.labels[4:6], np.array([1, 1]), 3)


def test_the_chance_baseline_is_that_of_many_random_guesses(result: Result) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(result.labels[4:6], 50_000)
    guesses = random.choice(result.labels[:4], len(labels))
    chance = built(result)["splits"][1]["baselines"]["chance"]
    assert chance == pytest.approx(waf(labels, guesses, 3), abs=0.01)


def test_there_is_no_baseline_without_training_labels(result: Result) -> None:
    labels = np.where(np.array(result.splits) == "train", -1, result.labels)
    report = built(replace(result, labels=labels))
    assert report["splits"][1]["baselines"] is None
    assert "guessing by class frequency" not in render(report)


def test_agreement_is_the_share_of_equal_labels(result: Result) -> None:
    assert built(result)["agreement"] == [[1.0, 0.625], [0.625, 1.0]]


def test_failures_are_grouped_by_reason_the_most_frequent_first(result: Result) -> None:
    failed = (("one", "too short"), *((f"clip{i}", "no audio stream") for i in range(25)))
    (found,) = built(replace(result, features=(feature("mel", failed),)))["features"]
    assert [group["reason"] for group in found["failures"]] == ["no audio stream", "too short"]
    assert found["failures"][0]["samples"] == 25
    assert found["failures"][0]["ids"] == [f"clip{i}" for i in range(20)]
    assert found["failed"] == 26


def test_samples_a_second_are_left_out_where_nothing_was_extracted(result: Result) -> None:
    stored = replace(feature("vit"), seconds=0.0, decode=0.0, encode=0.0, write=0.0)
    mel, vit = built(replace(result, features=(feature("mel"), stored)))["features"]
    assert (mel["rate"], vit["rate"]) == (4.0, None)
    assert "stored" in Page(render(built(replace(result, features=(stored,))))).cells


def test_the_slowest_part_of_each_feature_is_said_with_what_makes_it_faster(
    result: Result,
) -> None:
    stored = replace(feature("vit"), slowest="")
    report = built(replace(result, features=(feature("mel"), stored)))
    mel, vit = report["features"]
    assert (mel["slowest"], mel["faster"]) == ("encode", FASTER["encode"])
    assert (vit["slowest"], vit["faster"]) == ("", "")
    assert {"encode", FASTER["encode"]} <= set(Page(render(report)).cells)


def test_training_samples_are_listed_last(result: Result) -> None:
    rows = built(result)["samples"]["rows"]
    assert [row["id"] for row in rows[:4]] == ["clip4", "clip5", "clip6", "clip7"]
    assert rows[2]["label"] is None
    assert rows[1] == {
        "id": "clip5",
        "split": "test1",
        "label": "angry",
        "decided": "happy",
        "probability": pytest.approx(0.6),
        "support": 0.5,
        "second": "neutral",
        "branches": {"av": "happy", "tv": "angry"},
        "clip": "../../clips/clip5.mp4",
        "words": None,
    }


def test_the_least_supported_and_then_least_probable_are_the_least_certain(result: Result) -> None:
    table = result.decision.probabilities.copy()
    table[7] = (0.3, 0.4, 0.3)
    decision = replace(result.decision, probabilities=table)
    report = built(replace(result, decision=decision))
    assert [row["id"] for row in report["uncertain"][:3]] == ["clip7", "clip2", "clip5"]


def test_the_summary_has_a_row_a_split_and_branch_closed_by_the_ensemble(result: Result) -> None:
    report = built(result)
    rows = summary_table(report)
    names = [(row.split, row.branch) for row in rows]
    splits = ("train", "test1")
    assert names == [(split, name) for split in splits for name in ("av", "tv", "ensemble")]
    score = report["branches"][1]["scores"]["test1"]
    assert rows[4]._asdict() == {
        "branch": "tv",
        "split": "test1",
        **{key: score[key] for key in ("waf", "low", "high", "accuracy")},
    }


def test_the_page_is_made_from_report_json_alone(result: Result) -> None:
    assert render(built(result)) == render(build(result))


def test_the_page_is_complete_and_loads_nothing(result: Result) -> None:
    text = render(built(result))
    page = Page(text)
    assert page.open == []
    inside = [link for link in page.links if link.startswith("#")]
    assert set(page.links) - set(inside) == {f"../../clips/clip{i}.mp4" for i in range(8)}
    assert {link[1:] for link in inside} <= set(re.findall(r'id="(\w+)"', text))
    assert not re.search(r"https?:|url\(|@import|//\w", text)


def test_the_page_shows_scores_features_failures_and_set_up(result: Result) -> None:
    report = built(result)
    text = render(report)
    cells = Page(text).cells
    assert f"{report['branches'][1]['scores']['train']['accuracy']:.4f}" in cells
    assert {"mel + vit", "no audio stream", "clip3", "clip5", "0.1.0", "CC BY 4.0"} <= set(cells)
    assert escape(result.warnings[0]).replace("&#x27;", "&#39;") in text
    assert result.registry.strip() in text


def test_the_page_shows_an_ablation_where_there_is_one(result: Result) -> None:
    assert "ablation" not in render(built(result))
    text = render(built(replace(result, ablation=ablation("mel"))))
    page = Page(text)
    assert '<a href="#ablation">' in text
    assert {"mel + words", "mel + denoised & id", "−0.2500", "−0.375 to −0.125"} <= {*page.cells}
    assert "0.062" in page.cells
    assert page.open == []
    assert "<b>words</b>: mel of denoised and id, made from mel, 1,024 values." in text


def test_words_of_the_manifest_stand_beside_the_sample(result: Result) -> None:
    assert "Words" not in Page(render(built(result))).cells
    media = ({"text": "Did you hear that?"}, *result.media[1:])
    cells = Page(render(built(replace(result, media=media)))).cells
    assert cells.count("Words") == 2
    assert "Did you hear that?" in cells


def test_the_policy_of_the_page_allows_its_own_script_only(result: Result) -> None:
    text = render(built(result))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_markup_in_what_users_wrote_is_shown_and_not_run(result: Result) -> None:
    evil = replace(
        result,
        title=EVIL,
        created=EVIL,
        classes=(EVIL, "<b>angry", '"happy"'),
        ids=(EVIL,) * 8,
        splits=(EVIL,) * 8,
        branches=(replace(result.branches[0], name=EVIL, features=(EVIL,), options={EVIL: EVIL}),),
        ensemble=EVIL,
        features=(replace(feature(EVIL, ((EVIL, EVIL),)), uses=EVIL, records={EVIL: EVIL}),),
        registry=f"# {EVIL}\n",
        manifest=ManifestResult(EVIL, 8, {EVIL: EVIL}),
        versions={EVIL: EVIL},
        warnings=(EVIL,),
        media=({"video": f"/{EVIL}/javascript:1", "text": EVIL},) * 8,
        ablation=ablation(EVIL),
    )
    text = render(built(evil))
    assert text.count("<script") == 1
    assert "<b>angry" not in text
    assert text.count("&lt;script&gt;alert(&#39;x&#39;)") > 40
    assert Page(text).open == []


@pytest.mark.parametrize(("note", "shown"), [("true", True), ("True", True), ("false", False)])
def test_synthetic_data_are_announced(result: Result, note: str, shown: bool) -> None:
    manifest = replace(result.manifest, notes={"synthetic": note})
    report = built(replace(result, manifest=manifest))
    assert report["synthetic"] is shown
    banner = "Synthetic data: these numbers show that the pipeline learns, nothing else."
    assert (banner in render(report)) is shown


def test_real_data_have_no_banner(result: Result) -> None:
    assert "Synthetic" not in render(built(result))


def test_the_page_of_twenty_thousand_samples_is_below_two_megabytes(result: Result) -> None:
    times = 2500
    failed = tuple((f"clip{i}", f"decoding stopped at {i} s") for i in range(20_000))
    many = replace(
        result,
        ids=tuple(f"a_rather_long_sample_id_{i:08d}" for i in range(20_000)),
        splits=result.splits * times,
        labels=np.tile(result.labels, times),
        branches=tuple(
            replace(
                one, name=f"{one.name}{i}", probabilities=np.tile(one.probabilities, (times, 1))
            )
            for one in result.branches
            for i in range(5)
        ),
        decision=Decision(
            labels=np.tile(result.decision.labels, times),
            probabilities=np.tile(result.decision.probabilities, (times, 1)),
            support=np.tile(result.decision.support, times),
        ),
        features=(feature("mel", failed),),
        media=({"video": f"/a/folder/{'of/many/' * 9}clip.mp4", "text": "w" * 1000},) * 20_000,
    )
    report = built(many)
    text = render(report)
    assert len(text.encode()) < 2_000_000
    assert "The first 300 of 20,000 samples" in text
    assert report["features"][0]["failures_left_out"] == 19_950
    assert "19,950 of them, with rarer reasons, are not listed" in text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.44, "0.4 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_written_as_people_read_them(
    result: Result, seconds: float, shown: str
) -> None:
    slow = replace(result.branches[0], seconds=seconds)
    assert shown in Page(render(built(replace(result, branches=(slow,))))).cells
