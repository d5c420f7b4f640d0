"""The pages say what the code says. tests/test_docs_blocks.py runs what they show."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import mercore
from mercore import hookspecs
from mercore.plugins import KINDS, Plugins
from mercore.registry import Registry
from mercore.resolve import resolve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGES = ("cli", "ngrams", "nn", "store", "testing")
"""Rows of the table of modules as a whole; their own modules are private or commands."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_reference_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]()
    folder = ROOT / "docs/reference"
    kept = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.md")
    }
    stale = [name for name in {**made, **kept} if made.get(name) != kept.get(name)]
    assert not stale, f"docs/reference/{stale} differ; run: python docs/generate.py"


@pytest.mark.parametrize("kind", KINDS)
def test_each_hook_is_documented_with_its_signature(kind: str) -> None:
    hook = getattr(hookspecs, kind + "s")
    signature = str(inspect.signature(hook)).replace("'", "")
    page = (ROOT / "docs/reference/hooks.md").read_text(encoding="utf-8")
    assert f"def {kind}s{signature}: ..." in page


def test_the_readme_names_the_two_commands_first() -> None:
    first = blocks(README, "sh")[0]
    assert first.splitlines() == ["make demo", "make test"]


def test_the_readme_links_to_what_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_swap_of_the_readme_changes_one_feature(tmp_path: Path) -> None:
    shipped = (ROOT / "registry.yaml").read_text()
    diff = blocks(README, "diff")[0].splitlines()
    (old,) = (line[1:].strip() for line in diff if line.startswith("-"))
    (new,) = (line[1:].strip() for line in diff if line.startswith("+"))
    (tmp_path / "registry.yaml").write_text(shipped.replace(old, new))
    before = resolve(Registry.read(ROOT / "registry.yaml"), Plugins()).nodes
    after = resolve(Registry.read(tmp_path / "registry.yaml"), Plugins()).nodes
    changed = {name for name in before if before[name].fingerprint != after[name].fingerprint}
    assert changed == {"speech"}


def test_the_table_of_the_architecture_has_every_module() -> None:
    rows = re.findall(r"^\| (`.*?) \|", ARCHITECTURE, flags=re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    there = [module.name for module in pkgutil.iter_modules(mercore.__path__)]
    assert sorted(told) == sorted(there), "the table of docs/architecture.md, and mercore/"


def test_the_architecture_names_every_module_of_the_store() -> None:
    there = {path.stem for path in (ROOT / "mercore/store").glob("_[a-z]*.py")}
    assert set(re.findall(r"`(_\w+)`", ARCHITECTURE)) == there


def test_the_diagram_of_the_architecture_names_what_the_code_defines() -> None:
    diagram = blocks(ARCHITECTURE, "text")[0]
    modules = [
        importlib.import_module(f"mercore.{module.name}")
        for module in pkgutil.iter_modules(mercore.__path__)
        if module.name not in PACKAGES
    ] + [importlib.import_module("mercore.store")]
    # What starts with a capital inside a line, and what is written like a function.
    named = set(re.findall(r"\b(?:[A-Z][a-z]+[A-Za-z]*|[a-z]+_[a-z_]+)\b(?![:.]yaml)", diagram))
    defined = {name for module in modules for name in vars(module)}
    unknown = {
        name for name in named if name not in defined and name.removesuffix("s") not in defined
    }
    assert unknown == set()


@pytest.mark.parametrize(
    "found",
    [
        "pickle",
        r"allow_pickle\s*=\s*True",
        r"trust_remote_code\s*=\s*True",
        r"shell\s*=\s*True|os\.(?:system|popen)",
        r"yaml\.(?:unsafe_|full_)?load\(|yaml\.Loader",
    ],
)
def test_no_module_does_what_the_security_page_rules_out(found: str) -> None:
    # The name of pickle's error is all that may be imported.
    pickled = rf"^\s*(?:import|from) {found}\b(?! import UnpicklingError\b)"
    pattern = pickled if found == "pickle" else found
    files = [path for part in ("mercore", "plugins") for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 50
    guilty = [path for path in files if re.search(pattern, path.read_text(), re.MULTILINE)]
    assert guilty == []


@pytest.mark.parametrize("name", ["security", "reliability"])
def test_the_tests_that_a_page_names_are_there(name: str) -> None:
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", page)
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), (file, test)


def test_torch_loads_weights_only() -> None:
    for path in (ROOT / "plugins").rglob("*.py"):
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text()):
            assert "weights_only=True" in call, f"{path.name}: {call}"


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    # Not --quiet: mkdocs does not count the warnings that it does not print.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))  # and 404.html
    for page in pages:
        fetched = re.findall(
            r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?(https?:[^" >]+)', page.read_text()
        )
        assert fetched == [], page.name
