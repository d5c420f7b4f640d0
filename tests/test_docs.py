from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mercore import hookspecs
from mercore.cli import main
from mercore.components import Encoder
from mercore.errors import RegistryError
from mercore.media import Text
from mercore.plugins import KINDS, Plugins
from mercore.registry import Registry
from mercore.resolve import resolve

ROOT = Path(__file__).parent.parent
PLUGIN_PAGE = (ROOT / "docs/writing-a-plugin.md").read_text()
README = (ROOT / "README.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_plugin_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks(PLUGIN_PAGE, "python")[0]
    project = tomllib.loads(blocks(PLUGIN_PAGE, "toml")[0])["project"]
    ((name, module),) = project["entry-points"]["mercore"].items()
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins([EntryPoint(name, module, "mercore")])
    assert plugins.broken == []
    encode = plugins.build(Encoder, "length", {}).load("cpu", "float32")
    (result,) = encode([{"text": Text("hello")}])
    assert result.tolist() == [[5.0]]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_each_hook_is_documented_with_its_signature(kind: str) -> None:
    hook = getattr(hookspecs, kind + "s")
    signature = str(inspect.signature(hook)).replace("'", "")
    assert f"def {kind}s{signature}: ..." in PLUGIN_PAGE


def test_every_command_the_readme_shows_exists() -> None:
    shown = {
        word
        for block in blocks(README, "bash") + blocks(README, "sh")
        for word in re.findall(r"^\s*mer (\w+)", block, flags=re.MULTILINE)
    }
    assert shown
    assert shown <= set(main.commands)


def test_the_readme_names_the_two_commands_first() -> None:
    first = blocks(README, "sh")[0]
    assert first.splitlines() == ["make demo", "make test"]


def test_the_swap_of_the_readme_works_on_the_shipped_registry(tmp_path: Path) -> None:
    shipped = (ROOT / "registry.yaml").read_text()
    diff = blocks(README, "diff")[0].splitlines()
    (old,) = (line[1:].strip() for line in diff if line.startswith("-"))
    (new,) = (line[1:].strip() for line in diff if line.startswith("+"))
    assert shipped.count(old) == 1
    (tmp_path / "registry.yaml").write_text(shipped.replace(old, new))
    before = resolve(Registry.read(ROOT / "registry.yaml"), Plugins())
    after = resolve(Registry.read(tmp_path / "registry.yaml"), Plugins())
    changed = {
        name
        for name, node in {**after.streams, **after.features}.items()
        if node.fingerprint != {**before.streams, **before.features}[name].fingerprint
    }
    assert changed == {"speech"}


def test_the_pipeline_of_the_paper_lacks_nothing_but_components() -> None:
    registry = Registry.read(ROOT / "examples/mer2024/registry.yaml")
    with pytest.raises(RegistryError) as caught:
        resolve(registry, Plugins())
    mistakes = str(caught.value).splitlines()[1:]
    assert all("is called" in line for line in mistakes), mistakes
