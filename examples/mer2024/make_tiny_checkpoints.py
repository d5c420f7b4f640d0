"""Write tiny random checkpoints in the published layouts, and a registry that uses them.

    python examples/mer2024/make_tiny_checkpoints.py tiny
    mer run --registry tiny/registry.yaml --manifest examples/demo/manifest.csv \
      --store tiny/mer.zarr --out tiny/run

The registry is the one beside this script; only its ``checkpoint:`` lines differ. The weights are
random, so the scores say nothing: this shows that the whole pipeline runs, and what the files of
each checkpoint are. It needs a clone: the writers are those of the plugins' tests.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
REGISTRY = Path(__file__).with_name("registry.yaml")
FEATURES = {
    "hubert": "hubert",
    "baichuan": "baichuan",
    "vit": "vit_mae",
    "internvit": "internvit",
    "jat": "qwen_jat",
}
"""The plugin of each feature of the registry."""


def write_all(folder: Path) -> Path:
    """Write a checkpoint a feature and the registry into `folder`; return the registry's path."""
    registry = REGISTRY.read_text(encoding="utf-8")
    for feature, plugin in FEATURES.items():
        sys.path.insert(0, str(ROOT / "plugins" / plugin / "tests"))
        written = importlib.import_module(f"tiny_{plugin}").write(folder.resolve() / feature)
        registry = _with_checkpoint(registry, feature, written)
    path = folder / "registry.yaml"
    path.write_text(registry, encoding="utf-8")
    return path


def _with_checkpoint(registry: str, feature: str, checkpoint: Path) -> str:
    """Return the registry with another checkpoint of the feature."""
    line = re.compile(rf"(\n  {feature}:.*?\n      checkpoint: )[^\n]*", re.DOTALL)
    changed, count = line.subn(lambda found: f"{found[1]}{checkpoint}", registry, count=1)
    if not count:
        raise ValueError(f"{REGISTRY.name}: no checkpoint line of the feature {feature!r}")
    return changed


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write them into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = write_all(folder)
    click.echo(f"{registry}: run `mer check --registry {registry}`")


if __name__ == "__main__":
    main()
