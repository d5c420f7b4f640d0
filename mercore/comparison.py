"""Two experiments side by side: what differs, and what it takes to run the second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mercore.difference import SAME, Difference, differences
from mercore.errors import MercoreError, RegistryError
from mercore.folder import RunFolder
from mercore.machine import Machine
from mercore.manifest import Manifest
from mercore.pipeline import Pipeline
from mercore.plan import Plan, plan, replaced
from mercore.plugins import Plugins
from mercore.project import Project
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.search import with_found
from mercore.store import Collection, Store
from mercore.watch import Silent

DEFAULT_OUT = Path("runs/default")


@dataclass(frozen=True)
class Side:
    """One of the two: a registry.yaml, or a run folder with its own."""

    given: Path

    @property
    def folder(self) -> Path | None:
        """The run folder, where it is one."""
        return self.given if self.given.is_dir() else None

    @property
    def registry(self) -> Path:
        """The registry; raises RegistryError where there is none."""
        if not self.given.exists():
            raise RegistryError(f"nothing at {str(self.given)!r}; give a registry or a run folder")
        file = self.given / "registry.yaml" if self.folder else self.given
        if not file.exists():
            raise RegistryError(
                f"no registry.yaml in {str(self.given)!r}; a run folder has one after `mer train`"
            )
        return file

    def pipeline(self, plugins: Plugins, out: Path) -> Pipeline:
        """Return the pipeline, with what a search found in the run folder `out`."""
        return with_found(resolve(Registry.read(self.registry), plugins), RunFolder(out))


@dataclass(frozen=True)
class Comparison:
    """What differs, and what running the second registry would do."""

    before: Pipeline
    after: Pipeline
    out: Path
    """The run folder that the second would be run in."""
    parts: tuple[Difference, ...]
    plan: Plan | None
    """None without a manifest, or where the manifest does not suit the second registry."""
    problem: str | None
    """Why `mer run` would not begin."""
    stored: bool
    """Whether there is a store."""
    superseded: tuple[tuple[Collection, int], ...]
    """What the first used and the second does not, and its bytes."""

    @property
    def differs(self) -> bool:
        """Whether anything is computed otherwise."""
        return any(part.status != SAME for part in self.parts)


def compare(
    before: Side,
    after: Side,
    *,
    manifest: str | Path | None = None,
    store: str | Path = "mer.zarr",
    endpoint: str | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Return what differs between two experiments; nothing is written.

    The second is taken to be run in `out`; without it in its own run folder, else in that of the
    first. Raises RegistryError with the mistakes of both files, StoreError for what is no store.
    """
    place = Path(out or after.folder or before.folder or DEFAULT_OUT)
    old, new = _pipelines(before, after, place)
    found = Store.find(store, endpoint=endpoint)
    done, problem = None, None
    if manifest:
        measured = [RunFolder(before.folder)] if before.folder else []
        done, problem = _planned(new, Path(manifest), found, place, measured)
    gone = replaced(old, new, found) if found else []
    sizes = tuple((one, found.size(one)) for one in gone) if found else ()
    parts = tuple(differences(old, new))
    return Comparison(old, new, place, parts, done, problem, found is not None, sizes)


def _pipelines(before: Side, after: Side, out: Path) -> tuple[Pipeline, Pipeline]:
    plugins = Plugins()
    pipelines, wrong = [], []
    for name, side, folder in (("first", before, before.folder or out), ("second", after, out)):
        try:
            pipelines.append(side.pipeline(plugins, folder))
        except MercoreError as error:
            wrong.append(f"the {name}: {error}")
    if wrong:
        raise RegistryError("\n".join(wrong))
    old, new = pipelines
    return old, new


def _planned(
    pipeline: Pipeline, path: Path, store: Store | None, out: Path, measured: list[RunFolder]
) -> tuple[Plan | None, str | None]:
    """Return what running it would do, or why it would not begin."""
    try:
        manifest = Manifest.read(path, pipeline.classes, bare=pipeline.bare)
        pipeline.check_media(manifest)
    except MercoreError as error:
        if not path.exists():
            raise
        return None, str(error)
    with TemporaryDirectory() as empty:
        project = Project(
            pipeline, manifest, store or Store(empty), RunFolder(out), Machine(), Silent()
        )
        done = plan(project, measured)
    return done, done.problem
