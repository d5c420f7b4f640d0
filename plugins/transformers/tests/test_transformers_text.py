"""`transformers_text` beside the library's own networks, one text at a time, unpadded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
import transformers
from pydantic import ValidationError

from mercore.components import Inputs, Noted
from mercore.errors import CheckpointError, InputError, RegistryError
from mercore.media import FloatArray, Text
from mercore.testing import EncoderTests
from mercore_transformers import TransformersText
from mercore_transformers._text import PADDED, TextEncoder

hf: Any = transformers  # it is typed in part only

FAMILIES = sorted(tiny.TEXTS)
SHORT, MIDDLE, LONG = "the cat sat !", "you saw a happy cat there , not on the mat ?", "happy " * 40
ENCODERS = {"t5": hf.T5EncoderModel, "mt5": hf.MT5EncoderModel, "umt5": hf.UMT5EncoderModel}


def encoder(folder: Path, **options: Any) -> TextEncoder:
    loaded = TransformersText(checkpoint=str(folder), **options).load("cpu", "float32")
    assert isinstance(loaded, TextEncoder)
    return loaded


def inputs(*texts: str) -> list[Inputs]:
    return [{"text": Text(text)} for text in texts]


def encode(family: str, text: str, **options: Any) -> Any:
    return encoder(tiny.folder("text", family), **options)(inputs(text))[0]


@torch.inference_mode()
def output(family: str, text: str, **cut: Any) -> Any:
    """Return what the library's own network gives for the text alone."""
    folder = tiny.folder("text", family)
    model: Any = ENCODERS.get(family, hf.AutoModel).from_pretrained(folder).eval()
    ids = hf.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", **cut)["input_ids"]
    return model(input_ids=ids, output_hidden_states=True)


def apart(found: Any, expected: FloatArray) -> float:
    """Return the largest difference as a share of the largest value."""
    own = found.value if isinstance(found, Noted) else found
    assert own.shape == expected.shape
    assert own.dtype == np.float32
    return float(np.abs(own - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_is_the_librarys_output(family: str) -> None:
    expected = output(family, MIDDLE).last_hidden_state[0].numpy()
    assert apart(encode(family, MIDDLE), expected) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_librarys_hidden_states(family: str) -> None:
    states = [state[0].numpy() for state in output(family, MIDDLE).hidden_states]
    assert apart(encode(family, MIDDLE, layers=(0, 2)), (states[0] + states[2]) / 2) <= 1e-5
    summed = encode(family, MIDDLE, layers=(1, 2), reduce="sum")
    assert apart(summed, states[1] + states[2]) <= 1e-5
    beside = encode(family, MIDDLE, layers=(2, 1), reduce="concat")
    assert apart(beside, np.concatenate([states[1], states[2]], 1)) <= 1e-5


def test_each_family_that_is_padded_is_tested_here() -> None:
    assert set(FAMILIES) == PADDED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_padded_and_changes_nothing(family: str) -> None:
    loaded = encoder(tiny.folder("text", family))
    texts = [MIDDLE, SHORT, "cat", MIDDLE]
    alone = [loaded(inputs(text))[0] for text in texts]
    assert loaded.model.pads
    for own, found in zip(alone, loaded(inputs(*texts)), strict=True):
        assert isinstance(own, np.ndarray)
        assert apart(found, own) <= 1e-5


def test_a_family_that_was_not_tried_runs_by_equal_length(tmp_path: Path) -> None:
    """FNet mixes all positions and knows no mask."""
    tiny.text_model("FNetModel", **tiny.TEXT).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    loaded = encoder(tmp_path)
    assert not loaded.model.pads
    alone = [loaded(inputs(text))[0] for text in (SHORT, MIDDLE)]
    for own, found in zip(alone, loaded(inputs(SHORT, MIDDLE)), strict=True):
        assert isinstance(own, np.ndarray)
        assert apart(found, own) <= 1e-6


def test_text_that_is_too_long_is_cut_and_noted() -> None:
    found = encode("bert", LONG)
    cut = {"truncation": True, "max_length": 16}
    assert apart(found, output("bert", LONG, **cut).last_hidden_state[0].numpy()) <= 1e-5
    assert found.record == {"tokens": 40, "read": 14}


def test_chunks_read_all_of_a_long_text() -> None:
    found = encode("bert", LONG, chunk=True, max_tokens=12)
    pieces = [output("bert", "happy " * count).last_hidden_state[0] for count in (10,) * 4]
    assert apart(found, torch.cat(pieces).numpy()) <= 1e-5


def test_roberta_reads_as_many_tokens_as_it_has_positions_for(tmp_path: Path) -> None:
    tiny.text_model("RobertaModel", **tiny.TEXT | {"pad_token_id": 1}).save_pretrained(tmp_path)
    tiny.tokenizer(limit=None).save_pretrained(tmp_path)
    (found,) = encoder(tmp_path)(inputs(LONG))
    assert isinstance(found, Noted)
    assert len(found.value) == 22  # of 24, two are for padding


def test_more_tokens_than_there_are_positions_are_refused() -> None:
    with pytest.raises(RegistryError, match="'max_tokens' is 25, but 'bert' reads 24 at most"):
        encode("bert", SHORT, max_tokens=25)


def test_special_tokens_can_be_left_out() -> None:
    rows = encode("bert", SHORT)
    assert apart(encode("bert", SHORT, special_tokens=False), rows[1:-1]) == 0
    assert apart(encode("bert", SHORT, pool="first"), rows[:1]) == 0
    assert apart(encode("bert", SHORT, pool="last"), rows[-1:]) == 0
    mean = encode("bert", SHORT, pool="mean", special_tokens=False)
    assert apart(mean, rows[1:-1].mean(0, keepdims=True)) <= 1e-6


def test_a_decoder_without_special_tokens_reads_the_text_alone(tmp_path: Path) -> None:
    tiny.TEXTS["qwen2"]().save_pretrained(tmp_path)
    tiny.tokenizer(template=None).save_pretrained(tmp_path)
    (found,) = encoder(tmp_path, special_tokens=False)(inputs(SHORT))
    ids = hf.AutoTokenizer.from_pretrained(tmp_path)(SHORT)["input_ids"]
    assert isinstance(found, np.ndarray)
    assert found.shape == (len(ids), 32)


def test_a_prefix_is_read_before_the_text() -> None:
    expected = output("bert", f"you saw {SHORT}").last_hidden_state[0].numpy()
    assert apart(encode("bert", SHORT, prefix="you saw "), expected) <= 1e-5


@pytest.mark.parametrize("text", ["", "  \n"])
def test_text_without_a_word_gives_a_row_of_zeros(text: str) -> None:
    found = encode("bert", text, layers=(1, 2), reduce="concat", prefix="you ")
    assert np.array_equal(found, np.zeros((1, 64), np.float32))


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InputError, match="no valid Unicode"):
        encode("bert", "a \ud800 cat")


@pytest.mark.parametrize(
    "name",
    ["BertForMaskedLM", "BertForSequenceClassification", "RobertaForMaskedLM", "LlamaForCausalLM"],
)
def test_heads_are_left_alone(name: str, tmp_path: Path) -> None:
    family = name.split("For")[0]
    given = tiny.DECODER if family == "Llama" else tiny.TEXT
    model = tiny.shaken(getattr(hf, name)(getattr(hf, f"{family}Config")(**given)))
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (found,) = encoder(tmp_path)(inputs(SHORT))
    ids = hf.AutoTokenizer.from_pretrained(tmp_path)(SHORT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model.base_model(input_ids=ids).last_hidden_state[0].numpy()
    assert apart(found, expected) <= 1e-5


def test_of_a_network_with_a_decoder_the_encoder_is_read(tmp_path: Path) -> None:
    model = tiny.shaken(hf.T5ForConditionalGeneration(hf.T5Config(**tiny.T5)))
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (found,) = encoder(tmp_path)(inputs(SHORT))
    ids = hf.AutoTokenizer.from_pretrained(tmp_path)(SHORT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model.get_encoder()(input_ids=ids).last_hidden_state[0].numpy()
    assert apart(found, expected) <= 1e-5


def test_a_file_of_an_encoder_alone_is_enough_where_the_network_has_a_decoder() -> None:
    assert encode("t5", SHORT).shape == (6, 32)


def test_a_tokenizer_with_more_tokens_than_the_network_knows_is_refused(tmp_path: Path) -> None:
    tiny.text_model("BertModel", **tiny.TEXT | {"vocab_size": 10}).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="26 tokens, but the network knows 10"):
        encoder(tmp_path)


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    tiny.text_model("BertModel", **tiny.TEXT).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no file 'tokenizer\.json'"):
        encoder(tmp_path)


def test_options_are_checked_before_anything_is_loaded() -> None:
    with pytest.raises(ValidationError, match="checkpoint"):
        TransformersText()  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="max_tokens"):
        TransformersText(checkpoint="a/b", max_tokens=0)


class TestBert(EncoderTests):
    component = TransformersText(checkpoint=str(tiny.folder("text", "bert")))


class TestQwen2(EncoderTests):
    component = TransformersText(
        checkpoint=str(tiny.folder("text", "qwen2")), layers=(-2, -1), pool="last"
    )
