from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import huggingface_hub.constants
import numpy as np
import pytest
import tiny_internvit as tiny
import torch

from mercore.errors import CheckpointError
from mercore.media import FloatArray, Frames
from mercore_internvit import InternViT

Suffix = Literal[".safetensors", ".bin"]
Pool = Literal["cls", "mean", "clip_proj"]


def rows_of(path: Path, pool: Pool = "cls", dtype: str = "float32") -> FloatArray:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), np.uint8)
    function = InternViT(checkpoint=str(path), pool=pool).load("cpu", dtype)
    (matrix,) = function([{"frames": Frames(pixels, np.arange(2.0))}])
    assert isinstance(matrix, np.ndarray)
    return matrix


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "plain", "internvit")


@pytest.mark.parametrize("layout", ["internvl_14b", "chat", "pth", "internvl_c"])
def test_all_layouts_give_the_same_rows(layout: tiny.Layout, plain: Path, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "other", layout)
    for pool in ("cls", "mean"):
        assert np.array_equal(rows_of(path, pool), rows_of(plain, pool))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("shards", [1, 2, 7])
@pytest.mark.parametrize("layout", ["internvit", "internvl_14b"])
def test_all_files_give_the_same_rows(
    layout: tiny.Layout, shards: int, suffix: Suffix, plain: Path, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path / "other", layout, shards=shards, suffix=suffix)
    assert np.array_equal(rows_of(path), rows_of(plain))


def test_both_layouts_with_a_projector_give_the_same_rows(tmp_path: Path) -> None:
    one, other = (tiny.write(tmp_path / x, x) for x in ("internvl_14b", "internvl_c"))
    assert np.array_equal(rows_of(one, "clip_proj"), rows_of(other, "clip_proj"))


@pytest.mark.parametrize("layout", ["internvit", "chat", "pth"])
def test_all_layouts_of_the_300m_give_the_same_rows(layout: tiny.Layout, tmp_path: Path) -> None:
    one, other = (
        tiny.write(tmp_path / x, x, tiny.THREE_HUNDRED_M) for x in (layout, "internvl_14b")
    )
    assert np.array_equal(rows_of(one), rows_of(other))


def test_a_folder_with_an_original_file_and_a_weights_file_are_read(
    plain: Path, tmp_path: Path
) -> None:
    file = tiny.write(tmp_path / "other", "pth")
    assert np.array_equal(rows_of(file.parent), rows_of(plain))
    assert np.array_equal(rows_of(plain / "model.safetensors"), rows_of(plain))


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (torch.float16, "bfloat16"),
        (torch.bfloat16, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.bfloat16, "float32"),
    ],
)
def test_stored_types_are_converted(
    stored: torch.dtype, asked: str, plain: Path, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path / "x", "internvl_14b", shards=2, dtype=stored)
    found, exact = rows_of(path, dtype=asked), rows_of(plain)
    assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()


def test_an_absent_key_of_the_config_is_that_of_the_6b(plain: Path) -> None:
    expected = rows_of(plain)
    usual = {"norm_type", "qk_normalization", "qkv_bias", "layer_norm_eps", "patch_size"}
    config = {key: value for key, value in tiny.SIX_B.items() if key not in usual}
    tiny.write_json(plain / "config.json", config)
    (plain / "preprocessor_config.json").unlink()
    assert np.array_equal(rows_of(plain), expected)


@pytest.mark.parametrize("pool", ["cls", "clip_proj"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_files_of_the_language_model_are_never_opened(
    pool: Pool, suffix: Suffix, tmp_path: Path
) -> None:
    weights = tiny.published("internvl_14b")
    folder = tiny.write(tmp_path, "internvl_14b", suffix=suffix)
    expected = rows_of(folder, pool)
    needed = {
        n: v for n, v in weights.items() if n.startswith(("vision_model.", "clip_projector."))
    }
    others = {n: v for n, v in weights.items() if n not in needed}
    ordered = {**needed, **others}
    for file in folder.glob(f"*{suffix}"):
        file.unlink()
    tiny.save(folder, ordered, shards=len(ordered), suffix=suffix)
    for shard in sorted(folder.glob(f"*{suffix}"))[len(needed) :]:
        shard.write_bytes(b"no weights at all")
    assert np.array_equal(rows_of(folder, pool), expected)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face's client, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_default_is_read_from_the_cache_of_the_hub(hub_cache: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub_cache / "models--OpenGVLab--InternVL-14B-224px"
    tiny.write(repository / "snapshots" / commit, "internvl_14b", shards=3)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    component = InternViT()
    assert component.identity() == {"checkpoint": f"OpenGVLab/InternVL-14B-224px@{commit}"}
    frames = Frames(np.full((1, 9, 9, 3), 99, np.uint8), np.zeros(1))
    (matrix,) = component.load("cpu", "float32")([{"frames": frames}])
    assert isinstance(matrix, np.ndarray)
    assert matrix.shape == (1, 768)


@pytest.mark.usefixtures("hub_cache")
def test_a_default_that_is_not_there_says_what_is_wanted() -> None:
    with pytest.raises(CheckpointError, match=r"InternVL-14B-224px.*config\.json.*\.safetensors"):
        InternViT().load("cpu", "float32")


# What is wrong with the names or shapes of weights.
def _dropped(weights: tiny.Weights) -> None:
    del weights["encoder.layers.1.attn.q_norm.weight"]


def _added(weights: tiny.Weights) -> None:
    weights["encoder.layers.1.attn.extra"] = torch.zeros(3)


def _misshapen(weights: tiny.Weights) -> None:
    weights["encoder.layers.1.mlp.fc1.weight"] = torch.zeros(128, 255)


def _shorter(weights: tiny.Weights) -> None:
    for name in [name for name in weights if name.startswith("encoder.layers.2.")]:
        del weights[name]


def _longer(weights: tiny.Weights) -> None:
    for name in [name for name in weights if name.startswith("encoder.layers.2.")]:
        weights[name.replace(".2.", ".3.")] = weights[name].clone()


def _holed(weights: tiny.Weights) -> None:
    for name in [name for name in weights if name.startswith("encoder.layers.1.")]:
        del weights[name]


def _biased(weights: tiny.Weights) -> None:
    weights["encoder.layers.0.attn.qkv.bias"] = torch.zeros(768)


def _larger(weights: tiny.Weights) -> None:
    weights["embeddings.position_embedding"] = torch.zeros(1, 26, 256)


def _projected(weights: tiny.Weights) -> None:
    weights.update(tiny.projector(256))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_dropped, r"missing: vision\.encoder\.layer\.1\.attention\.q_norm\.weight"),
        (_added, r"not expected: encoder\.layers\.1\.attn\.extra"),
        (_misshapen, r"of another shape: .*mlp\.fc1\.weight gives \(128, 255\), .*\(128, 256\)"),
        (_shorter, r"weights of 2 blocks \(the blocks 0 to 1\), expected 3, 0 to 2"),
        (_longer, r"weights of 4 blocks \(the blocks 0 to 3\), expected 3, 0 to 2"),
        (_holed, r"weights of 2 blocks \(the blocks 0 to 2\), expected 3, 0 to 2"),
        (_biased, r"not expected: encoder\.layers\.0\.attn\.qkv\.bias"),
        (_larger, r"of another shape: embeddings\.position_embedding gives \(1, 26, 256\)"),
        (_projected, r"not expected: clip_projector\."),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    spoil: Callable[[tiny.Weights], None], message: str, plain: Path
) -> None:
    weights = tiny.vision()
    spoil(weights)
    tiny.save(plain, weights)
    with pytest.raises(CheckpointError, match=message):
        rows_of(plain)


@pytest.mark.parametrize("layers", [(0,), (1,)])
def test_blocks_that_are_not_loaded_are_counted_all_the_same(
    layers: tuple[int, ...], plain: Path
) -> None:
    weights = tiny.vision()
    _shorter(weights)
    tiny.save(plain, weights)
    option = InternViT(checkpoint=str(plain), pool="cls", layers=layers)
    with pytest.raises(CheckpointError, match="weights of 2 blocks"):
        option.load("cpu", "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_type": "layer_norm"}, r"missing: .*layernorm_before\.bias"),
        ({"qk_normalization": False}, r"not expected: .*q_norm"),
        ({"hidden_size": 128}, r"of another shape"),
        ({"num_hidden_layers": 48}, r"weights of 3 blocks .* expected 48, 0 to 47"),
        ({"num_attention_heads": 3}, r"is 256 wide, which 3 heads cannot share"),
        (
            {"norm_type": "batch_norm"},
            r"config\.json: cannot be used: norm_type: .* found 'batch_norm'",
        ),
        ({"hidden_act": "quick_gelu"}, r"hidden_act: .* found 'quick_gelu'"),
        ({"model_type": "llama"}, r"config\.json: is of a 'llama' model; expected an InternViT"),
        ({"model_type": "clip_vision_model"}, r"is of a 'clip_vision_model' model"),
        ({"model_type": None}, r"is of a None model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    change: dict[str, Any], message: str, plain: Path
) -> None:
    tiny.write_json(plain / "config.json", {**tiny.SIX_B, **change})
    with pytest.raises(CheckpointError, match=message):
        rows_of(plain)


def test_a_folder_converted_for_transformers_is_refused(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "chat")
    vision = {"model_type": "internvl_vision", "hidden_size": 256}
    config = {"model_type": "internvl", "vision_config": vision}
    tiny.write_json(folder / "config.json", config)
    with pytest.raises(CheckpointError, match=r"'internvl_vision' model.*not converted"):
        rows_of(folder)


def test_a_chat_model_without_its_tower_is_refused(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "chat")
    weights = tiny.published("chat")
    tiny.save(folder, {n: v for n, v in weights.items() if not n.startswith("vision_model.")})
    with pytest.raises(CheckpointError, match=r"weights of 0 blocks \(no blocks\), expected 3"):
        rows_of(folder)


@pytest.mark.parametrize("layout", ["internvit", "chat", "pth"])
def test_a_projector_that_is_not_there_is_refused(layout: tiny.Layout, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, layout)
    with pytest.raises(CheckpointError, match=r"holds no weights 'clip_projector\.\*'.*-14B"):
        rows_of(path, "clip_proj")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cross_attn.k_bias", None, r"missing: clip_projector\.k\.bias"),
        ("cross_attn.extra", torch.zeros(2), r"not expected: clip_projector\.cross_attn\.extra"),
        ("cross_attn.proj.weight", torch.zeros(512, 256), r"of another shape: .*\(512, 256\)"),
    ],
)
def test_a_projector_that_does_not_fit_is_refused(
    name: str, value: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path, "internvl_14b")
    weights = tiny.published("internvl_14b")
    weights.pop(f"clip_projector.{name}", None)
    if value is not None:
        weights[f"clip_projector.{name}"] = value
    tiny.save(folder, weights)
    with pytest.raises(CheckpointError, match=message):
        rows_of(folder, "clip_proj")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blocks.0.mlp.fc1.weight", r"holds no 'blocks\.0\.mlp\.fc1\.weight'"),
        ("blocks.1.ls1.gamma", r"missing: vision\.encoder\.layer\.1\.lambda_1"),
        ("cls_token", r"missing: vision\.embeddings\.cls_token"),
        ("pos_embed", r"config\.json: does not exist"),
    ],
)
def test_an_original_file_that_lacks_a_weight_is_refused(
    name: str, message: str, tmp_path: Path
) -> None:
    file = tiny.write(tmp_path, "pth")
    weights = tiny.published("pth")
    del weights[name]
    torch.save(weights, file)
    with pytest.raises(CheckpointError, match=message):
        rows_of(file)


def test_a_vit_of_another_kind_is_refused(tmp_path: Path) -> None:
    # The names of timm's ViT are those of the original file, but for the layer scales.
    weights = {n: v for n, v in tiny.published("pth").items() if ".ls" not in n}
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"missing: vision\.encoder\.layer\.0\.lambda_1"):
        rows_of(tmp_path / "vit.pth")


def test_a_missing_config_or_shard_or_checkpoint_is_named(plain: Path, tmp_path: Path) -> None:
    sharded = tiny.write(tmp_path / "sharded", "internvit", shards=2)
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 files.*model-00002-of-00002"):
        rows_of(sharded)
    (plain / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no file 'config\.json'"):
        rows_of(plain)
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        rows_of(tmp_path / "nowhere")


def test_a_folder_without_weights_is_refused(plain: Path) -> None:
    (plain / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no file '\*\.safetensors' or 'py"):
        rows_of(plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no JSON"), ("[]", "holds a list, expected an object")],
)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_json_that_is_damaged_is_refused(
    name: str, content: str, message: str, plain: Path
) -> None:
    (plain / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name}: {message}"):
        rows_of(plain)


def test_another_resampling_than_bicubic_is_refused(plain: Path) -> None:
    tiny.write_json(plain / "preprocessor_config.json", {**tiny.PREPROCESSOR, "resample": 2})
    with pytest.raises(CheckpointError, match=r"preprocessor_config.*resample: .* found 2"):
        rows_of(plain)
