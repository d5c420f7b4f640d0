"""Runs the fenced blocks of a page, or compares them with what they are about."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mercore.citations import entries
from mercore.cli import main
from mercore.errors import RegistryError
from mercore.manifest import MEDIA, Manifest, is_text_file
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHIPPED = (ROOT / "registry.yaml").read_text(encoding="utf-8")
PAPER = (ROOT / "examples/mer2024/registry.yaml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str


@dataclass(frozen=True)
class Place:
    """The folder in which the blocks of one page run, and the names they have given so far."""

    root: Path
    names: dict[str, Any] = field(default_factory=dict)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def modules_below(root: Path) -> list[str]:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file and root in Path(file).parents]


def forget_modules(place: Place) -> None:
    """Let what is below the place be imported again: there may be another state of it."""
    for name in modules_below(place.root):
        del sys.modules[name]


def run(block: Block, place: Place) -> None:
    """Run the block in the place; an error names the page and the line."""
    where = f"{block.page.relative_to(ROOT)}:{block.line}"
    if block.language not in LANGUAGES:
        pytest.fail(f"{where}: language {block.language!r}, expected one of {[*LANGUAGES]}")
    try:
        LANGUAGES[block.language](block.code, place)
    except BaseException as error:
        error.add_note(f"in the block at {where}")
        raise


def python(code: str, place: Place) -> None:
    """Run the code; a first line `# name.py` names the file of a module, which is imported."""
    named = re.match(r"# (\S+)\.py\n", code)
    if named is None:
        exec(compile(code, "<block>", "exec", dont_inherit=True), place.names)
        return
    path = place.root / f"{named[1]}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")
    forget_modules(place)
    importlib.invalidate_caches()
    module = importlib.import_module(named[1].removesuffix("/__init__").replace("/", "."))
    place.names.update(vars(module))


def shell(code: str, place: Place) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):  # OMP_NUM_THREADS=1 python ...
                words.pop(0)
            if words:
                assert words[0] in COMMANDS, f"command {words[0]!r}: expected {list(COMMANDS)}"
                COMMANDS[words[0]](words[1:], place)


def mer(arguments: Sequence[str], place: Place) -> None:
    """Run the command; where it needs a server, only parse it."""
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    if any("s3://" in word for word in arguments):
        name, *rest = arguments
        main.commands[name].make_context(name, rest)
        return
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def make(targets: Sequence[str], place: Place) -> None:
    for target in targets:
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
        assert recipe, f"no target {target!r} in the Makefile"
        if target == "demo":
            shell(recipe[1].replace("\t", "").replace("$(BIN)/", ""), place)


def pip(arguments: Sequence[str], place: Place) -> None:
    assert arguments[0] == "install"
    options = [word for word in arguments[1:] if word.startswith("-")]
    assert set(options) <= {"-r", "-e", "-c"}
    for name in arguments[1:]:
        if extra := re.fullmatch(r"mercore\[(\w+)\]", name):
            core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extra[1] in core["optional-dependencies"]
        elif name == ".[test]":  # of the plugin that the page is about
            if Path("pyproject.toml").is_file():  # written by `mer new`, not by the page
                project(Path("pyproject.toml").read_text(encoding="utf-8"), place)
            assert "test" in place.names["pyproject"]["optional-dependencies"]
        elif name not in options and not (ROOT / name).exists():
            assert re.search(rf"^{name}==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def python_script(arguments: Sequence[str], place: Place) -> None:
    if arguments[0] == "-m":
        assert arguments[1] == "venv"
        return
    script = (ROOT / arguments[0]).read_text(encoding="utf-8")
    for option in filter(lambda word: word.startswith("-"), arguments[1:]):
        assert f"{option} " in script, f"{arguments[0]} has no option {option}"


def pytest_run(arguments: Sequence[str], place: Place) -> None:
    # Looking for a GPU imports torch, which takes longer than all the rest.
    quick = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-k", "not devices"]
    command = [sys.executable, "-m", "pytest", *quick, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place.root), os.getcwd()])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def move(arguments: Sequence[str], place: Place) -> None:
    old, new = arguments
    (place.root / old).rename(place.root / new)


def change_folder(arguments: Sequence[str], place: Place) -> None:
    os.chdir(arguments[0])
    sys.path.insert(0, os.getcwd())


def make_folder(arguments: Sequence[str], place: Place) -> None:
    (place.root / arguments[0]).mkdir()


def nothing(arguments: Any, place: Place) -> None:
    """Leave it: `text`, a `layout` that tests/test_store_page.py checks, an activation."""


def registry(code: str, place: Place) -> None:
    """Read a registry; some keys of one are read on top of the shipped registry.yaml."""
    found, whole = yaml.safe_load(code), yaml.safe_load(SHIPPED)
    if "classes" not in found:
        for key, value in found.items():
            both = isinstance(value, dict) and key in ("streams", "features", "branches")
            whole[key] = whole[key] | value if both else value
        code = yaml.safe_dump(whole, sort_keys=False)
    resolved(code, place)


def resolved(code: str, place: Place) -> Pipeline | None:
    """Return the pipeline; None where a component of the paper is not installed."""
    (place.root / "block.yaml").write_text(code, encoding="utf-8")
    try:
        return resolve(Registry.read(place.root / "block.yaml"), Plugins())
    except RegistryError as error:
        for line in str(error).splitlines()[1:]:
            missing = re.search(r"no \w+ is called '(\w+)'", line)
            assert missing, line
            assert re.search(rf"\b{missing[1]}\b", PAPER), line
        return None


def edit(code: str, place: Place) -> None:
    """Apply a diff to the file that its first line names, else to the shipped registry.yaml."""
    named = re.match(r"--- (\S+)\n\+\+\+ \1\n@@\n", code)
    if named is None:
        swap(code, place)
        return
    path, lines = Path(named[1]), code[named.end() :].splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path} does not hold {old!r} once"
    path.write_text(text.replace(old, new), encoding="utf-8")
    forget_modules(place)


def swap(code: str, place: Place) -> None:
    """Apply a diff to the shipped registry.yaml, whose comments it may leave out."""
    shipped = re.sub(r" +#.*$", "", SHIPPED, flags=re.MULTILINE)
    old = [line[1:] for line in code.splitlines() if not line.startswith("+")]
    new = [line[1:] for line in code.splitlines() if not line.startswith("-")]
    assert shipped.count("\n".join(old) + "\n") == 1, f"registry.yaml does not hold {old}"
    before = resolved(shipped, place)
    changed = resolved(shipped.replace("\n".join(old), "\n".join(new)), place)
    assert changed
    assert before
    prints = [{n: x.fingerprint for n, x in p.nodes.items()} for p in (before, changed)]
    assert prints[0] != prints[1]


def manifest(suffix: str) -> Callable[[str, Place], None]:
    """Return what reads a manifest; the files it names are made first."""

    def read(code: str, place: Place) -> None:
        path = place.root / "block" / f"manifest{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")
        lines = code.splitlines()
        rows = csv.DictReader(lines) if suffix == ".csv" else map(json.loads, lines)
        for row in rows:
            for column in MEDIA:
                value = row.get(column) or ""
                if value and (column != "text" or is_text_file(value)):
                    (path.parent / value).parent.mkdir(parents=True, exist_ok=True)
                    (path.parent / value).touch()
        Manifest.read(path, yaml.safe_load(SHIPPED)["classes"])

    return read


def bibtex(code: str, place: Place) -> None:
    assert entries(code)


def project(code: str, place: Place) -> None:
    """Install a pyproject.toml as pip would note it."""
    about = place.names["pyproject"] = tomllib.loads(code)["project"]
    info = place.root / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Name: {about['name']}\nVersion: {about['version']}\n")
    points = about["entry-points"]["mercore"]
    lines = ["[mercore]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    importlib.invalidate_caches()
    plugins = Plugins()
    assert not plugins.broken, plugins.broken
    assert {provided.distribution for provided in plugins} >= {about["name"]}


LANGUAGES: dict[str, Callable[[str, Place], None]] = {
    "python": python, "py": python, "sh": shell, "yaml": registry, "diff": edit, "toml": project,
    "csv": manifest(".csv"), "jsonl": manifest(".jsonl"), "json": lambda code, _: json.loads(code),
    "text": nothing, "layout": nothing, "bibtex": bibtex,
}  # fmt: skip
COMMANDS: dict[str, Callable[[Sequence[str], Place], None]] = {
    "mer": mer, "make": make, "pip": pip, "python": python_script, "python3": python_script,
    "pytest": pytest_run, "mkdir": make_folder, "mv": move, "cd": change_folder, ".": nothing,
}  # fmt: skip
