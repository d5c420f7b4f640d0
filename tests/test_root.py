from __future__ import annotations

from pathlib import Path

import pytest
from run_mer import mer
from toy_clips import write_wav

from mercore.clips import samples_of
from mercore.errors import InputError, ManifestError
from mercore.manifest import Manifest

REGISTRY = "classes: [sad, happy]\nfeatures:\n  sound: {uses: loudness}\n"


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clips, with links out of it and within it."""
    root = tmp_path / "clips"
    for folder in (root / "deep", tmp_path / "clips2"):
        folder.mkdir(parents=True)
    for path in (root / "a.wav", root / "deep/b.wav", tmp_path / "out.wav"):
        write_wav(path)
    (tmp_path / "clips2/near.wav").write_bytes(b"")
    (root / "link.wav").symlink_to("../out.wav")
    (root / "chain.wav").symlink_to("link.wav")
    (root / "away").symlink_to("../clips2")
    (root / "within.wav").symlink_to("deep/b.wav")
    (root / "around").symlink_to("../clips/deep")
    (tmp_path / "out.txt").write_text("yes")
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    monkeypatch.chdir(tmp_path)
    return root


def manifest(*files: str) -> Path:
    path = Path("manifest.csv")
    rows = (f"{number},test,{file}\n" for number, file in enumerate(files))
    path.write_text("id,split,audio\n" + "".join(rows))
    return path


def test_files_below_the_root_are_fine_by_whatever_way(inside: Path) -> None:
    paths = ("clips/a.wav", "clips/deep/b.wav", "clips/within.wav", "clips/around/b.wav")
    ways = (*paths, str(inside / "a.wav"), "clips/deep/../a.wav", "clips2/../clips/a.wav")
    assert len(Manifest.read(manifest(*ways), (), root="clips").samples) == len(ways)
    assert Manifest.read(manifest("clips/a.wav"), (), root=".")
    assert Manifest.read(manifest("clips/a.wav"), (), root="/")


def test_every_file_that_lies_elsewhere_is_listed(inside: Path, tmp_path: Path) -> None:
    ways = ("out.wav", "clips/../out.wav", "clips/link.wav", "clips/chain.wav",
            "clips/away/near.wav", str(tmp_path / "out.wav"), "clips2/near.wav",
            "clips/deep/../../out.wav")  # fmt: skip
    with pytest.raises(ManifestError) as caught:
        Manifest.read(manifest("clips/a.wav", *ways), (), root="clips")
    first, *lines = str(caught.value).splitlines()
    assert f"has {len(ways)} mistakes" in first
    for number, (line, way) in enumerate(zip(lines, ways, strict=True), start=3):
        where = tmp_path / ("clips2/near.wav" if "near" in way else "out.wav")
        said = f"manifest.csv:{number}: audio: {way!r} lies outside of the root {str(inside)!r}"
        assert line.strip() == f"{said}, at {str(where)!r}"


def test_texts_are_confined_too_and_words_are_not(inside: Path) -> None:
    Path("manifest.csv").write_text("id,split,text\na,test,out.txt\nb,test,../../etc\n")
    with pytest.raises(ManifestError, match=r"1 mistake(.|\n)*:2: text: 'out.txt' lies outside"):
        Manifest.read("manifest.csv", (), root="clips")


def test_a_root_that_is_a_link_is_where_it_leads(inside: Path) -> None:
    Path("linked").symlink_to("clips")
    assert Manifest.read(manifest("clips/a.wav", "linked/a.wav"), (), root="linked")


def test_a_root_that_is_not_there_is_named(inside: Path) -> None:
    with pytest.raises(ManifestError, match="root 'clisp': no such folder"):
        Manifest.read(manifest("clips/a.wav"), (), root="clisp")


@pytest.mark.parametrize("command", ["check", "extract", "run"])
def test_commands_take_a_root(inside: Path, command: str) -> None:
    manifest("clips/a.wav", "out.wav")
    result = mer(command, "--root", "clips")
    assert result.exit_code == 1
    assert "manifest.csv:3: audio: 'out.wav' lies outside of the root" in result.stderr
    assert mer("check", "--root", ".").exit_code == 0
    assert mer("check", "--root", "clisp").stderr == "Error: root 'clisp': no such folder\n"


def test_new_clips_are_confined_too(inside: Path) -> None:
    assert samples_of(["clips/a.wav", "clips/within.wav"], (), root="clips")
    with pytest.raises(InputError, match=r"clips/link.wav: lies outside of the root"):
        samples_of(["clips/a.wav", "clips/link.wav"], (), root="clips")
    with pytest.raises(ManifestError, match=r"'out.wav' lies outside of the root"):
        samples_of([manifest("out.wav")], (), root="clips")
