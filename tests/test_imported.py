from __future__ import annotations

from pathlib import Path

import pytest

from mercore.components import Encoder
from mercore.errors import RegistryError, RunError
from mercore.extract import extract
from mercore.imported import Imported
from mercore.machine import Machine
from mercore.manifest import Manifest, Sample
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.store import Store

DIGEST = "0123456789abcdef"


def test_it_is_built_in_and_knows_its_width() -> None:
    built = Plugins().build(Encoder, "imported", {"source": "x", "digest": DIGEST, "width": 3})
    assert built == Imported(source="x", digest=DIGEST, width=3)
    assert built.dim == 3


def test_wrong_options_are_reported_at_once() -> None:
    with pytest.raises(RegistryError) as caught:
        Plugins().build(Encoder, "imported", {"source": "a/b", "digest": "ff", "width": 0})
    assert [f"with.{name}" in str(caught.value) for name in ("source", "digest", "width")] == [
        True
    ] * 3


def test_what_was_not_imported_cannot_be_computed(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    options = f"{{source: hubert, digest: '{DIGEST}', width: 3}}"
    path.write_text(f"classes: [a, b]\nfeatures: {{x: {{uses: imported, with: {options}}}}}\n")
    pipeline = resolve(Registry.read(path), Plugins())
    manifest = Manifest.of("new", [Sample("a", "test", None, {})])
    with pytest.raises(RunError, match=r"'hubert' was imported and cannot be computed .*`mer imp"):
        extract(pipeline, manifest, Store(tmp_path / "mer.zarr"), Machine("cpu"))
