from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_baichuan
import torch
from plain_baichuan import bloom_slopes, hidden_states
from sentencepiece import SentencePieceProcessor

from mercore.components import Noted
from mercore.errors import InputError, RegistryError
from mercore.media import FloatArray, Frames, Text
from mercore.testing import EncoderTests
from mercore_baichuan import Baichuan
from mercore_baichuan import _model as model_module
from mercore_baichuan._alibi import Alibi, slopes
from mercore_baichuan._model import BaichuanModel, in_runs
from mercore_baichuan._tokens import Line

TEXTS = (
    "我太高兴了！",
    "Why did you leave me alone? 你为什么离开我？",
    "雨",
    "今天下雨了，我们一整天都待在家里看书。",
    "emoji 😀 和生僻字 𠮷",
)
KINDS: list[tuple[tiny_baichuan.Size, Literal[1, 2]]] = [
    ("7b", 1), ("7b", 2), ("13b", 1), ("13b", 2)
]  # fmt: skip


@cache
def tiny(size: tiny_baichuan.Size = "13b", version: Literal[1, 2] = 1) -> Path:
    return tiny_baichuan.write(Path(tempfile.mkdtemp()), size=size, version=version)


@cache
def processor() -> SentencePieceProcessor:
    return SentencePieceProcessor(model_proto=tiny_baichuan.tokenizer())


def encoded(*texts: str, dtype: str = "float32", **options: Any) -> list[FloatArray]:
    options.setdefault("checkpoint", str(tiny()))
    outputs = Baichuan(**options).load("cpu", dtype)([{"text": Text(text)} for text in texts])
    return [output.value if isinstance(output, Noted) else output for output in outputs]


@cache
def plain(size: tiny_baichuan.Size, version: Literal[1, 2], ids: tuple[int, ...]) -> FloatArray:
    """Return all hidden states of the reference, ``(layers + 1, tokens, dim)``."""
    config = tiny_baichuan.config_of(size, version)
    states = hidden_states(config, tiny_baichuan.weights_of(config), ids)
    return np.stack(states).astype(np.float32)


def expected(ids: Sequence[int], layers: Sequence[int] = (-4, -3, -2, -1)) -> FloatArray:
    mean: FloatArray = plain("13b", 1, tuple(ids))[list(layers)].mean(0)
    return mean


def values(output: object) -> FloatArray:
    assert isinstance(output, np.ndarray)
    return output


def ids_of(text: str) -> list[int]:
    ids: list[int] = processor().encode(text)
    return ids


class TestBaichuan(EncoderTests):
    component = Baichuan(
        checkpoint=str(tiny()),
        layers=(-3, -1),
        reduce="sum",
        pool="tokens",
        prompt="情感：",
        chat=True,
    )


class TestBaichuan7B(EncoderTests):
    component = Baichuan(checkpoint=str(tiny("7b")))


class TestBaichuanPooled(EncoderTests):
    component = Baichuan(checkpoint=str(tiny("13b", 2)), pool="mean")


@pytest.mark.parametrize(("size", "version"), KINDS)
def test_it_is_the_published_network(size: tiny_baichuan.Size, version: Literal[1, 2]) -> None:
    # Independent of LlamaModel: a token at a time in numpy; its slopes are Bloom's.
    found = encoded(*TEXTS, checkpoint=str(tiny(size, version)))
    gap = 0.0
    for text, matrix in zip(TEXTS, found, strict=True):
        ids = ids_of(text)
        assert len(ids) == len(matrix)
        wanted = plain(size, version, tuple(ids))[-4:].mean(0)
        gap = max(gap, float(np.abs(matrix - wanted).max()))
    print(f"Baichuan {size} v{version}: {gap:.1e}, values up to {np.abs(found[1]).max():.1f}")
    assert gap < 1e-5


@pytest.mark.parametrize("heads", [5, 8, 12, 32, 40, 64])
def test_slopes_are_those_of_bloom(heads: int) -> None:
    assert slopes(heads) == pytest.approx(bloom_slopes(heads), abs=1e-7)


def test_slopes_of_40_heads_are_the_published_ones() -> None:
    found = slopes(40)
    assert found[:2] == pytest.approx([0.8409, 0.7071], abs=5e-5)
    assert found[31] == 0.00390625
    rest = [0.9170, 0.7711, 0.6484, 0.5453, 0.4585, 0.3856, 0.3242, 0.2726]
    assert found[32:] == pytest.approx(rest, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_bias_is_slope_times_distance(dtype: torch.dtype) -> None:
    bias = Alibi(5, dtype, "cpu")(7)
    assert bias.shape == (1, 5, 7, 7)
    for head, slope in enumerate(bloom_slopes(5)):
        for query in range(7):
            for key in range(7):
                want = slope * (key - query) if key <= query else -np.inf
                got = float(bias[0, head, query, key])
                assert got == pytest.approx(want, rel=torch.finfo(dtype).eps)


def test_the_bias_is_made_once_and_shared() -> None:
    alibi = Alibi(3, torch.float32, "cpu")
    longest = alibi(100)
    assert alibi(9).data_ptr() == longest.data_ptr()
    assert alibi(128).data_ptr() == longest.data_ptr()
    # CUDA's kernels copy a bias whose strides are no multiples of 16, in each block.
    assert all(stride % 16 == 0 for stride in alibi(9).stride()[:-1])
    torch.testing.assert_close(alibi(200)[..., :100, :100], longest)


@pytest.mark.parametrize("size", ["7b", "13b"])
def test_a_batch_gives_what_single_texts_give(size: tiny_baichuan.Size) -> None:
    model = Baichuan(checkpoint=str(tiny(size))).load("cpu", "float32")
    batch = [{"text": Text(text)} for text in (*TEXTS, "", TEXTS[0])]
    for sample, together in zip(batch, model(batch), strict=True):
        alone = model([sample])[0]
        np.testing.assert_allclose(values(together), values(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "shape"), [("7b", None), ("13b", (1, 5, 14, 14))])
def test_padding_needs_no_mask(size: tiny_baichuan.Size, shape: tuple[int, ...] | None) -> None:
    # Without one, torch takes its causal kernels; the bias of 13B is one for the whole batch.
    model = BaichuanModel(Baichuan(checkpoint=str(tiny(size))), "cpu", "float32")
    seen: list[object] = []

    def look(_block: object, _inputs: object, given: dict[str, Any]) -> None:
        mask = given["attention_mask"]
        seen.append(None if mask is None else tuple(mask.shape))

    model._model.layers[0].register_forward_pre_hook(look, with_kwargs=True)
    model([{"text": Text(text)} for text in (TEXTS[0], TEXTS[3], "雨")])
    assert seen == [shape]


def test_runs_hold_lines_of_like_length() -> None:
    lengths = [3, 9, 1, 0, 4, 20, 2]
    lines = [Line([1] * length, 0, length, length) for length in lengths]
    runs = list(in_runs(lines, 12))
    assert [[lengths[place] for place in run] for run in runs] == [[1, 2, 3], [4], [9], [20]]
    assert not list(in_runs([Line([1], 0, 0, 0)], 12))


def test_runs_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(*TEXTS)
    monkeypatch.setitem(model_module.TOKENS, "cpu", 1)
    for one, other in zip(whole, encoded(*TEXTS), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layers", [(0,), (1,), (0, 2), (3,), (-1,), (5,), (-2, -1), (0, 1, 2, 3, 4, 5)]
)
def test_layers_are_those_asked_for(layers: tuple[int, ...]) -> None:
    found = encoded(TEXTS[0], layers=layers)[0]
    np.testing.assert_allclose(found, expected(ids_of(TEXTS[0]), layers), rtol=0, atol=1e-5)


def test_layers_add_up() -> None:
    summed = encoded(TEXTS[0], reduce="sum")[0]
    np.testing.assert_allclose(summed, 4 * encoded(TEXTS[0])[0], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("layers", [(6,), (-7,)])
def test_layers_that_do_not_exist_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(RegistryError, match=r"baichuan: option 'layers' names .*states 0 to 5"):
        Baichuan(checkpoint=str(tiny()), layers=layers).load("cpu", "float32")


def test_no_more_blocks_are_built_than_needed() -> None:
    model = Baichuan(checkpoint=str(tiny()), layers=(1, 2)).load("cpu", "float32")
    assert isinstance(model, BaichuanModel)
    names = model._model.state_dict()
    assert {name.split(".")[1] for name in names if name.startswith("layers.")} == {"0", "1"}
    assert not [name for name in names if name.startswith(("norm.", "lm_head."))]


@pytest.mark.parametrize("text", ["", "  ", "\n\t\u3000"])
@pytest.mark.parametrize("chat", [False, True])
def test_text_without_words_gives_a_zero_row(text: str, chat: bool) -> None:
    prompt = "情感：" if chat else None
    empty, full = encoded(text, TEXTS[0], chat=chat, prompt=prompt)
    assert empty.shape == (1, 40)
    assert not empty.any()
    assert full.any()


def test_a_prompt_is_read_and_its_rows_left_out() -> None:
    prompt = "请判断情感："
    found = encoded(TEXTS[0], prompt=prompt)[0]
    ids = [*ids_of(prompt), *ids_of(TEXTS[0])]
    wanted = expected(ids)[len(ids_of(prompt)) :]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(found - encoded(TEXTS[0])[0]).max() > 0.1


@pytest.mark.parametrize("prompt", [None, "请判断情感："])
def test_chat_puts_the_tokens_of_user_and_assistant_around(prompt: str | None) -> None:
    found = encoded(TEXTS[0], prompt=prompt, chat=True)[0]
    before = [195, *ids_of(prompt or "")]
    own = ids_of(TEXTS[0])
    wanted = expected([*before, *own, 196])[len(before) : len(before) + len(own)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chat", [False, True])
def test_pooling_gives_one_row(chat: bool) -> None:
    options: dict[str, Any] = {"prompt": "情感：", "chat": chat}
    tokens = encoded(*TEXTS, **options)
    for matrix, mean in zip(tokens, encoded(*TEXTS, pool="mean", **options), strict=True):
        np.testing.assert_allclose(mean, matrix.mean(0, keepdims=True), rtol=0, atol=1e-6)
    last = encoded(*TEXTS, pool="last", **options)
    for text, matrix, row in zip(TEXTS, tokens, last, strict=True):
        assert row.shape == (1, 40)
        if chat:  # that of the assistant token
            ids = [195, *ids_of("情感："), *ids_of(text), 196]
            np.testing.assert_allclose(row[0], expected(ids)[-1], rtol=0, atol=1e-5)
        else:
            np.testing.assert_allclose(row, matrix[-1:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", ["7b", "13b"])
@pytest.mark.parametrize(("chat", "room"), [(False, 64), (True, 60)])
def test_long_text_is_cut_and_noted(size: tiny_baichuan.Size, chat: bool, room: int) -> None:
    text = "今天下雨了，" * 40
    assert len(ids_of("情感：")) == 2
    component = Baichuan(checkpoint=str(tiny(size)), prompt="情感：" if chat else None, chat=chat)
    model = component.load("cpu", "float32")
    short, long = model([{"text": Text("雨")}, {"text": Text(text)}])
    assert isinstance(short, np.ndarray)
    assert isinstance(long, Noted)
    assert long.record == {"tokens": len(ids_of(text)), "read": room}
    assert long.value.shape[0] == room
    if not chat:
        wanted = plain(size, 1, tuple(ids_of(text)[:room]))[-4:].mean(0)
        np.testing.assert_allclose(long.value, wanted, rtol=0, atol=1e-5)


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(RegistryError, match="option 'prompt' has 64 tokens, which leaves none"):
        encoded("雨", prompt="雨" * 64)


def test_text_that_is_no_unicode_is_refused_alone() -> None:
    with pytest.raises(InputError, match="no valid Unicode"):
        encoded("\ud800")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = tiny_baichuan.write(tmp_path)
    weights = tiny_baichuan.weights_of(tiny_baichuan.config_of("13b"))
    weights["model.layers.1.mlp.down_proj.weight"] *= 1e5
    tiny_baichuan.save(folder, weights)
    assert encoded(TEXTS[0], checkpoint=str(folder))[0].any()
    with pytest.raises(InputError, match="not finite in float16; use bfloat16 or float32"):
        encoded(TEXTS[0], checkpoint=str(folder), dtype="float16")


def test_another_medium_is_refused() -> None:
    frames = Frames(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1))
    with pytest.raises(InputError, match="'text' holds Frames, expected text"):
        Baichuan(checkpoint=str(tiny())).load("cpu", "float32")([{"text": frames}])


def test_rows_are_in_memory_of_their_own() -> None:
    found = encoded(*TEXTS)
    assert all(matrix.base is None for matrix in found)
