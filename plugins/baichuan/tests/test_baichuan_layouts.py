from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_baichuan
import torch
from tiny_baichuan import Layout, Size, Weights

from mercore.errors import CheckpointError
from mercore.media import FloatArray, Text
from mercore_baichuan import Baichuan
from mercore_baichuan._layouts import sizes_of
from mercore_baichuan._model import BaichuanModel
from mercore_baichuan._network import Published

TEXT = "你为什么离开我？ Why did you leave me alone?"


def encoded(checkpoint: Path, dtype: str = "float32", **options: Any) -> FloatArray:
    component = Baichuan(checkpoint=str(checkpoint), **options)
    output = component.load("cpu", dtype)([{"text": Text(TEXT)}])[0]
    assert isinstance(output, np.ndarray)
    return output


def changed(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None takes one out."""
    file = folder / "config.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: own for key, own in content.items() if own is not None}))


def rewritten(folder: Path, change: Callable[[Weights], object]) -> None:
    """Change the weights of the tiny 13B in the folder."""
    weights = tiny_baichuan.weights_of(tiny_baichuan.config_of("13b"))
    change(weights)
    tiny_baichuan.save(folder, weights)


@pytest.mark.parametrize("size", ["7b", "13b"])
@pytest.mark.parametrize(
    ("layout", "shards"), [("bin", 1), ("bin", 3), ("safetensors", 1), ("safetensors", 3)]
)
def test_every_layout_gives_the_same_numbers(
    tmp_path: Path, size: Size, layout: Layout, shards: int
) -> None:
    usual = encoded(tiny_baichuan.write(tmp_path / "a", size=size))
    folder = tiny_baichuan.write(tmp_path / "b", size=size, layout=layout, shards=shards)
    np.testing.assert_array_equal(encoded(folder), usual)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_is_read_with_what_lies_beside_it(tmp_path: Path, name: str) -> None:
    layout: Layout = "bin" if name.endswith("bin") else "safetensors"
    folder = tiny_baichuan.write(tmp_path, layout=layout, shards=1)
    np.testing.assert_array_equal(encoded(folder / name), encoded(folder))


def test_the_identity_of_a_file_counts_what_lies_beside_it(tmp_path: Path) -> None:
    file = tiny_baichuan.write(tmp_path, shards=1) / "pytorch_model.bin"
    before = Baichuan(checkpoint=str(file)).identity()
    assert set(before) == {"checkpoint", "config.json", "tokenizer.model", "generation_config.json"}
    (tmp_path / "tokenizer.model").write_bytes(tiny_baichuan.tokenizer(380))
    assert Baichuan(checkpoint=str(file)).identity() != before


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path, seed=1)
    wanted = encoded(tiny_baichuan.write(folder, layout="safetensors"))
    for file in folder.glob("*.bin"):
        file.write_bytes(b"damaged")
    np.testing.assert_array_equal(encoded(folder), wanted)


@pytest.mark.parametrize("size", ["7b", "13b"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("dtype", "limit"), [("float16", 0.01), ("bfloat16", 0.1)])
def test_half_precision_is_near(
    tmp_path: Path, size: Size, stored: torch.dtype, dtype: str, limit: float
) -> None:
    folder = tiny_baichuan.write(tmp_path, size=size, dtype=stored)
    full = encoded(folder)
    assert full.dtype == np.float32
    assert np.abs(encoded(folder, dtype) - full).max() < limit * np.abs(full).max()


def test_weights_have_the_type_asked_for(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path, size="7b")
    model = BaichuanModel(Baichuan(checkpoint=str(folder)), "cpu", "bfloat16")._model
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    # Published constants of rotary positions are not rounded.
    assert model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize("vocabulary", [64_000, 125_696])
def test_normhead_and_plain_heads_are_left_alone(tmp_path: Path, vocabulary: int) -> None:
    # The head is not loaded: one of any shape, or none, changes nothing.
    usual = encoded(tiny_baichuan.write(tmp_path / "a"))
    folder = tiny_baichuan.write(tmp_path / "b")
    rewritten(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(vocabulary, 1)}))
    np.testing.assert_array_equal(encoded(folder), usual)
    rewritten(folder, lambda weights: weights.pop("lm_head.weight"))
    np.testing.assert_array_equal(encoded(folder), usual)


def test_chat_tokens_are_those_of_generation_config(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)
    usual = encoded(folder, chat=True)
    (folder / "generation_config.json").unlink()
    np.testing.assert_array_equal(encoded(folder, chat=True), usual)
    other = {"user_token_id": 7, "assistant_token_id": 8}
    (folder / "generation_config.json").write_text(json.dumps(other))
    assert np.abs(encoded(folder, chat=True) - usual).max() > 0.01
    (folder / "generation_config.json").write_text(json.dumps({"user_token_id": 384}))
    with pytest.raises(CheckpointError, match=r"are \[384, 196\], expected numbers of the 384"):
        encoded(folder, chat=True)


LEAVES = (
    "model.embed_tokens.weight",
    "model.norm.weight",
    "model.layers.0.self_attn.W_pack.weight",
    "model.layers.4.mlp.down_proj.weight",
    "model.layers.2.input_layernorm.weight",
)


@pytest.mark.parametrize("name", LEAVES)
def test_a_missing_weight_is_refused(tmp_path: Path, name: str) -> None:
    folder = tiny_baichuan.write(tmp_path)
    rewritten(folder, lambda weights: weights.pop(name))
    with pytest.raises(CheckpointError, match="missing: "):
        encoded(folder)


def test_a_missing_weight_of_a_block_that_is_not_read_is_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)
    name = "model.layers.4.mlp.up_proj.weight"
    rewritten(folder, lambda weights: weights.pop(name))
    with pytest.raises(CheckpointError, match=rf"incomplete: {name}; fetch them again"):
        encoded(folder, layers=(1,))


@pytest.mark.parametrize("layers", [(1,), (-1,)])
@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.4.self_attn.W_pack.bias",
        "layers.0.self_attn.o_proj.weight",
        "lm_head.bias",
        "transformer.wte.weight",
    ],
)
def test_an_unknown_weight_is_refused(tmp_path: Path, name: str, layers: tuple[int, ...]) -> None:
    folder = tiny_baichuan.write(tmp_path)
    rewritten(folder, lambda weights: weights.update({name: torch.ones(40, 40)}))
    with pytest.raises(CheckpointError, match=f"(?s)not expected: .*{name}|given twice: .*{name}"):
        encoded(folder, layers=layers)


@pytest.mark.parametrize("name", LEAVES)
def test_another_shape_is_refused(tmp_path: Path, name: str) -> None:
    folder = tiny_baichuan.write(tmp_path)
    rewritten(folder, lambda weights: weights.update({name: weights[name][:-3].clone()}))
    with pytest.raises(CheckpointError, match=f"of another shape: {name} gives"):
        encoded(folder)


@pytest.mark.parametrize("number", [4, 6])
def test_another_number_of_blocks_is_refused(tmp_path: Path, number: int) -> None:
    folder = tiny_baichuan.write(tmp_path)
    changed(folder, num_hidden_layers=number)
    for layers in ((1,), (-1,)):
        with pytest.raises(CheckpointError, match=f"5 blocks, .* but config.json says {number}"):
            encoded(folder, layers=layers)


def test_a_gap_in_the_blocks_is_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)

    def drop(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith("model.layers.3.")]:
            del weights[name]

    rewritten(folder, drop)
    with pytest.raises(CheckpointError, match=r"4 blocks, numbered 0 to 4, but config.json says 5"):
        encoded(folder, layers=(1,))


def test_weights_of_7b_under_a_config_of_13b_are_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path, size="7b")
    changed(folder, max_position_embeddings=None, model_max_length=64)
    with pytest.raises(CheckpointError, match=r"of a 7B model .*inv_freq.* that of a 13B model"):
        encoded(folder)


@pytest.mark.parametrize(("config", "weights"), [("7b", "13b"), ("13b", "7b")])
def test_a_config_of_the_other_size_is_refused(tmp_path: Path, config: Size, weights: Size) -> None:
    folder = tiny_baichuan.write(tmp_path / "a", size=weights)
    other = tiny_baichuan.write(tmp_path / "b", size=config)
    shutil.copy(other / "config.json", folder)
    with pytest.raises(CheckpointError, match=r"of another shape|of a 7B model"):
        encoded(folder)


@pytest.mark.parametrize(
    ("hidden", "keys", "said"),
    [
        (5120, {"max_position_embeddings": 4096}, "is that of 13B, but a .* tells 7B"),
        (4096, {"model_max_length": 4096}, "is that of 7B, but no .* tells 13B"),
        (5120, {}, "neither 'max_position_embeddings' .* nor 'model_max_length'"),
        (5121, {"model_max_length": 4096}, "5121 does not give each of the 40 heads an even part"),
    ],
)
def test_keys_that_contradict_the_width_are_refused(
    tmp_path: Path, hidden: int, keys: dict[str, int], said: str
) -> None:
    folder = tiny_baichuan.write(tmp_path)
    heads = {4096: 32}.get(hidden, 40)
    changed(folder, model_max_length=None)
    changed(folder, hidden_size=hidden, num_attention_heads=heads, **keys)
    with pytest.raises(CheckpointError, match=said):
        encoded(folder)


def test_a_config_of_the_other_version_is_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path, version=2)
    changed(folder, vocab_size=tiny_baichuan.VOCABULARY[1])
    said = r"of another shape: model.embed_tokens.weight gives \(400, 40\), expected \(384, 40\)"
    with pytest.raises(CheckpointError, match=said):
        encoded(folder)


@pytest.mark.parametrize("model", ["llama", "qwen2", "baichuan_m1", None])
def test_another_model_is_refused(tmp_path: Path, model: str | None) -> None:
    folder = tiny_baichuan.write(tmp_path)
    changed(folder, model_type=model)
    with pytest.raises(CheckpointError, match=f"the model is {model!r}, expected 'baichuan'"):
        encoded(folder)


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)
    changed(folder, quantization_config={"load_in_4bit": True})
    with pytest.raises(CheckpointError, match="quantised, which is not read"):
        encoded(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": None}, "hidden_size: Field required"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: Input should be greater than 0"),
        ({"hidden_act": "gelu"}, "hidden_act: Input should be 'silu'"),
    ],
)
def test_a_config_that_is_wrong_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = tiny_baichuan.write(tmp_path)
    changed(folder, **changes)
    with pytest.raises(CheckpointError, match=f"(?s)cannot be used: .*{said}"):
        encoded(folder)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_damaged_is_refused(tmp_path: Path, content: str) -> None:
    folder = tiny_baichuan.write(tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json: .*fetch the file again"):
        encoded(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model"])
@pytest.mark.parametrize("single", [False, True])
def test_a_missing_file_is_named(tmp_path: Path, name: str, single: bool) -> None:
    folder = tiny_baichuan.write(tmp_path, shards=1 if single else 2)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no .*{name}"):
        encoded(folder / "pytorch_model.bin" if single else folder)


@pytest.mark.parametrize("layout", ["bin", "safetensors"])
def test_a_missing_shard_is_named(tmp_path: Path, layout: Layout) -> None:
    folder = tiny_baichuan.write(tmp_path, layout=layout)
    next(folder.glob(f"*00002-of-00002.{layout}")).unlink()
    with pytest.raises(CheckpointError, match="lacks 1 of the 2 files"):
        encoded(folder)


def test_a_missing_checkpoint_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json.*tokenizer\.model.*safetensors.*bin"):
        encoded(tmp_path / "nothing")


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)
    (folder / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: cannot be read"):
        encoded(folder)


@pytest.mark.parametrize("rows", [320, 1024])
def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, rows: int) -> None:
    folder = tiny_baichuan.write(tmp_path, vocab_size=rows)
    said = f"has 384 word pieces, but the embedding {rows} rows"
    with pytest.raises(CheckpointError, match=said):
        encoded(folder)


@pytest.mark.parametrize(("size", "width"), [("7b", 4096), ("13b", 5120)])
@pytest.mark.parametrize("version", [1, 2])
def test_published_sizes_are_read(
    tmp_path: Path, size: Size, version: Literal[1, 2], width: int
) -> None:
    # The published config.json, with weights that take no memory.
    folder = tiny_baichuan.write(tmp_path, size=size, version=version)
    big = size == "13b"
    rows = 64_000 if version == 1 else 125_696
    changed(
        folder,
        hidden_size=width,
        num_attention_heads=40 if big else 32,
        num_hidden_layers=40 if big else 32,
        intermediate_size=13_696 if big else 11_008,
        vocab_size=rows,
    )
    sizes = sizes_of(folder)
    assert sizes.rotary is not big
    network = Published(folder, folder, sizes).empty(sizes.num_hidden_layers, norm=True)
    count = sum(weight.numel() for weight in network.parameters()) + rows * width  # the head
    wanted = {("7b", 1): 7.001, ("13b", 1): 13.265, ("13b", 2): 13.897, ("7b", 2): 7.506}
    assert count / 1e9 == pytest.approx(wanted[size, version], abs=5e-4)
