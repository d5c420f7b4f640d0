"""A new plugin: a whole distribution, written from the templates in ``templates/plugin``."""

from __future__ import annotations

import keyword
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined

import mercore
from mercore.errors import PluginError
from mercore.pipeline import ROOTS
from mercore.plugins import GROUP, Plugins

LONGEST = 28
"""Characters of a name: with more, lines of the code would be too long."""
LONGEST_AUTHOR = 60

_SHARED = {
    ".github/workflows/test.yml": "workflow.yml",
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
}


@dataclass(frozen=True)
class Scaffold:
    """What is decided about a new plugin; raises PluginError for a name that cannot be."""

    kind: str
    """``encoder``, ``preprocessor``, ``fusion`` or ``ensemble``."""
    name: str
    author: str
    licence: str = "MIT"
    """That or ``Apache-2.0`` or ``BSD-3-Clause``."""
    input: str = "audio"
    """What the example of an encoder reads: that, ``video`` or ``text``."""

    def __post_init__(self) -> None:
        if problem := _unfit_name(self.name) or self._taken_word():
            raise PluginError(f"name {self.name!r}: {problem}")
        if problem := _unfit_author(self.author):
            raise PluginError(f"author {self.author!r}: {problem}")

    @property
    def distribution(self) -> str:
        """What pip installs, and the folder: ``mercore-NAME``."""
        return f"mercore-{self.name}"

    @property
    def package(self) -> str:
        """What Python imports: ``mercore_NAME``."""
        return f"mercore_{self.name}"

    @property
    def cls(self) -> str:
        """The class of the component: the name in camel case and the kind, ``LoudnessEncoder``."""
        camel = "".join(part.capitalize() for part in self.name.split("_"))
        return camel.removesuffix(self.kind.capitalize()) + self.kind.capitalize()

    def files(self) -> dict[str, str]:
        """Return the content of each file of the distribution, by its path in it."""
        example = f"{self.input}_encoder" if self.kind == "encoder" else self.kind
        templates = {
            **_SHARED,
            "LICENSE": f"licences/{self.licence}",
            f"{self.package}/__init__.py": f"{example}/component",
            f"{self.package}/_model.py": f"{example}/model",
            f"tests/test_{self.name}.py": f"{example}/test",
        }
        made = {path: self._rendered(template) for path, template in templates.items()}
        return dict(sorted({**made, f"{self.package}/py.typed": ""}.items()))

    def registry_lines(self) -> str:
        """Return the YAML that uses the component in a registry.yaml."""
        return self._rendered("registry.yaml")

    def _rendered(self, template: str) -> str:
        environment = Environment(
            loader=FunctionLoader(_read),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return environment.get_template(f"{template}.jinja").render(
            kind=self.kind,
            name=self.name,
            author=self.author,
            licence=self.licence,
            input=self.input,
            distribution=self.distribution,
            package=self.package,
            cls=self.cls,
            version=mercore.__version__,
            year=date.today().year,
        )

    def _taken_word(self) -> str:
        """Return what else the name means in Python, in YAML or in mercore, or ``""``."""
        reason = ""
        if keyword.iskeyword(self.name):
            reason = "it is a word of Python"
        elif (read := yaml.safe_load(self.name)) != self.name:
            reason = f"registry.yaml would read it as {read!r}"
        elif self.name in ROOTS:
            reason = "it is a stream that every manifest has"
        elif self.cls in mercore.__all__:
            reason = f"its class would be {self.cls!r}, and mercore has one of that name"
        return reason and f"{reason}; take another, such as 'my_{self.name}'"


def create(scaffold: Scaffold, parent: str | Path) -> Path:
    """Return the folder ``parent/mercore-NAME`` with all files of the new plugin.

    It appears when all is written, never in part. Raises PluginError where an installed
    distribution has the name, where there is something in the folder, or it cannot be written.
    """
    _check_free(scaffold)
    folder = Path(parent) / scaffold.distribution
    try:
        _check_place(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write(scaffold.files(), folder)
    except OSError as error:
        reason = error.strerror or error
        raise PluginError(f"cannot write {folder}: {reason}; nothing was written") from error
    return folder


def component_name(given: str) -> str:
    """Return the name of the component in ``my-encoder`` or ``mercore-my-encoder``: no dashes."""
    return given.removeprefix("mercore-").replace("-", "_")


def git_author() -> str:
    """Return what ``git config user.name`` says, or ``""``."""
    command = ["git", "config", "user.name"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _check_free(scaffold: Scaffold) -> None:
    """Raise PluginError where an installed distribution has the name already."""
    name, package = scaffold.name, scaffold.package
    cure = "take another name, or uninstall that"
    for provided in Plugins():
        if (provided.kind, provided.component.name) == (scaffold.kind, name):
            raise PluginError(
                f"name {name!r}: {provided.origin} provides the {scaffold.kind} {name!r}; {cure}"
            )
    for entry_point in entry_points(group=GROUP, name=package):
        owner = entry_point.dist.name if entry_point.dist else "another distribution"
        raise PluginError(f"name {name!r}: {owner} has a plugin called {package!r}; {cure}")
    if find_spec(package):
        raise PluginError(f"name {name!r}: a package called {package!r} is installed; {cure}")


def _check_place(folder: Path) -> None:
    """Raise PluginError where something is in the place of the folder, or of the one above it."""
    if folder.parent.exists() and not folder.parent.is_dir():
        raise PluginError(f"{folder.parent} is a file, expected the folder that gets {folder.name}")
    there = folder.is_symlink() or folder.exists()
    if there and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(
            f"{folder} is there already and not an empty folder; nothing was written. Take "
            "another name or another folder (--into), or delete it"
        )


def _write(content: Mapping[str, str], folder: Path) -> None:
    """Write the files into a folder beside it, which then takes its place."""
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        made = Path(beside) / folder.name
        for path, text in content.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()  # fails where something has come into it meanwhile
        made.rename(folder)


def _unfit_name(name: str) -> str:
    """Return why no component can have the name, and a name near it, or ``""``."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        plain = re.sub(r"[^a-z0-9]+", "_", apart).strip("_")
        near = plain.removeprefix("mercore_").lstrip("_0123456789")
        hint = f"; did you mean {near!r}?" if near else ""
        return f"expected lower-case letters, digits and '_', the first one a letter{hint}"
    if len(name) > LONGEST:
        return f"found {len(name)} characters, expected {LONGEST} at most"
    return ""


def _unfit_author(author: str) -> str:
    """Return why the author cannot be put into the files as it is, or ``""``."""
    if not author.strip() or len(author) > LONGEST_AUTHOR or not author.isprintable():
        return f"expected one line of {LONGEST_AUTHOR} characters at most; give it with --author"
    if found := sorted(set(author) & set('{}<>"\\')):
        return f"found {' '.join(found)}, expected a name alone; give it with --author"
    return ""


def _read(template: str) -> str:
    return files("mercore").joinpath("templates/plugin", template).read_text(encoding="utf-8")
