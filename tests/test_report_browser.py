"""The report as a reader has it: opened in headless Chromium, on a desk, a phone and paper."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from pydantic import JsonValue

from mercore.components import Decision
from mercore.report import (
    BranchResult,
    FeatureResult,
    ManifestResult,
    Result,
    build,
    render,
)

Show = Callable[..., Page]

EVIL = """"><script>ran = 1</script><img src=x onerror="ran = 1">'{{ 7 * 7 }}"""
EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise", "害怕", "厌恶", "contempt")
CLASSES = (*EMOTIONS, "embarrassment", "calm", EVIL)
BRANCHES = (
    "atv",
    "avj",
    "tvj",
    "all",
    "a_branch_with_a_name_of_many_words",
    "文本加语音",
    "b",
    EVIL,
)
FEATURES = ("hubert", "baichuan", "vit", "internvit", "jat", "prosody", "面部", EVIL)
SPLITS = ("train",) * 40 + ("test1",) * 20 + ("unlabelled",) * 5
TABLES = {"scores": "Weighted average F1", "samples": "Predictions", "failures": "Samples without"}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PAPER = 680  # CSS pixels between the margins of a page of A4: 21 cm - 2 * 1.5 cm at 96 a 2.54 cm

# Elements that hold text themselves, rather than by their children.
TEXTS = """[...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility()
  && element.tagName !== "SCRIPT" && [...element.childNodes].some(
    (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))"""

# The contrast ratio of WCAG 2, of text on the nearest background that is painted.
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => [...pixel(colour)].slice(0, 3)
    .map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return pixel(colour)[3] ? colour : ground(element.parentElement);
  };
  return TEXTS.map((element) => {
    const pair = [getComputedStyle(element).color, ground(element)].map(luminance);
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    return [ratio, element.outerHTML.slice(0, 80)];
  });
}""".replace("TEXTS", TEXTS)


def feature(name: str, seconds: float) -> FeatureResult:
    ids = [EVIL, *(f"clip {i}" for i in range(1, 25))]
    failed = tuple((identifier, f"no audio stream {EVIL}") for identifier in ids)
    return FeatureResult(
        name=name,
        uses="face_crop" if name == EVIL else "hubert",
        kind="feature",
        fingerprint="0a2b4c6d8e10ffff",
        dim=None if seconds == 0 else int(1000 / seconds),
        samples=len(SPLITS) if name != "jat" else len(SPLITS) - 25,
        failed=failed if name == "jat" else (),
        seconds=seconds,
        decode=seconds / 4,
        encode=seconds,
        write=seconds / 100,
        slowest="encode" if seconds else "",
        records={EVIL: EVIL} if name == EVIL else {},
    )


def result() -> Result:
    random = np.random.default_rng(0)
    labels = random.integers(0, len(CLASSES), len(SPLITS))
    labels[-5:] = -1
    tables = random.dirichlet(np.ones(len(CLASSES)), (len(BRANCHES), len(SPLITS)))
    tables = tables.astype(np.float32)
    mean = tables.mean(axis=0)
    return Result(
        title=f"MER2024 {EVIL} {'w' * 200}",
        created="2026-03-04T10:20:30+00:00",
        classes=CLASSES,
        ids=(EVIL, "x" * 150, *(f"clip {i}" for i in range(2, len(SPLITS)))),
        splits=SPLITS,
        labels=labels,
        branches=tuple(
            BranchResult(
                name=name,
                features=FEATURES[: i + 1],
                fusion="attention",
                options={"hidden": 64, "schedule": EVIL},
                probabilities=tables[i],
                waf=0.1,
                fold_waf=(0.1, 0.2, 0.1, 0.3, 0.2),
                filled=i,
                seconds=10.0**i,
            )
            for i, name in enumerate(BRANCHES)
        ),
        ensemble="rank_mode",
        decision=Decision(
            labels=mean.argmax(axis=1),
            probabilities=mean,
            support=(tables.argmax(axis=2) == mean.argmax(axis=1)).mean(axis=0).astype(np.float32),
        ),
        mining=(
            {
                "round": 0,
                "accepted": {name: 0 for name in CLASSES},
                "left": 3,
                "right": None,
                "branches": {"av": 0.5},
                "waf": {name: 0.5 for name in dict.fromkeys(SPLITS[:-5])},
            },
            {
                "round": 1,
                "accepted": {name: 1 for name in CLASSES},
                "left": 0,
                "right": 0.75,
                "branches": {"av": 0.75},
                "waf": {name: 0.75 for name in dict.fromkeys(SPLITS[:-5])},
            },
        ),
        features=tuple(
            feature(name, [9, 80, 0][i % 3] * (i + 1)) for i, name in enumerate(FEATURES)
        ),
        registry=f"# {EVIL}\n# {'z' * 300}\n",
        manifest=ManifestResult("deep/" * 60, len(SPLITS), {EVIL: EVIL, "synthetic": "true"}),
        versions={EVIL: EVIL},
        warnings=(EVIL, "v" * 300),
        media=(
            {"video": f"/clips/{EVIL}.mp4", "text": f"{EVIL} {'w' * 300}"},
            *({"audio": f"/clips/{i}.wav"} for i in range(1, len(SPLITS) - 1)),
            {"text": "Not you again!"},
        ),
        folder="/runs/a",
        ablation=ablation(),
    )


def ablation() -> dict[str, JsonValue]:
    """Return an ablation of the first three features and a hostile one."""
    random = np.random.default_rng(1)
    names = (*FEATURES[:3], EVIL)
    combinations = [names[i:j] for i in range(4) for j in range(i + 1, 5)]
    return {
        "fusion": EVIL,
        "draws": 5000,
        "features": {
            name: {"uses": name, "dim": 1024, "reads": [name, "text"], "upstream": ["video", EVIL]}
            for name in names
        },
        "rows": [
            {
                "features": list(features),
                "scores": {
                    split: {"waf": waf, "low": waf - 0.1, "high": waf + 0.1, "accuracy": waf}
                    for split in ("train", "test1")
                },
                "behind": None
                if i == 0
                else {"waf": waf - 1, "low": -0.9, "high": -0.1, "p": p, "p_holm": p},
            }
            for i, features in enumerate(combinations)
            for waf, p in [random.uniform(0.2, 0.8, 2).tolist()]
            for behind in [{"waf": waf - 1, "low": -0.9, "high": -0.1, "p": p, "p_holm": p}]
        ],
    }


@pytest.fixture(scope="module")
def report() -> Any:
    return json.loads(json.dumps(build(result()), allow_nan=False))


@pytest.fixture(scope="module")
def url(report: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing = "no Chromium on PATH (Debian: apt-get install chromium)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Browser, url: str) -> Iterator[Show]:
    """Open the report for a reader; the options are those of a Playwright context."""

    def to(**options: Any) -> Page:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(5000)
        page.goto(url)
        return page

    yield to
    for context in browser.contexts:
        context.close()


def table(page: Page, name: str) -> Locator:
    return page.get_by_role("table", name=TABLES.get(name, name))


def column(page: Page, name: str, heading: str) -> list[str]:
    """Return what the cells below a heading say, without the small print."""
    values: list[str] = table(page, name).evaluate(
        """(table, heading) => {
          const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
          const at = headings.findIndex((cell) => cell.textContent.trim() === heading);
          return [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.split("\\n")[0]);
        }""",
        heading,
    )
    return values


def test_it_opens_without_an_error_a_dialog_or_a_request(browser: Browser, url: str) -> None:
    seen: list[str] = []
    page = browser.new_context().new_page()
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(url)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate("document.querySelectorAll('th button').forEach((one) => one.click())")
    page.wait_for_load_state("networkidle")
    page.context.close()
    assert seen == [url]


def test_its_policy_stops_a_script_and_an_image_that_are_not_its_own(show: Show) -> None:
    page = show()
    page.evaluate(
        """() => {
          window.stopped = [];
          document.addEventListener("securitypolicyviolation",
            (event) => window.stopped.push(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.ran = 1";
          document.body.append(script);
          new Image().src = "http://127.0.0.1:9/pixel.png";
        }"""
    )
    page.wait_for_function("window.stopped.length === 2")
    assert set(page.evaluate("window.stopped")) == {"img-src", "script-src-elem"}
    assert page.evaluate("window.ran") is None


def test_hostile_values_are_shown_as_they_are_and_do_not_run(show: Show) -> None:
    page = show()
    assert EVIL in page.locator("h1").inner_text()
    for words in ("Weighted average F1", "Confusion of the ensemble on test1", "Notes of the"):
        expect(table(page, words).get_by_role("rowheader", name=EVIL)).to_be_visible()
    assert table(page, "failures").inner_text().count(EVIL) == 2  # the reason, and who
    samples = table(page, "samples")
    expect(samples.get_by_role("cell", name=f"{EVIL} www")).to_be_visible()
    expect(samples.get_by_role("link", name=EVIL)).to_be_visible()
    assert EVIL in page.locator("pre").inner_text()
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert page.evaluate("window.ran") is None


def test_samples_lead_to_their_files_and_nowhere_else(show: Show) -> None:
    page = show()
    assert set(page.evaluate("[...document.links].map((link) => link.protocol)")) == {"file:"}
    place = page.url.rsplit("/", 3)[0]
    link = page.get_by_role("link", name="clip 2", exact=True).first
    assert link.evaluate("(link) => link.href") == f"{place}/clips/2.wav"
    cell = table(page, "samples").get_by_role("cell", name="Not you again!")
    expect(cell).to_be_visible()


def test_a_row_of_the_ablation_says_how_far_it_is_behind_the_first(show: Show) -> None:
    page = show()
    name = "Combinations of features"
    first, second, *_ = column(page, name, "Against the first")
    assert (first, second[0]) == ("–", "−")
    table(page, name).get_by_role("button", name="Against the first").click()
    behind = [
        float(value.replace("−", "-")) for value in column(page, name, "Against the first")[:-1]
    ]
    assert behind == sorted(behind)
    assert column(page, name, "Against the first")[-1] == "–"


def test_only_wide_tables_scroll_sideways_on_a_phone(show: Show) -> None:
    page = show(**PHONE)
    # Not innerWidth: a phone zooms out until it holds the widest thing.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("innerWidth") == 390
    wide = page.evaluate(
        """[...document.querySelectorAll("table.wide")].filter((table) =>
          table.checkVisibility() && table.parentElement.scrollWidth > 390).length"""
    )
    assert wide >= 5


def test_the_first_column_stays_when_a_table_scrolls(show: Show) -> None:
    page = show(**PHONE)
    first = table(page, "scores").get_by_role("rowheader", name="avj")
    score = table(page, "scores").get_by_role("row", name="avj").get_by_role("cell").first
    before = first.bounding_box(), score.bounding_box()
    table(page, "scores").evaluate("(table) => { table.parentElement.scrollLeft = 60; }")
    after = first.bounding_box(), score.bounding_box()
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_text_is_large_enough_on_a_phone(show: Show) -> None:
    page = show(**PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    sizes = f"{TEXTS}.map((element) => parseFloat(getComputedStyle(element).fontSize))"
    assert min(page.evaluate(sizes)) >= 12


@pytest.mark.parametrize("what", ["th button", "nav a", "summary"])
def test_what_is_tapped_is_large_enough_on_a_phone(show: Show, what: str) -> None:
    boxes = show(**PHONE).evaluate(
        "(what) => [...document.querySelectorAll(what)].map((one) => one.getBoundingClientRect())",
        what,
    )
    assert len(boxes) >= 8
    assert min(min(box["width"], box["height"]) for box in boxes) >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(show: Show, scheme: str) -> None:
    page = show(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 1000
    assert min(contrasts) >= [4.5]


def test_the_dark_page_is_dark(show: Show) -> None:
    colours = [
        show(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(map(int, re.findall(r"\d+", colour))) for colour in colours)
    assert dark < 3 * 40 < 3 * 240 < light


def test_numbers_sort_upwards_then_downwards(show: Show) -> None:
    page = show()
    name = "Features, fusion"
    button = table(page, name).get_by_role("button", name="Filled in")
    assert column(page, name, "Filled in") == [str(i) for i in range(8)]
    button.click()
    button.click()
    assert column(page, name, "Filled in") == [str(i) for i in reversed(range(8))]
    button.click()
    assert column(page, name, "Filled in") == [str(i) for i in range(8)]
    table(page, name).get_by_role("button", name="Time").click()
    times = ["1.0 s", "10.0 s", "1 min 40 s", "16 min 40 s", "2 h 46 min"]
    assert column(page, name, "Time")[:5] == times


def test_text_sorts_with_its_numbers_in_order(show: Show) -> None:
    page = show()
    table(page, "samples").get_by_role("button", name="Sample").click()
    clips = [one for one in column(page, "samples", "Sample") if one.startswith("clip")]
    assert clips == [f"clip {i}" for i in range(2, len(SPLITS))]


def test_what_is_missing_is_sorted_last_both_ways(show: Show) -> None:
    page = show()
    button = table(page, "Seconds taken").get_by_role("button", name="Taken, s")
    for upwards in (True, False):
        button.click()
        *taken, one, other = column(page, "Seconds taken", "Taken, s")
        numbers = [float(value.replace(",", "")) for value in taken]
        assert numbers == sorted(numbers, reverse=not upwards)
        assert [one, other] == ["stored", "stored"]


def test_the_keyboard_sorts_and_the_direction_is_announced(show: Show) -> None:
    page = show()
    headings = table(page, "samples").get_by_role("columnheader")
    label, decided = (headings.filter(has_text=name).first for name in ("Label", "Decided"))
    label.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(label).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Enter")
    expect(label).to_have_attribute("aria-sort", "descending")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(decided).to_have_attribute("aria-sort", "ascending")
    assert label.get_attribute("aria-sort") is None


def test_confusion_cells_count_the_labelled_samples(show: Show, report: Any) -> None:
    page = show()
    for split, samples in (("train (cross-validated)", 40), ("test1", 20)):
        counts = table(page, f"Confusion of the ensemble on {split}, {samples} samples").evaluate(
            """(table) => [...table.tBodies[0].rows].map((row) =>
              [...row.querySelectorAll("td")].map((cell) => Number(cell.firstChild.textContent)))"""
        )
        assert counts == report["ensemble"]["scores"][split.split()[0]]["confusion"]
        assert sum(map(sum, counts)) == samples


def test_failures_are_a_link_away_with_their_reason_and_samples(show: Show) -> None:
    page = show()
    page.get_by_role("link", name="25", exact=True).click()
    failures = table(page, "failures")
    expect(failures).to_be_in_viewport()
    row = failures.get_by_role("row", name="jat")
    expect(row).to_contain_text("no audio stream")
    expect(row).to_contain_text("clip 19, … and 5 more")


def test_the_bars_of_all_features_share_one_scale(show: Show, report: Any) -> None:
    widths = show().evaluate(
        """[...document.querySelectorAll(".bar[role=img]")].map((bar) =>
          [...bar.children].reduce((sum, part) => sum + part.getBoundingClientRect().width, 0))"""
    )
    spent = [one["decode"] + one["encode"] + one["write"] for one in report["features"]]
    spent = [seconds for seconds in spent if seconds]
    share = np.array(widths) / max(widths)
    np.testing.assert_allclose(share, np.array(spent) / max(spent), atol=0.01)


def test_figures_tables_and_bars_have_a_text_for_those_who_cannot_see(show: Show) -> None:
    page = show()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables, figures = page.locator("table"), page.locator("figure")
    assert tables.count() == figures.count() > 20
    assert all(figures.locator("figcaption").all_inner_texts())
    for name in ("Table 1.", "Table 12.", "Table 14."):
        expect(table(page, name)).to_be_visible()
    bars = page.get_by_role("img", name=re.compile("decode .* encode .* write"))
    curves = page.get_by_role("img", name=re.compile("WAF of the ensemble after each round"))
    assert (bars.count(), curves.count()) == (6, 1)
    assert page.locator("[role=img], img, svg, canvas").count() == 7


def test_paper_cuts_no_table_off(show: Show) -> None:
    page = show(viewport={"width": PAPER, "height": 1000})
    page.emulate_media(media="print")
    edges = page.evaluate(
        """[...document.querySelectorAll("table, pre")].filter((one) => one.checkVisibility())
          .map((one) => [one.getBoundingClientRect().right, one.textContent.slice(0, 60)])"""
    )
    assert len(edges) >= 15
    assert max(edges) <= [PAPER + 0.5]
    assert b"/MediaBox [0 0 594.95" in page.pdf(prefer_css_page_size=True)


def test_it_is_complete_without_scripts(show: Show) -> None:
    page = show(java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    expect(table(page, "scores").get_by_role("columnheader", name="WAF").first).to_be_visible()
    expect(page.get_by_text("Table 1.")).to_be_visible()
