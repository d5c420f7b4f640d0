"""What `vit_mae` refuses: weights and files that do not fit, each with its reason."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vit_mae as tiny
import torch
from safetensors.torch import load_file, save_file
from vit_mae_cases import ENCODER, PRETRAINED, TUNED, apart, clip, encode, wrapped

from mercore import CheckpointError
from mercore.errors import RegistryError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


def changed(folder: Path, tmp_path: Path, **changes: torch.Tensor | None) -> Path:
    """Return a copy of the checkpoint with these weights in place of its own, or without them."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensors: dict[str, Any] = {**load_file(copy / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    return copy


LAYER = "vit.encoder.layer.1."


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({LAYER + "attention.attention.key.bias": None}, r"incomplete: blocks\.1\.attn\.qkv\.bias"),
        ({LAYER + "output.dense.weight": None}, r"missing: blocks\.1\.mlp\.fc2\.weight"),
        ({"vit.layernorm.bias": None}, r"missing: norm\.bias"),
        ({"vit.encoder.layer.0.layernorm_before.gamma": torch.ones(1)}, "not expected: .*gamma"),
        ({"vit.pooler.dense.weight": torch.ones(2, 2)}, r"not expected: vit\.pooler"),
        (
            {LAYER + "intermediate.dense.weight": torch.ones(64, 32)},
            r"of another shape: .*\(64, 32\), expected \(128, 32\)",
        ),
        ({"vit.embeddings.cls_token": None}, r"lacks vit\.embeddings\.cls_token"),
        ({"vit.embeddings.cls_token": torch.ones(32)}, r"cls_token has the shape \(32,\)"),
        (
            {"vit.embeddings.position_embeddings": torch.ones(1, 49, 32)},
            "positions for 49 tokens, expected a class token and a square",
        ),
        ({"vit.embeddings.position_embeddings": None}, "lacks vit.embeddings.position_embeddings"),
    ],
)
def test_other_weights_are_refused(
    folder: Path, tmp_path: Path, changes: dict[str, torch.Tensor | None], says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        encode(changed(folder, tmp_path, **changes), clip(1))


def fewer(tensors: tiny.Tensors, *blocks: int) -> tiny.Tensors:
    starts = tuple(f"blocks.{block}." for block in blocks)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(starts)}


def test_blocks_that_are_absent_are_noticed(tmp_path: Path) -> None:
    tiny.write(tmp_path, "timm", decoder=False)
    save_file(fewer(ENCODER, 1), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="blocks up to number 2, but not 1; was the check"):
        encode(tmp_path, clip(1), layers=(0,))
    save_file(fewer(ENCODER, 2), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"have 2 blocks, but config.json says 32 and 3"):
        encode(tmp_path, clip(1), layers=(0,))


def test_a_layer_too_many_is_noticed_though_it_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    extra = {"vit.encoder.layer.3.layernorm_before.weight": torch.ones(32)}
    with pytest.raises(CheckpointError, match=r"have 4 blocks, but config.json says 32 and 3"):
        encode(changed(folder, tmp_path, **extra), clip(1), layers=(1,))


@pytest.mark.parametrize("depth", [11, 12])
def test_a_file_of_a_usual_size_needs_no_heads(tmp_path: Path, depth: int) -> None:
    """ViT-Tiny's 192 x 12 has 3 heads; with a block less it was cut, and the file does not say."""
    zeros = {
        "cls_token": torch.zeros(1, 1, 192),
        "pos_embed": torch.zeros(1, 50, 192),
        "patch_embed.proj.weight": torch.zeros(192, 3, 32, 32),
        "patch_embed.proj.bias": torch.zeros(192),
        "norm.weight": torch.ones(192),
        "norm.bias": torch.arange(192.0),
    }
    sizes = {"attn.qkv": (576, 192), "attn.proj": (192, 192), "mlp.fc1": (8, 192)}
    sizes["mlp.fc2"] = (192, 8)
    for block in range(depth):
        for norm in ("norm1", "norm2"):
            zeros |= {
                f"blocks.{block}.{norm}.{kind}": torch.ones(192) for kind in ("weight", "bias")
            }
        for name, shape in sizes.items():
            zeros[f"blocks.{block}.{name}.weight"] = torch.zeros(shape)
            zeros[f"blocks.{block}.{name}.bias"] = torch.zeros(shape[0])
    checkpoint = wrapped(zeros)(tmp_path)
    if depth == 12:
        assert apart(encode(checkpoint, clip(1)), np.arange(192, dtype=np.float32)[None]) == 0
        return
    with pytest.raises(CheckpointError, match="11 blocks of width 192 are no usual ViT"):
        encode(checkpoint, clip(1))


def test_heads_come_from_the_checkpoint_where_it_says(folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"option 'heads' is 4, but .* says it has 2; leave"):
        encode(folder, clip(1), heads=4)
    assert apart(encode(folder, clip(1), heads=2), encode(folder, clip(1))) == 0


def test_a_missing_config_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match=r"no config.json says how many attention heads"):
        encode(tmp_path, clip(1))
    with pytest.raises(RegistryError, match="5 heads do not divide"):
        encode(tmp_path, clip(1), heads=5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "vit"}, "model_type 'vit' .*expected model_type 'vit_mae'"),
        ({"model_type": "videomae"}, "not a masked autoencoder"),
        ({"model_type": None}, "not a masked autoencoder"),
        ({"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu', expected 'gelu'"),
        ({"hidden_size": 48}, "32 wide and have 3 blocks, but config.json says 48 and 3"),
        ({"num_hidden_layers": 12}, "config.json says 32 and 12"),
        ({"num_attention_heads": "many"}, "config.json: cannot be used(.|\n)*num_attention_heads"),
    ],
)
def test_another_config_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    tiny.dump(copy / "config.json", tiny.CONFIGS["transformers"] | changes)
    with pytest.raises(CheckpointError, match=says):
        encode(copy, clip(1))


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "is no JSON"), ('{"image_mean": [0.5]}', "image_mean")],
)
def test_a_broken_preprocessor_is_refused(
    folder: Path, tmp_path: Path, content: str, says: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=says):
        encode(copy, clip(1))


def test_another_timm_network_is_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path, "timm")
    tiny.dump(tmp_path / "config.json", tiny.CONFIGS["timm"] | {"architecture": "resnet50"})
    with pytest.raises(CheckpointError, match="architecture 'resnet50': not a masked autoencoder"):
        encode(tmp_path, clip(1))


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"blocks.0.ls1.gamma": torch.ones(32)}, "not expected: blocks.0.ls1.gamma"),  # DINOv2
        ({"dist_token": torch.ones(1, 1, 32)}, "not expected: dist_token"),  # DeiT
        ({"fc_norm.weight": torch.ones(32)}, "given twice: norm.weight"),
    ],
)
def test_another_family_is_refused(
    tmp_path: Path, extra: dict[str, torch.Tensor], says: str
) -> None:
    checkpoint = wrapped(ENCODER | extra)(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        encode(checkpoint, clip(1), heads=tiny.HEADS)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"layer1.0.conv1.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no blocks named as by timm .*found layer1.0.conv1"):
        encode(tmp_path, clip(1))


def test_a_missing_shard_and_missing_weights_are_named(tmp_path: Path) -> None:
    checkpoint = PRETRAINED["transformers shards"](tmp_path)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 files .*model-00002-of-00002"):
        encode(checkpoint, clip(1))
    for file in checkpoint.glob("model*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        encode(checkpoint, clip(1))
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        encode(checkpoint / "nothing", clip(1))


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    """As facebook's fine-tuning saves it, its arguments and all."""
    checkpoint = wrapped(TUNED, args=Namespace(lr=1e-3))(tmp_path)
    with pytest.raises(CheckpointError, match="reading it could run code"):
        encode(checkpoint, clip(1))
