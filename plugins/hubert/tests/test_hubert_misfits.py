"""What `hubert` refuses: weights and files that do not fit, each with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_hubert as tiny
import torch
from hubert_reference import encode, sound

from mercore.errors import CheckpointError, InputError
from mercore.media import Text
from mercore_hubert import Hubert

AUDIO = sound(4_000)
WEIGHTS = tiny.tensors("large")
LAST = f"encoder.layers.{tiny.DEPTH - 1}."

Changes = Mapping[str, torch.Tensor | None]


def changed(weights: tiny.Tensors, changes: Changes) -> tiny.Tensors:
    """Return the weights with some replaced, or left out."""
    own: dict[str, Any] = {**weights, **changes}
    return {name: tensor for name, tensor in own.items() if tensor is not None}


def block(number: int, like: int = 0) -> tiny.Tensors:
    start = f"encoder.layers.{like}."
    return {
        name.replace(start, f"encoder.layers.{number}."): tensor.clone()
        for name, tensor in WEIGHTS.items()
        if name.startswith(start)
    }


MISFITS: list[tuple[Changes, str]] = [
    ({"encoder.layer_norm.bias": None}, r"missing: encoder\.layer_norm\.bias"),
    ({"encoder.pos_conv_embed.conv.weight_g": None}, r"missing: .*weight\.original0"),
    ({"encoder.layers.2.attention.k_proj.bias": None}, r"missing: encoder\.layers\.2\.attention"),
    ({"feature_projection.layer_norm.weight": None}, r"missing: feature_projection\.layer_norm"),
    (
        {"feature_extractor.conv_layers.1.conv.bias": torch.ones(tiny.CHANNELS)},
        r"missing: feature_extractor\.conv_layers\.0\.conv\.bias",
    ),
    ({"encoder.layers.2.adapter_layer.norm.bias": torch.ones(1)}, "not expected: .*adapter_layer"),
    ({"quantizer.codevectors": torch.ones(1)}, r"not expected: quantizer\.codevectors"),
    (
        {"encoder.layers.0.attention.rel_attn_embed.weight": torch.ones(1)},
        "not expected: .*rel_att",
    ),
    (
        {"encoder.layers.1.feed_forward.output_dense.weight": torch.ones(tiny.WIDTH, 64)},
        r"of another shape: .*\(128, 64\), expected \(128, 96\)",
    ),
    (
        {"encoder.pos_conv_embed.conv.weight_v": torch.ones(tiny.WIDTH, 16, tiny.POSITIONS)},
        r"of another shape: .*weight_v gives \(128, 16, 16\), expected \(128, 32, 16\)",
    ),
    (
        {"encoder.pos_conv_embed.conv.parametrizations.weight.original0": torch.ones(1)},
        "given twice: .*original0",
    ),
]


@pytest.mark.parametrize(("changes", "says"), MISFITS)
def test_other_weights_are_refused(tmp_path: Path, changes: Changes, says: str) -> None:
    checkpoint = tiny.write_safetensors(tmp_path, "large", changed(WEIGHTS, changes))
    with pytest.raises(CheckpointError, match=says):
        encode(checkpoint, AUDIO)


@pytest.mark.parametrize("layers", [(-1,), (0,)])
def test_the_number_of_blocks_must_be_the_configs(tmp_path: Path, layers: tuple[int, ...]) -> None:
    """Also where the blocks in question would not be loaded."""
    cut = {name: tensor for name, tensor in WEIGHTS.items() if not name.startswith(LAST)}
    checkpoint = tiny.write_safetensors(tmp_path / "cut", "large", cut)
    with pytest.raises(CheckpointError, match=r"5 blocks with numbers up to 4, but config.*: 6"):
        encode(checkpoint, AUDIO, layers=layers)
    more = WEIGHTS | block(tiny.DEPTH)
    checkpoint = tiny.write_safetensors(tmp_path / "more", "large", more)
    with pytest.raises(CheckpointError, match=r"7 blocks with numbers up to 6, but config.*: 6"):
        encode(checkpoint, AUDIO, layers=layers)
    hole = {name: t for name, t in WEIGHTS.items() if not name.startswith("encoder.layers.3.")}
    checkpoint = tiny.write_safetensors(tmp_path / "hole", "large", hole)
    with pytest.raises(CheckpointError, match="5 blocks with numbers up to 5"):
        encode(checkpoint, AUDIO, layers=layers)


def test_weights_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    checkpoint = tiny.write_safetensors(tmp_path, "large", tiny.tensors("base"))
    with pytest.raises(
        CheckpointError, match=r"missing: feature_extractor.conv_layers.1.layer_nor"
    ):
        encode(checkpoint, AUDIO)
    (tmp_path / "config.json").write_text(json.dumps(tiny.config("base")))
    encode(checkpoint, AUDIO)
    tiny.write_safetensors(tmp_path, "base", WEIGHTS)
    with pytest.raises(
        CheckpointError, match=r"not expected: feature_extractor.conv_layers.1.laye"
    ):
        encode(tmp_path, AUDIO)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "wav2vec2"}, "of a 'wav2vec2' model, expected 'hubert'"),
        ({"model_type": "wavlm"}, "of a 'wavlm' model"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm is 'batch', expected 'group' or 'lay"),
        ({"hidden_size": "wide"}, "describes no HuBERT: .*hidden_size"),
        ({"conv_kernel": [10, 3]}, "describes no HuBERT"),
        ({"num_attention_heads": 3}, "no HuBERT's sizes: embed_dim must be divisible"),
        ({"hidden_size": 192}, r"of another shape: .*\(128,\), expected \(192,\)"),
    ],
)
def test_other_configs_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    checkpoint = tiny.write(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says):
        encode(checkpoint, AUDIO)


def test_a_config_must_say_the_sizes(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    told = tiny.config("large")
    del told["num_attention_heads"], told["do_stable_layer_norm"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="lacks num_attention_heads, do_stable_layer_norm"):
        encode(tmp_path, AUDIO)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: is no JSON"):
        encode(tmp_path, AUDIO)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list, expected an object"):
        encode(tmp_path, AUDIO)


def test_the_rate_must_be_16_khz(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(CheckpointError, match="sampling_rate is 8000, expected 16000"):
        encode(tmp_path, AUDIO)


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*'config\.json', '\*\.safeten"):
        encode(tmp_path / "nowhere", AUDIO)
    tiny.write_config(tmp_path, "large")
    with pytest.raises(
        CheckpointError, match=r"no file '\*\.safetensors' or 'pytorch_model\*\.bin"
    ):
        encode(tmp_path, AUDIO)
    tiny.write(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file 'config\.json'"):
        encode(tmp_path, AUDIO)
    with pytest.raises(CheckpointError, match=r"has no config\.json, which says the sizes of wei"):
        encode(tmp_path / "pytorch_model.bin", AUDIO)


def test_an_absent_shard_is_named(tmp_path: Path) -> None:
    tiny.write_shards(tmp_path, "large", WEIGHTS, ".bin")
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 files .*pytorch_model-00002-of"):
        encode(tmp_path, AUDIO)


def test_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match=r"no positional convolution.*found conv\.weight"):
        encode(file, AUDIO)


FAIRSEQ = tiny.fairseq(WEIGHTS, "large")
FAIRSEQ_MISFITS: list[tuple[Changes, str]] = [
    ({"encoder.layers.2.fc1.weight": None}, r"missing: .*2\.feed_forward\.intermediate_dense"),
    ({"encoder.layers.0.fc1.weight": None}, r"lacks encoder\.layers\.0\.fc1\.weight"),
    (
        {"encoder.layers.0.fc1.weight": torch.ones(3)},
        r"fc1.weight has the shape \(3,\), expected 2",
    ),
    ({"post_extract_proj.weight": None}, r"lacks post_extract_proj\.weight"),
    ({"encoder.pos_conv.0.weight_v": None}, r"lacks encoder\.pos_conv\.0\.weight_v"),
    ({"encoder.pos_conv.0.weight_g": None}, r"missing: .*original0"),
    ({"feature_extractor.conv_layers.3.2.1.bias": None}, r"missing: .*conv_layers\.3\.layer_norm"),
    ({"feature_extractor.conv_layers.0.2.1.weight": None}, r"not expected: .*conv_layers\.1\.2\.1"),
    ({"project_q.weight": torch.ones(2, 2)}, r"not expected: project_q\.weight"),  # wav2vec 2.0
    ({"layer_norm.weight": None}, r"missing: feature_projection\.layer_norm\.weight"),
]


@pytest.mark.parametrize(("changes", "says"), FAIRSEQ_MISFITS)
def test_other_weights_of_fairseq_are_refused(tmp_path: Path, changes: Changes, says: str) -> None:
    file = tiny.write_fairseq(tmp_path / "changed.pt", changed(FAIRSEQ, changes))
    with pytest.raises(CheckpointError, match=says):
        encode(file, AUDIO)


def test_a_hole_in_fairseqs_blocks_is_noticed(tmp_path: Path) -> None:
    hole = {name: t for name, t in FAIRSEQ.items() if not name.startswith("encoder.layers.3.")}
    file = tiny.write_fairseq(tmp_path / "hole.pt", hole)
    with pytest.raises(CheckpointError, match="5 blocks with numbers up to 5; was the checkpoint"):
        encode(file, AUDIO, layers=(0,))


def test_a_width_that_fairseq_never_published_is_refused(tmp_path: Path) -> None:
    other = FAIRSEQ | {"post_extract_proj.weight": torch.ones(100, tiny.CHANNELS)}
    file = tiny.write_fairseq(tmp_path / "narrow.pt", other)
    with pytest.raises(CheckpointError, match=r"100 wide, .* number of heads is not known"):
        encode(file, AUDIO)


def test_fairseqs_pickled_classes_are_refused(tmp_path: Path) -> None:
    file = tiny.write_fairseq(tmp_path / "old.pt", FAIRSEQ, namespace=True)
    with pytest.raises(CheckpointError, match=r"more than weights.*Namespace.*save its state"):
        encode(file, AUDIO)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_audio_without_a_frame_is_refused(tmp_path: Path, samples: int) -> None:
    checkpoint = tiny.write(tmp_path)
    says = re.escape(f"the input 'audio' has {samples} samples, expected 400 or more (25 ms)")
    with pytest.raises(InputError, match=says):
        encode(checkpoint, np.zeros(samples, np.float32))


def test_silence_is_encoded(tmp_path: Path) -> None:
    found = encode(tiny.write(tmp_path), np.zeros(1_000, np.float32))
    assert np.isfinite(found).all()


def test_other_media_are_refused(tmp_path: Path) -> None:
    encoder = Hubert(checkpoint=str(tiny.write(tmp_path))).load("cpu", "float32")
    with pytest.raises(InputError, match="'audio' holds Text, expected audio"):
        encoder([{"audio": Text("hello")}])
