"""``mercore.open``: where work in Python begins."""

from __future__ import annotations

from pathlib import Path

from mercore.limits import DEFAULT, Limits
from mercore.machine import Machine
from mercore.project import Project
from mercore.watch import Silent, Terminal


def open(
    registry: str | Path = "registry.yaml",
    *,
    manifest: str | Path = "manifest.csv",
    store: str | Path = "mer.zarr",
    out: str | Path = "runs/default",
    endpoint: str | None = None,
    create: bool = True,
    device: str = "auto",
    batch: float = 1.0,
    threads: int = 2,
    parallel: int = 0,
    limits: Limits = DEFAULT,
    root: str | Path | None = None,
    devices: str = "",
    engine: str = "local",
    address: str = "auto",
    workers: int = 0,
    progress: bool = False,
) -> Project:
    """Return the project: the registry on the samples of the manifest.

    ::

        project = mercore.open("registry.yaml", manifest="manifest.csv")
        project.extract()
        project.features["hubert"].matrix()    # (samples, dim) float32

    The arguments are the options of `mer`: `store` may be ``s3://bucket/prefix`` with `endpoint`,
    `device` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, `batch` scales the batches, `threads`
    decode ahead, `parallel` features are extracted at once, worker processes extract on the
    `devices` (``cuda:0,cuda:1``, ``cpu:2``), or so many `workers` on the Ray cluster at `address`
    with the `engine` ``ray``, a clip beyond the `limits` (``mercore.limits.Limits``) fails alone,
    and below `root` all media must lie. With `progress` bars on stderr, where that is a terminal,
    show how long work goes on.

    An empty store is made where there is none; with ``create=False`` that is a StoreError, and one
    that may only be read is not written to. Loads no weights. Raises RegistryError and
    ManifestError with all mistakes of a file at once, PluginError for a component that is not
    installed.
    """
    return Project.open(
        registry,
        manifest,
        store,
        endpoint,
        out,
        create,
        Machine(
            device,
            batch,
            threads,
            parallel,
            limits,
            devices,
            engine=engine,
            address=address,
            workers=workers,
        ),
        Terminal() if progress else Silent(),
        root,
    )
