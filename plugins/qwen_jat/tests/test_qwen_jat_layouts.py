"""Which files are read, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import huggingface_hub.constants
import numpy as np
import pytest
import tiny_qwen_jat as tiny
import torch

from mercore.errors import CheckpointError
from mercore.media import FloatArray, Text, Waveform
from mercore_qwen_jat import QwenJAT
from mercore_qwen_jat._model import QwenJATModel

Suffix = Literal[".safetensors", ".bin"]
LAYOUTS: tuple[tiny.Layout, ...] = ("qwen_audio", "qwen2_audio")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sample() -> dict[str, Waveform | Text]:
    samples = (0.1 * np.random.default_rng(0).standard_normal(9_000)).astype(np.float32)
    return {"audio": Waveform(samples, 16_000), "text": Text("the hen")}


def rows_of(
    path: Path, dtype: str = "float32", layers: tuple[int, ...] = (-4, -3, -2, -1)
) -> FloatArray:
    function = QwenJAT(checkpoint=str(path), layers=layers).load("cpu", dtype)
    (matrix,) = function([sample()])
    assert isinstance(matrix, np.ndarray)
    return matrix


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> tiny.Layout:
    found: tiny.Layout = request.param
    return found


@pytest.fixture
def folder(layout: tiny.Layout, tmp_path: Path) -> Path:
    return tiny.write(tmp_path / layout, layout)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("shards", [1, 2, 7])
def test_all_files_give_the_same_rows(
    shards: int, suffix: Suffix, layout: tiny.Layout, folder: Path, tmp_path: Path
) -> None:
    other = tiny.write(tmp_path / "other", layout, shards=shards, suffix=suffix)
    assert np.array_equal(rows_of(other), rows_of(folder))


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
    stored: torch.dtype, asked: str, layout: tiny.Layout, folder: Path, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path / "x", layout, shards=2, dtype=stored)
    found, exact = rows_of(path, asked), rows_of(folder)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_sizes_that_are_absent_are_those_of_the_published_models(
    layout: tiny.Layout, folder: Path
) -> None:
    usual = {"layer_norm_epsilon", "rotary_emb_base", "rotary_pct", "no_bias", "seq_length"}
    config = {key: value for key, value in tiny.CONFIGS[layout].items() if key not in usual}
    expected = rows_of(folder)
    if layout == "qwen2_audio":
        config["text_config"] = {
            key: value for key, value in config["text_config"].items() if key != "rope_theta"
        }
    tiny.write_json(folder / "config.json", config)
    assert np.array_equal(rows_of(folder), expected)


def test_the_rotation_may_be_written_as_transformers_5_does(tmp_path: Path) -> None:
    text = {**tiny.QWEN2_AUDIO["text_config"], "rope_theta": 500.0}
    old = tiny.write(tmp_path / "old", "qwen2_audio", {**tiny.QWEN2_AUDIO, "text_config": text})
    rope = {"rope_type": "default", "rope_theta": 500.0}
    text = {**tiny.QWEN2_AUDIO["text_config"], "rope_parameters": rope}
    new = tiny.write(tmp_path / "new", "qwen2_audio", {**tiny.QWEN2_AUDIO, "text_config": text})
    usual = tiny.write(tmp_path / "usual", "qwen2_audio")
    assert np.array_equal(rows_of(new), rows_of(old))
    assert not np.allclose(rows_of(new), rows_of(usual))


def test_only_the_layers_that_are_needed_are_built_and_read(
    layout: tiny.Layout, folder: Path
) -> None:
    expected = rows_of(folder, layers=(1, 2))
    weights = tiny.published(layout)
    stack = {"qwen_audio": "transformer.h.", "qwen2_audio": "language_model.model.layers."}[layout]
    ends = ("ln_f.weight", "model.norm.weight", "lm_head.weight")
    later = {n for n in weights if n.startswith(tuple(f"{stack}{k}." for k in (2, 3, 4)))}
    later |= {n for n in weights if n.endswith(ends)}
    ordered = {**{n: v for n, v in weights.items() if n not in later}}
    ordered |= {n: weights[n] for n in later}
    (folder / "model.safetensors").unlink()
    tiny.save(folder, ordered, shards=len(ordered))
    for shard in sorted(folder.glob("*.safetensors"))[-len(later) :]:
        shard.write_bytes(b"no weights at all")  # reading it would fail
    assert np.array_equal(rows_of(folder, layers=(1, 2)), expected)
    function = QwenJAT(checkpoint=str(folder), layers=(0,)).load("cpu", "float32")
    assert isinstance(function, QwenJATModel)
    assert len(function._model.llm.layers) == 1


def test_the_language_head_is_not_read(layout: tiny.Layout, folder: Path) -> None:
    expected, weights = rows_of(folder), tiny.published(layout)
    (head,) = (name for name in weights if name.endswith("lm_head.weight"))
    ordered = {**{n: v for n, v in weights.items() if n != head}, head: weights[head]}
    (folder / "model.safetensors").unlink()
    tiny.save(folder, ordered, shards=len(ordered))
    sorted(folder.glob("*.safetensors"))[-1].write_bytes(b"no weights at all")
    assert np.array_equal(rows_of(folder), expected)


def test_the_numbers_depend_on_the_weights_and_not_on_where_they_lie(
    layout: tiny.Layout, folder: Path, tmp_path: Path
) -> None:
    other = tiny.write(tmp_path / "other", layout)
    one, two = (QwenJAT(checkpoint=str(path)).identity() for path in (folder, other))
    assert one == two
    tiny.write_json(folder / "config.json", {**tiny.CONFIGS[layout], "note": 1})
    assert QwenJAT(checkpoint=str(folder)).identity() != two


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face's client, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_default_is_read_from_the_cache_of_the_hub(hub_cache: Path) -> None:
    repository = hub_cache / "models--Qwen--Qwen-Audio"
    tiny.write(repository / "snapshots" / COMMIT, shards=3)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    component = QwenJAT()
    assert component.identity() == {"checkpoint": f"Qwen/Qwen-Audio@{COMMIT}"}
    (matrix,) = component.load("cpu", "float32")([sample()])
    assert isinstance(matrix, np.ndarray)
    assert matrix.shape[1] == 64


@pytest.mark.usefixtures("hub_cache")
def test_a_default_that_is_not_there_says_what_is_wanted() -> None:
    wanted = r"Qwen-Audio.*config\.json.*\.safetensors.*qwen\.tiktoken.*tokenizer\.json"
    with pytest.raises(CheckpointError, match=wanted):
        QwenJAT().load("cpu", "float32")


# What is wrong with the names or shapes of weights, by a name that stands for both layouts.
NAMES: dict[tiny.Layout, dict[str, str]] = {
    "qwen_audio": {
        "decoder": "transformer.h.",
        "encoder": "transformer.audio.blocks.",
        "attention": "transformer.h.1.attn.c_attn.bias",
        "projector": "transformer.audio.proj.weight",
        "norm": "transformer.ln_f.weight",
    },
    "qwen2_audio": {
        "decoder": "language_model.model.layers.",
        "encoder": "audio_tower.layers.",
        "attention": "language_model.model.layers.1.self_attn.k_proj.bias",
        "projector": "multi_modal_projector.linear.weight",
        "norm": "language_model.model.norm.weight",
    },
}
Spoil = Callable[[tiny.Weights, dict[str, str]], None]


def _without(key: str) -> Spoil:
    return lambda weights, names: _popped(weights, names[key])


def _popped(weights: tiny.Weights, name: str) -> None:
    del weights[name]


def _added(weights: tiny.Weights, names: dict[str, str]) -> None:
    weights[f"{names['decoder']}1.extra.weight"] = torch.zeros(3)


def _misshapen(weights: tiny.Weights, names: dict[str, str]) -> None:
    weights[names["projector"]] = torch.zeros(64, 31)


def _shorter(weights: tiny.Weights, names: dict[str, str], stack: str, last: int) -> None:
    for name in [name for name in weights if name.startswith(f"{names[stack]}{last}.")]:
        del weights[name]


def _longer(weights: tiny.Weights, names: dict[str, str], stack: str, last: int) -> None:
    own = f"{names[stack]}{last}."
    for name in [name for name in weights if name.startswith(own)]:
        weights[name.replace(own, f"{names[stack]}{last + 1}.")] = weights[name].clone()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("attention"), r"missing: llm\.layers\.1\.self_attn\.\w_proj\.bias"),
        (_without("projector"), r"missing: projector\.weight"),
        (_without("norm"), r"missing: llm\.norm\.weight"),
        (_added, r"not expected: .*1\.extra\.weight"),
        (_misshapen, r"of another shape: .* gives \(64, 31\), expected \(64, 32\)"),
        (lambda w, n: _shorter(w, n, "decoder", 4), r"4 layers, 0 to 3, .*language.*expected 5"),
        (lambda w, n: _longer(w, n, "decoder", 4), r"6 layers, 0 to 5, .*language.*expected 5"),
        (lambda w, n: _shorter(w, n, "decoder", 2), r"4 layers, 0 to 4, .*language.*expected 5"),
        (lambda w, n: _shorter(w, n, "encoder", 1), r"1 layers, 0 to 0, .*audio.*expected 2"),
        (lambda w, n: _longer(w, n, "encoder", 1), r"3 layers, 0 to 2, .*audio.*expected 2"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    spoil: Spoil, message: str, layout: tiny.Layout, folder: Path
) -> None:
    weights = tiny.published(layout)
    spoil(weights, NAMES[layout])
    tiny.save(folder, weights)
    with pytest.raises(CheckpointError, match=message):
        rows_of(folder)


def test_layers_that_are_not_loaded_are_counted_all_the_same(
    layout: tiny.Layout, folder: Path
) -> None:
    weights = tiny.published(layout)
    _shorter(weights, NAMES[layout], "decoder", 4)
    tiny.save(folder, weights)
    with pytest.raises(CheckpointError, match=r"4 layers, 0 to 3, of the language model"):
        rows_of(folder, layers=(1,))


FIRST = tiny.QWEN_AUDIO
DEAF = {key: value for key, value in FIRST.items() if key != "audio"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DEAF, r"is of a 'qwen' model, which does not hear; expected Qwen/Qwen-Audio"),
        ({**FIRST, "model_type": "qwen2"}, r"is of a 'qwen2' model; expected Qwen/Qwen-Audio"),
        ({**FIRST, "model_type": "qwen2_5_omni"}, r"is of a 'qwen2_5_omni' model"),
        ({**FIRST, "model_type": None}, r"is of a None model"),
        ({**FIRST, "no_bias": False}, r"cannot be used: no_bias: .* found False"),
        ({**FIRST, "kv_channels": 32}, r"kv_channels times num_attention_heads is not hidden"),
        ({**FIRST, "rotary_pct": 0.5}, r"rotary_pct: .* found 0\.5"),
        ({**FIRST, "audio": {**FIRST["audio"], "avg_pool": False}}, r"audio\.avg_pool: "),
        ({**FIRST, "audio": {**FIRST["audio"], "output_dim": 32}}, r"output_dim is not hidden"),
        ({**FIRST, "audio": {**FIRST["audio"], "n_mels": 128}}, r"of another shape: .*conv1"),
        ({**FIRST, "num_hidden_layers": 32}, r"5 layers, 0 to 4, .* expected 32, 0 to 31"),
        ({**FIRST, "intermediate_size": 192}, r"of another shape: .*mlp"),
        ({**FIRST, "vocab_size": 900}, r"of 3788, but config\.json says 3786 of at most 900"),
        ({**FIRST, "vocab_size": 3_803}, r"of another shape: .*transformer\.wte\.weight"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path)
    tiny.write_json(folder / "config.json", config)
    with pytest.raises(CheckpointError, match=message):
        rows_of(folder)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("text_config", {"use_sliding_window": True}, r"text_config\.use_sliding_window: "),
        ("text_config", {"rope_scaling": {"type": "linear"}}, r"text_config\.rope_scaling: "),
        ("text_config", {"model_type": "llama"}, r"text_config\.model_type: .* found 'llama'"),
        ("text_config", {"num_key_value_heads": 2}, r"of another shape: .*k_proj"),
        ("audio_config", {"max_source_positions": 750}, r"max_source_positions: .* found 750"),
        ("audio_config", {"num_mel_bins": 80}, r"of another shape: .*conv1"),
        ("audio_config", {"encoder_layers": 32}, r"2 layers, .*audio encoder, expected 32"),
    ],
)
def test_a_second_config_that_does_not_fit_is_refused(
    section: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path, "qwen2_audio")
    config = {**tiny.QWEN2_AUDIO, section: {**tiny.QWEN2_AUDIO[section], **change}}
    tiny.write_json(folder / "config.json", config)
    with pytest.raises(CheckpointError, match=message):
        rows_of(folder)


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_config_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json: (is no JSON|holds a list)"):
        rows_of(folder)


def test_a_missing_config_or_tokenizer_is_named(layout: tiny.Layout, folder: Path) -> None:
    file = {"qwen_audio": "qwen.tiktoken", "qwen2_audio": "tokenizer.json"}[layout]
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=r"no file 'qwen\.tiktoken' or 'tokenizer\.json'"):
        rows_of(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file 'config\.json' and no file 'qwen"):
        rows_of(folder)


def test_the_tokenizer_of_the_other_model_is_not_enough(layout: tiny.Layout, folder: Path) -> None:
    names = ("qwen.tiktoken", "tokenizer.json")
    own, other = names if layout == "qwen_audio" else names[::-1]
    (folder / own).rename(folder / other)
    with pytest.raises(CheckpointError, match=rf"{own}: does not exist; fetch the file"):
        rows_of(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:-1], r"<audio> is number 3785 of 3787, but config\.json says 3786"),
        (lambda lines: lines[1:], r"its 265 pieces are not numbered 0 to 264"),
        (lambda lines: lines[:100], r"its 100 pieces .* too few"),
        (lambda lines: [*lines, "no base64! x\n"], r"is no tiktoken file"),
        (lambda lines: [*lines, "half\n"], r"is no tiktoken file"),
    ],
)
def test_a_tiktoken_file_that_was_cut_is_refused(
    spoil: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    file = tiny.write(tmp_path) / "qwen.tiktoken"
    file.write_text("".join(spoil(file.read_text().splitlines(keepends=True))))
    with pytest.raises(CheckpointError, match=message):
        rows_of(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "qwen2_audio")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    whole = content["added_tokens"]
    tiny.write_json(file, {**content, "added_tokens": whole[:4]})
    with pytest.raises(CheckpointError, match=r"has no token <\|audio_bos\|>, <\|audio_eos\|>"):
        rows_of(folder)
    tiny.write_json(folder / "config.json", {**tiny.QWEN2_AUDIO, "audio_token_index": 7})
    tiny.write_json(file, {**content, "added_tokens": whole})
    with pytest.raises(CheckpointError, match=r"<\|AUDIO\|> is number 269 .* says 7 of at most"):
        rows_of(folder)
    file.write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot be read"):
        rows_of(folder)


def test_missing_weights_are_named(layout: tiny.Layout, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, layout, shards=2)
    sorted(folder.glob("*.safetensors"))[0].unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 files .*model-00001-of-00002"):
        rows_of(folder)
    for file in folder.glob("model*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"no file '\*\.safetensors' or 'pytorch_model\*"):
        rows_of(folder)


def test_a_file_of_weights_is_not_enough(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a file; expected the folder of Qwen/Qwen"):
        rows_of(folder / "model.safetensors")
