"""Every fenced block of the README and of docs/ is run, or compared with what it is about.

The blocks of a page run in order, in one folder that looks like a clone after `make setup`: the
registry there is a small one whose components take no time. `text` marks what cannot be run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_vit_mae
from page_blocks import ROOT, Block, Place, blocks, modules_below, run
from toy_clips import write_mp4, write_wav

from mercore_toys import Letters

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

SMALL = """\
classes: [angry, happy]
features:
  speech: {uses: loudness, inputs: {audio: audio}}
  face: {uses: brightness, inputs: {video: video}}
fusion: centroid
branches: {s: speech, sf: speech + face}
folds: 2
"""
OTHER = {
    "training.md": """\
classes: [angry, happy]
features:
  speech: {uses: loudness, inputs: {audio: audio}}
  face: {uses: brightness, inputs: {video: video}}
fusion: linear
branches: {s: speech, sf: speech + face}
folds: 2
""",
    "protocol.md": """\
classes: [angry, happy]
streams:
  denoised: {uses: halve, inputs: {audio: audio}}
features:
  speech: {uses: loudness, inputs: {audio: audio}}
  speech_denoised: {uses: loudness, inputs: {audio: denoised}}
  face: {uses: brightness, inputs: {video: video}}
fusion: centroid
branches: {s: speech, sf: speech + face}
folds: 2
""",
    "changing.md": """\
classes: [angry, happy]
streams:
  denoised: {uses: halve, inputs: {audio: audio}}
features:
  speech: {uses: loudness, inputs: {audio: denoised}}
  face: {uses: brightness, inputs: {video: video}}
fusion: centroid
branches: {atv: speech + face}
folds: 2
""",
    "tuning.md": """\
classes: [angry, happy]
features:
  face: {uses: vit_mae, inputs: {frames: video}, with: {checkpoint: mae}}
folds: 2
""",
    "python.md": """\
classes: [angry, happy]
streams:
  denoised: {uses: halve, inputs: {audio: audio}}
features:
  speech: {uses: loudness, inputs: {audio: denoised}}
  face: {uses: brightness, inputs: {video: video}}
fusion: centroid
branches: {s: speech, sf: speech + face}
folds: 2
""",
}
"""The registry of a page that needs another."""
GIVEN = {"testing.md": {"Mine": Letters}}
"""What a page takes as known: the reader's own encoder."""
ELSEWHERE = {"mertools.md", "new-data.md"}
"""Pages that begin in a folder without a registry and a manifest."""
BEFORE = {"testing.md": "writing-a-plugin.md"}
"""The page whose plugin a page is about."""


def first_plugin(page: Path) -> list[Block]:
    """Return the blocks of a page up to its first pyproject.toml."""
    found = list(blocks(page))
    return found[: [block.language for block in found].index("toml") + 1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder with the small registry, the manifest of the demo in small, and clips."""
    (tmp_path / "registry.yaml").write_text(SMALL)
    clips = tmp_path / "examples/demo/clips"
    clips.mkdir(parents=True)
    rows = []
    for number in range(8):
        split, label = "test" if number > 5 else "train", ("angry", "happy")[number % 2]
        clip = clips / f"{split}_{number % 6:03}.mp4"
        colour = ((200, 40, 40), (40, 200, 40))[number % 2]
        write_mp4(clip, [colour] * 3, tone=300.0)
        rows.append((clip.stem, split, label, clip))
    for manifest in (tmp_path / "manifest.csv", tmp_path / "examples/demo/manifest.csv"):
        lines = [",".join(map(str, row)) for row in rows]
        manifest.write_text("\n".join(["id,split,label,video", *lines, ""]))
    for name in ("noise", "speech"):
        (tmp_path / "musan" / name).mkdir(parents=True)
        write_wav(tmp_path / "musan" / name / "a.wav", 2.0)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "clip.txt").write_text("Is it you?")
    tiny_vit_mae.write(tmp_path / "mae")
    for name in ("corpus.txt", "heldout.txt"):
        (tmp_path / name).write_text("你好，世界\n你好\n", encoding="utf-8")
    (tmp_path / "tokens.json").write_text('["<s>", "</s>", "你", "好", "<unk>"]', encoding="utf-8")
    for command in ("RUN", "TRAIN", "EXTRACT", "PREDICT", "ABLATE"):  # a GPU imports torch
        monkeypatch.setenv(f"MERCORE_{command}_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Place(tmp_path)
    for name in modules_below(tmp_path):
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_works(page: Path, place: Place) -> None:
    if page.name in BEFORE:
        for block in first_plugin(page.with_name(BEFORE[page.name])):
            run(block, place)
    if page.name in OTHER:
        (place.root / "registry.yaml").write_text(OTHER[page.name])
    if page.name in ELSEWHERE:
        for name in ("registry.yaml", "manifest.csv"):
            (place.root / name).unlink()
    place.names.update(GIVEN.get(page.name, {}))
    for block in blocks(page):
        run(block, place)


def test_there_are_no_fences_that_the_tests_overlook() -> None:
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        fences = [line for line in lines if line.lstrip().startswith(("```", "~~~"))]
        assert len(fences) == 2 * len(list(blocks(page))), f"{page.name}: a fence is indented"
