from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from mercore.checkpoints import identity, locate
from mercore.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def checkpoint(folder: Path, weights: bytes = b"weights") -> Path:
    (folder / "tokens").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokens" / "vocab.txt").write_text("a b c")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub_cache: Path, branch: str = "main") -> Path:
    """A snapshot of `owner/name` laid out as the hub's client lays it out."""
    repo = hub_cache / "models--owner--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / branch).write_text(COMMIT)
    return checkpoint(repo / "snapshots" / COMMIT)


def test_a_copy_elsewhere_has_the_same_identity(tmp_path: Path) -> None:
    assert identity(checkpoint(tmp_path / "a")) == identity(str(checkpoint(tmp_path / "b")))


def test_the_identity_changes_with_a_byte_a_name_and_a_size(tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "other", b"Weights")
    longer = checkpoint(tmp_path / "longer", b"weights ")
    renamed = checkpoint(tmp_path / "renamed")
    (renamed / "config.json").rename(renamed / "settings.json")
    folders = [checkpoint(tmp_path / "plain"), other, longer, renamed]
    assert len({identity(folder) for folder in folders}) == 4


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    before = identity(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.lock").write_text("1")
    assert identity(folder) == before


def test_both_ends_of_a_large_file_count(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    seen = set()
    for changed in (None, 0, 2**20 - 1, 3 * 2**20 - 1):
        content = bytearray(3 * 2**20)
        if changed is not None:
            content[changed] = 1
        file.write_bytes(content)
        seen.add(identity(file))
    assert len(seen) == 4


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at '.*gone'"):
        identity(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="expected an existing path, or a hub id"):
        identity("./gone")
    with pytest.raises(CheckpointError, match=r"a file or folder with 'a.json', '\*.b' or 'c.d'"):
        locate("./gone", wanted=["a.json", ("*.b", "c.d")])


def test_a_folder_without_a_wanted_file_names_it(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    assert locate(str(folder), wanted=["config.json", "*.safetensors"]) == folder
    with pytest.raises(CheckpointError, match=r"has no file 'model.bin' and no file '.*.model'"):
        locate(folder, wanted=["config.json", "model.bin", "*.model"])


def test_one_alternative_is_enough_and_all_are_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    assert locate(folder, wanted=[("*.bin", "*.safetensors"), "tokens/*.txt"]) == folder
    with pytest.raises(CheckpointError) as caught:
        locate(folder, wanted=["config.json", ("*.bin", "*.pth")])
    assert str(caught.value) == (
        f"{str(folder)!r} has no file '*.bin' or '*.pth'; expected a folder with 'config.json', "
        "'*.bin' or '*.pth'"
    )


def test_a_file_is_returned_as_it_is(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "a") / "model.safetensors"
    assert locate(str(file), wanted=["config.json"]) == file


def test_an_existing_path_wins_over_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert identity("owner/name").startswith("sha256:")
    assert locate("owner/name", wanted=["config.json"]) == Path("owner/name")


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_id_that_is_not_cached_is_its_own_identity() -> None:
    assert identity("owner/name") == "owner/name"
    assert identity("owner/name@v1.0") == "owner/name@v1.0"


def test_a_cached_hub_id_is_identified_by_its_commit(hub_cache: Path) -> None:
    cached(hub_cache)
    assert identity("owner/name") == f"owner/name@{COMMIT}"


def test_a_pinned_hub_id_has_one_identity_before_and_after(hub_cache: Path) -> None:
    before = identity(f"owner/name@{COMMIT}")
    cached(hub_cache)
    assert identity(f"owner/name@{COMMIT}") == before


def test_a_cached_hub_id_is_found_without_the_network(hub_cache: Path) -> None:
    snapshot = cached(hub_cache)
    assert locate("owner/name", wanted=["config.json", "*.safetensors"]) == snapshot


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_id_that_cannot_be_fetched_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match=r"cannot be fetched.*HF_HUB_OFFLINE.*folder"):
        locate("owner/name", wanted=["config.json"])
