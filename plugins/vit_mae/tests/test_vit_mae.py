"""The encoder `vit_mae`: each published layout, compared with transformers' own ViT.

The reference is ``ViTModel`` of transformers, loaded by its own ``from_pretrained`` from the layout
of transformers: it shares neither code nor key map with timm's VisionTransformer.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_vit_mae as tiny
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import ViTConfig, ViTMAEForPreTraining, ViTModel
from vit_mae_cases import (
    FINETUNED,
    FULL,
    PRETRAINED,
    TUNED,
    apart,
    clip,
    encode,
    plain,
    prepared,
)

from mercore.errors import RegistryError
from mercore_vit_mae._layouts import HEADS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


@functools.cache
def reference() -> Any:
    """Return transformers' ViT on the tiny weights, with the eps of the original."""
    config = ViTConfig(
        hidden_size=tiny.DIM,
        num_hidden_layers=tiny.DEPTH,
        num_attention_heads=tiny.HEADS,
        intermediate_size=4 * tiny.DIM,
        image_size=tiny.SIDE,
        patch_size=tiny.PATCH,
        layer_norm_eps=1e-6,
    )
    with tempfile.TemporaryDirectory() as name:
        load: Any = ViTModel.from_pretrained
        model, info = load(
            tiny.write(Path(name), decoder=False),
            config=config,
            add_pooling_layer=False,
            output_loading_info=True,
        )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


@torch.inference_mode()
def states(pictures: torch.Tensor) -> list[torch.Tensor]:
    """Return the reference's hidden states 0 to depth; the last behind the norm."""
    model = reference()
    kept: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
        for layer in model.layers
    ]
    hooks.append(
        model.layers[0].register_forward_pre_hook(lambda _m, inputs: kept.append(inputs[0]))
    )
    last = model(pictures).last_hidden_state
    for hook in hooks:
        hook.remove()
    return [*kept[:-1], last]


def test_the_tiny_checkpoint_is_in_the_layout_of_transformers(folder: Path) -> None:
    load: Any = ViTMAEForPreTraining.from_pretrained
    _, info = load(folder, output_loading_info=True)
    assert not any(info.values())


def test_usual_sizes_are_timms() -> None:
    names = ["tiny_patch16", "small_patch16", "base_patch16", "large_patch16", "huge_patch14"]
    with torch.device("meta"):
        models: list[Any] = [timm.create_model(f"vit_{name}_224") for name in names]
    heads = {(m.embed_dim, len(m.blocks)): m.blocks[0].attn.num_heads for m in models}
    assert heads == HEADS


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_it_is_transformers_vit(folder: Path, pool: Any) -> None:
    media = clip(5)
    last = states(prepared(media))[-1]
    expected = last[:, 0] if pool == "cls" else last[:, 1:].mean(1)
    assert apart(encode(folder, media, pool=pool), expected) <= 1e-5


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("layers", [(0,), (1,), (-2, -1), (0, 1, 2, 3), (3,), (-4, -2)])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_layers_are_those_of_transformers(
    folder: Path, layers: tuple[int, ...], reduce: Any, pool: Any
) -> None:
    media = clip(2)
    own = encode(folder, media, layers=layers, reduce=reduce, pool=pool)
    kept = states(prepared(media))
    total = torch.stack([kept[layer] for layer in layers]).sum(0)
    tokens = total / len(layers) if reduce == "mean" else total
    assert apart(own, tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)) <= 1e-5


def test_eps_is_the_originals_whatever_config_json_says(tmp_path: Path) -> None:
    """On embeddings so small that eps matters: published config.json say 1e-12."""
    tensors = tiny.encoder()
    small = ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")
    tensors |= {name: tensors[name] * 0.003 for name in small}
    tiny.dump(tmp_path / "config.json", tiny.CONFIGS["transformers"])
    save_file(tiny.transformers(tensors), tmp_path / "model.safetensors", {"format": "pt"})
    own = encode(tmp_path, clip(2))
    expected = {}
    for eps in (1e-6, 1e-12):
        config = reference().config.__class__(**reference().config.to_dict())
        config.layer_norm_eps = eps
        model = ViTModel.from_pretrained(tmp_path, config=config, add_pooling_layer=False)
        with torch.inference_mode():
            expected[eps] = model(prepared(clip(2))).last_hidden_state[:, 1:].mean(1)
    assert apart(own, expected[1e-6]) <= 1e-5
    assert apart(own, expected[1e-12]) > 1e-3


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_layout_gives_the_same(name: str, folder: Path, tmp_path: Path) -> None:
    media = clip(2)
    own = encode(PRETRAINED[name](tmp_path), media, heads=tiny.HEADS, layers=(-2, -1))
    assert apart(own, encode(folder, media, layers=(-2, -1))) == 0


@pytest.mark.parametrize("name", FINETUNED)
def test_a_finetuned_network_norms_the_mean_of_its_patches(name: str, tmp_path: Path) -> None:
    checkpoint = FINETUNED[name](tmp_path)
    weight, bias = TUNED["fc_norm.weight"], TUNED["fc_norm.bias"]
    *kept, _ = states(prepared(clip(3)))
    model = reference()
    with torch.inference_mode():
        last = model.layers[-1](kept[-1])
    mean = F.layer_norm(last[:, 1:].mean(1), (tiny.DIM,), weight, bias, eps=1e-6)
    own = encode(checkpoint, clip(3), heads=tiny.HEADS)
    assert apart(own, mean) <= 1e-5
    both = encode(checkpoint, clip(3), heads=tiny.HEADS, layers=(1, -1), reduce="sum")
    assert apart(both, mean + kept[1][:, 1:].mean(1)) <= 1e-5


@pytest.mark.parametrize("name", FINETUNED)
def test_a_class_token_that_was_not_trained_is_refused(name: str, tmp_path: Path) -> None:
    checkpoint = FINETUNED[name](tmp_path)
    with pytest.raises(RegistryError, match="last class token means nothing; use `pool: mean`"):
        encode(checkpoint, clip(1), heads=tiny.HEADS, pool="cls")
    kept = states(prepared(clip(2)))
    own = encode(checkpoint, clip(2), heads=tiny.HEADS, pool="cls", layers=(-2,))
    assert apart(own, kept[-2][:, 0]) <= 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_half_precision_is_near(folder: Path, tmp_path: Path, dtype: str, stored: str) -> None:
    kind = getattr(torch, stored)
    tensors = {name: tensor.to(kind) for name, tensor in tiny.transformers(FULL).items()}
    checkpoint = plain(tensors, ".safetensors")(tmp_path)
    exact = encode(folder, clip(3))
    own = encode(checkpoint, clip(3), dtype, heads=tiny.HEADS)
    assert own.dtype == np.float32
    assert 0 < apart(own, exact) <= 0.05 * np.abs(exact).max()
