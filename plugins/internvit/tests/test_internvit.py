from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_internvit as tiny
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mercore.errors import InputError, RegistryError
from mercore.media import FloatArray, Frames
from mercore.testing import EncoderTests
from mercore_internvit import InternViT
from mercore_internvit._model import InternViTModel

MEAN, STD = tiny.PREPROCESSOR["image_mean"], tiny.PREPROCESSOR["image_std"]


@cache
def checkpoint(
    layout: tiny.Layout = "internvl_14b", kind: Literal["6b", "300m"] = "6b", seed: int = 0
) -> str:
    config = tiny.SIX_B if kind == "6b" else tiny.THREE_HUNDRED_M
    return str(tiny.write(Path(tempfile.mkdtemp()), layout, config))


def clip(frames: int = 2, height: int = 70, width: int = 61, seed: int = 0) -> Frames:
    noise = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)
    return Frames(noise, np.arange(float(frames)))


def encode(option: InternViT, frames: Frames, dtype: str = "float32") -> FloatArray:
    function = option.load("cpu", dtype)
    (matrix,) = function([{"frames": frames}])
    assert isinstance(matrix, np.ndarray)
    return matrix


def prepared(
    frames: Frames,
    size: int = 42,
    *,
    square: bool = False,
    mean: list[float] = MEAN,
    std: list[float] = STD,
) -> torch.Tensor:
    """Return the pictures as torchvision prepares them."""
    from torchvision.transforms import v2 as transforms  # takes seconds

    bicubic = transforms.InterpolationMode.BICUBIC
    shape: list[transforms.Transform] = [transforms.Resize((size, size), interpolation=bicubic)]
    if not square:
        shape = [transforms.Resize(size, interpolation=bicubic), transforms.CenterCrop(size)]
    pipeline = transforms.Compose([*shape, transforms.PILToTensor()])
    pictures = torch.stack([pipeline(Image.fromarray(picture)) for picture in frames.pixels])
    centre, spread = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (mean, std))
    return (pictures.double() / 255 - centre) / spread


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def hidden_states(
    weights: Mapping[str, torch.Tensor], config: Mapping[str, Any], pictures: torch.Tensor
) -> list[torch.Tensor]:
    """Return all hidden states, in float64.

    Written from the description of the network alone: no module, hook or attention function of
    transformers, nor anything of the plugin. Norms of q and k go over the full width.
    """
    w = {name: value.double() for name, value in weights.items()}
    patch, heads = config["patch_size"], config["num_attention_heads"]
    kernel = w["embeddings.patch_embedding.weight"]
    patches = F.unfold(pictures, patch, stride=patch).transpose(1, 2)  # (n, patches, 3 * 14 * 14)
    x = patches @ kernel.flatten(1).T + w["embeddings.patch_embedding.bias"]
    own = w["embeddings.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([own, x], 1) + w["embeddings.position_embedding"]
    states = [x]
    for number in range(config["num_hidden_layers"]):
        b = {
            n.split(".", 3)[3]: v for n, v in w.items() if n.startswith(f"encoder.layers.{number}.")
        }
        q, k, v = (rms(x, b["norm1.weight"]) @ b["attn.qkv.weight"].T).chunk(3, -1)
        q, k = rms(q, b["attn.q_norm.weight"]), rms(k, b["attn.k_norm.weight"])
        q, k, v = (t.reshape(*t.shape[:2], heads, -1) for t in (q, k, v))
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5
        mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), v).flatten(2)
        x = x + b["ls1"] * (mixed @ b["attn.proj.weight"].T + b["attn.proj.bias"])
        inner = rms(x, b["norm2.weight"]) @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"]
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        x = x + b["ls2"] * (inner @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"])
        states.append(x)
    return states


def clip_embedding(x: torch.Tensor) -> torch.Tensor:
    """Return the CLIP embeddings of last hidden states, by torch's multi-head attention."""
    w = {n.removeprefix("clip_projector."): v.double() for n, v in tiny.projector(256).items()}
    q, k, v = (
        F.layer_norm(t, (256,), w[f"norm1_{part}.weight"], w[f"norm1_{part}.bias"]).transpose(0, 1)
        for part, t in zip("qkv", (x.mean(1, keepdim=True), x, x), strict=True)
    )
    pooled, _ = F.multi_head_attention_forward(
        q,
        k,
        v,
        embed_dim_to_check=256,
        num_heads=16,
        in_proj_weight=None,
        in_proj_bias=torch.cat([w[f"cross_attn.{part}_bias"] for part in "qkv"]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=w["cross_attn.proj.weight"],
        out_proj_bias=w["cross_attn.proj.bias"],
        training=False,
        use_separate_proj_weight=True,
        q_proj_weight=w["cross_attn.q.weight"],
        k_proj_weight=w["cross_attn.k.weight"],
        v_proj_weight=w["cross_attn.v.weight"],
    )
    return pooled[0]


def gap(found: FloatArray, expected: torch.Tensor) -> float:
    assert found.shape == tuple(expected.shape)
    return float(np.abs(found - expected.numpy()).max())


@pytest.mark.parametrize("layers", [(-1,), (0,), (1,), (-2, -1), (0, 2, 3)])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_6b_tower_gives_what_its_description_gives(
    layers: tuple[int, ...], reduce: Literal["mean", "sum"], pool: Literal["cls", "mean"]
) -> None:
    states = hidden_states(tiny.vision(), tiny.SIX_B, prepared(clip()))
    total = torch.stack([states[layer] for layer in layers]).sum(0)
    total = total / (len(layers) if reduce == "mean" else 1)
    expected = total[:, 0] if pool == "cls" else total[:, 1:].mean(1)
    option = InternViT(checkpoint=checkpoint("internvit"), layers=layers, reduce=reduce, pool=pool)
    difference = gap(encode(option, clip()), expected)
    print(f"{difference:.1e} of {expected.abs().max():.1f}")
    assert difference < 1e-5


def test_the_clip_embedding_is_that_of_torch_attention() -> None:
    states = hidden_states(tiny.vision(), tiny.SIX_B, prepared(clip()))
    expected = clip_embedding(states[-1])
    difference = gap(encode(InternViT(checkpoint=checkpoint()), clip()), expected)
    print(f"{difference:.1e} of {expected.abs().max():.1f}")
    assert difference < 1e-5
    assert expected.shape == (2, 768)


@torch.inference_mode()
def test_the_norms_of_the_projector_have_its_own_eps() -> None:
    projector = InternViTModel(
        InternViT(checkpoint=checkpoint()), "cpu", "float32"
    )._tower.clip_projector
    tokens = 1e-3 * torch.randn(2, 10, 256, generator=torch.Generator().manual_seed(0))
    assert projector is not None
    found = projector(tokens).numpy()
    assert gap(found, clip_embedding(tokens.double())) < 1e-5


@pytest.mark.parametrize("layout", ["internvit", "chat", "pth"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
@torch.inference_mode()
def test_the_300m_tower_gives_what_timm_gives(
    layout: tiny.Layout, pool: Literal["cls", "mean"]
) -> None:
    from timm.models.vision_transformer import VisionTransformer

    reference = VisionTransformer(  # as vit_intern300m_patch14_448, smaller
        img_size=42,
        patch_size=14,
        embed_dim=128,
        depth=3,
        num_heads=2,
        mlp_ratio=1,
        init_values=0.1,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        final_norm=False,
        num_classes=0,
    )
    reference.load_state_dict(tiny.published("pth", tiny.THREE_HUNDRED_M), strict=True)
    tokens = reference.eval().forward_features(prepared(clip()).float())
    expected = tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(1)
    found = encode(InternViT(checkpoint=checkpoint(layout, "300m"), pool=pool), clip())
    difference = gap(found, expected)
    print(f"{difference:.1e} of {expected.abs().max():.1f}")
    assert difference < 1e-5


def test_norms_of_q_and_k_take_the_eps_of_the_config(tmp_path: Path) -> None:
    config = {**tiny.SIX_B, "layer_norm_eps": 0.5}
    option = InternViT(checkpoint=str(tiny.write(tmp_path, "internvit", config)), pool="cls")
    model = InternViTModel(option, "cpu", "float32")
    blocks: Any = model._tower.vision.encoder.layer
    for block in blocks:
        attention = block.attention
        norms = (block.layernorm_before, attention.q_norm, attention.k_norm, block.layernorm_after)
        assert [norm.variance_epsilon for norm in norms] == [0.5] * 4


@pytest.mark.parametrize("size", [28, 84])
def test_another_picture_size_resizes_the_positions(size: int) -> None:
    from timm.layers.pos_embed import resample_abs_pos_embed

    own = tiny.vision()
    side = size // 14
    own["embeddings.position_embedding"] = resample_abs_pos_embed(  # timm's
        own["embeddings.position_embedding"], [side, side], antialias=False
    )
    expected = hidden_states(own, tiny.SIX_B, prepared(clip(), size))[-1][:, 0]
    option = InternViT(checkpoint=checkpoint("internvit"), pool="cls", image_size=size)
    assert gap(encode(option, clip()), expected) < 1e-5


def test_positions_are_resized_in_float32_and_then_rounded() -> None:
    option = InternViT(checkpoint=checkpoint("pth"), pool="cls", image_size=84)
    full, half = (InternViTModel(option, "cpu", dtype)._tower for dtype in ("float32", "bfloat16"))
    expected = full.vision.embeddings.position_embeddings.bfloat16()
    assert torch.equal(half.vision.embeddings.position_embeddings, expected)


def test_a_size_that_cuts_patches_is_refused() -> None:
    option = InternViT(checkpoint=checkpoint(), image_size=60)
    with pytest.raises(RegistryError, match=r"is 60, expected a multiple of 14, such as 56"):
        option.load("cpu", "float32")


def test_pictures_may_be_stretched() -> None:
    pictures = prepared(clip(), square=True)
    expected = hidden_states(tiny.vision(), tiny.SIX_B, pictures)[-1][:, 0]
    option = InternViT(checkpoint=checkpoint("internvit"), pool="cls", resize="square")
    assert gap(encode(option, clip()), expected) < 1e-5


def test_the_preparation_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "internvit")
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    said = {**tiny.PREPROCESSOR, "image_mean": mean, "image_std": std}
    said |= {"size": {"shortest_edge": 64}, "crop_size": {"height": 42, "width": 42}}
    tiny.write_json(folder / "preprocessor_config.json", said)
    square = clip(height=80, width=80)
    pictures = prepared(square, 64, mean=mean, std=std)[..., 11:53, 11:53]
    expected = hidden_states(tiny.vision(), tiny.SIX_B, pictures)[-1][:, 0]
    assert gap(encode(InternViT(checkpoint=str(folder), pool="cls"), square), expected) < 1e-5


@pytest.mark.parametrize(("layers", "built"), [((0,), 1), ((1,), 1), ((-2,), 2), ((0, -1), 3)])
def test_no_block_is_built_that_is_not_needed(layers: tuple[int, ...], built: int) -> None:
    option = InternViT(checkpoint=checkpoint("internvit"), layers=layers, pool="cls")
    vision = InternViTModel(option, "cpu", "float32")._tower.vision
    assert len(vision.encoder.layer) == built
    assert vision.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("pool", ["cls", "mean", "clip_proj"])
def test_half_precision_is_true_and_near(
    dtype: str, pool: Literal["cls", "mean", "clip_proj"]
) -> None:
    option = InternViT(checkpoint=checkpoint(), pool=pool)
    model = InternViTModel(option, "cpu", dtype)
    assert {str(value.dtype) for value in model._tower.parameters()} == {f"torch.{dtype}"}
    full, half = encode(option, clip()), model([{"frames": clip()}])[0]
    assert half.dtype == np.float32
    assert np.abs(full - half).max() < 0.03 * np.abs(full).max()


def test_values_out_of_the_range_of_float16_are_an_error(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "internvit")
    weights = tiny.vision()
    weights["encoder.layers.2.mlp.fc2.weight"] *= 1e5
    tiny.save(folder, weights)
    option = InternViT(checkpoint=str(folder), pool="cls")
    with pytest.raises(InputError, match="not finite in float16; use bfloat16"):
        encode(option, clip(), "float16")
    assert np.isfinite(encode(option, clip(), "bfloat16")).all()


def test_chunks_of_pictures_give_what_single_ones_give() -> None:
    option = InternViT(checkpoint=checkpoint(), pool="mean", layers=(1,), image_size=224)
    model = InternViTModel(option, "cpu", "float32")
    assert model._chunk == 15
    clips = [clip(3, seed=1), clip(16, 50, 90, seed=2), clip(1, 224, 224, seed=3)]
    together = model([{"frames": frames} for frames in clips])
    assert [len(matrix) for matrix in together] == [3, 16, 1]
    for frames, matrix in zip(clips, together, strict=True):
        for place in {0, len(matrix) - 1}:  # the longest one reaches into the second chunk
            single = Frames(frames.pixels[place : place + 1], frames.times[place : place + 1])
            (alone,) = model([{"frames": single}])
            assert np.abs(alone[0] - matrix[place]).max() < 1e-5 * np.abs(matrix).max()


@pytest.mark.parametrize("layers", [(-2,), (-2, -1), (0,), (2, 3)])
def test_the_projector_takes_the_last_layer_alone(layers: tuple[int, ...]) -> None:
    option = InternViT(checkpoint=checkpoint(), layers=layers)
    with pytest.raises(RegistryError, match=r"clip_proj` takes the last one \(3\) and no other"):
        option.load("cpu", "float32")


def test_the_last_layer_may_be_named_by_its_number() -> None:
    named = InternViT(checkpoint=checkpoint(), layers=(3,))
    assert np.array_equal(encode(named, clip()), encode(InternViT(checkpoint=checkpoint()), clip()))


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    option = InternViT(checkpoint=checkpoint(), pool="cls", layers=(layer,))
    with pytest.raises(RegistryError, match="hidden states 0 to 3"):
        option.load("cpu", "float32")


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (2, 0, 64, 3)])
def test_a_clip_without_pictures_is_refused(shape: tuple[int, ...]) -> None:
    nothing = Frames(np.zeros(shape, np.uint8), np.arange(float(shape[0])))
    with pytest.raises(InputError, match="'frames' holds no frame"):
        encode(InternViT(checkpoint=checkpoint()), nothing)


def test_the_width_is_known_of_the_projector_alone() -> None:
    assert InternViT().dim == 768
    assert InternViT(pool="cls").dim is None


class TestClipProj(EncoderTests):
    component = InternViT(checkpoint=checkpoint(), resize="square", image_size=28)


class TestSixB(EncoderTests):
    long = 0.25
    component = InternViT(
        checkpoint=checkpoint("pth"), pool="mean", layers=(-2, -1), reduce="sum", image_size=28
    )


class TestThreeHundredM(EncoderTests):
    long = 0.25
    component = InternViT(checkpoint=checkpoint("chat", "300m"), pool="cls", layers=(1, -1))
