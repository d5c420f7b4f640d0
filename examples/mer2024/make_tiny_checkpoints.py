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
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
REGISTRY = Path(__file__).with_name("registry.yaml")
PARAFORMER = "modelscope:iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"
PUNCTUATION = "modelscope:iic/punc_ct-transformer_cn-en-common-vocab471067-large"
WRITERS = {
    PARAFORMER: ("paraformer", "tiny_paraformer"),
    PUNCTUATION: ("paraformer", "tiny_ct_transformer"),
    "alibabasglab/MossFormer2_SS_16K": ("mossformer2", "tiny_mossformer2"),
    "TencentGameMate/chinese-hubert-large": ("hubert", "tiny_hubert"),
    "baichuan-inc/Baichuan-13B-Chat": ("baichuan", "tiny_baichuan"),
    "timm/vit_base_patch16_224.mae": ("vit_mae", "tiny_vit_mae"),
    "OpenGVLab/InternVL-14B-224px": ("internvit", "tiny_internvit"),
    "Qwen/Qwen-Audio": ("qwen_jat", "tiny_qwen_jat"),
}
"""The plugin and the module of its tests that write each checkpoint of the registry."""


def write_all(folder: Path) -> Path:
    """Write every checkpoint and the registry into `folder`; return the registry's path."""
    registry = REGISTRY.read_text(encoding="utf-8")
    for checkpoint, (plugin, module) in WRITERS.items():
        sys.path.insert(0, str(ROOT / "plugins" / plugin / "tests"))
        name = module.removeprefix("tiny_")
        written = importlib.import_module(module).write(folder.resolve() / name)
        registry = _with_checkpoint(registry, checkpoint, written)
    path = folder / "registry.yaml"
    path.write_text(registry, encoding="utf-8")
    return path


def _with_checkpoint(registry: str, published: str, written: Path) -> str:
    """Return the registry with another checkpoint wherever it names the published one."""
    line = f"checkpoint: {published}\n"
    if line not in registry:
        raise ValueError(f"{REGISTRY.name}: no line '{line.strip()}'")
    return registry.replace(line, f"checkpoint: {written}\n")


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write them into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = write_all(folder)
    click.echo(f"{registry}: run `mer check --registry {registry}`")


if __name__ == "__main__":
    main()
