"""`ct_transformer` beside FunASR, in both published layouts."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_ct_transformer as tiny
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mercore.components import Noted, Transform
from mercore.errors import CheckpointError, RunError
from mercore.fingerprints import describe
from mercore.media import Text
from mercore.testing import PreprocessorTests
from mercore_paraformer import CTTransformer
from mercore_paraformer._punctuation import Punctuator
from mercore_paraformer._punctuation_network import Sizes
from mercore_paraformer._punctuation_published import published
from mercore_paraformer._punctuation_windows import LONG, LONGEST, Marks, Reading, batches, decided
from mercore_paraformer._punctuation_words import Cut, words_of

torch.set_num_threads(1)

BIASES = {"usual": tiny.USUAL, "commas": tiny.COMMAS, "none": tiny.NONE}
SIGNS = frozenset("，。？、,.?")
MARKS = Marks(("", "", "，", "。", "？", "、"), 3)


@cache
def folder(kind: tiny.Kind, bias: str = "usual") -> Path:
    return tiny.write(Path(tempfile.mkdtemp()), kind, bias=BIASES[bias])


@cache
def loaded(kind: tiny.Kind, bias: str = "usual", window: int = 20) -> Transform:
    return CTTransformer(checkpoint=str(folder(kind, bias)), window=window).load("cpu", "float32")


@cache
def cut() -> Cut:
    """Return jieba's cut with the dictionary of the tiny checkpoint; jieba takes a second."""
    found = published(str(folder("words"))).cut()
    assert found is not None
    return found


@cache
def funasr(kind: tiny.Kind, bias: str = "usual") -> Any:
    """Return FunASR's model, which prints and warns when it is imported and loaded."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from funasr import AutoModel

        return AutoModel(
            model=str(folder(kind, bias)),
            device="cpu",
            disable_update=True,
            check_latest=False,
            disable_pbar=True,
        )


def theirs(text: str, kind: tiny.Kind, bias: str = "usual") -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        found: str = funasr(kind, bias).generate(input=text)[0]["text"]
    return found


def run(transform: Transform, texts: Sequence[str]) -> list[Noted[Text]]:
    found = transform([{"text": Text(text)} for text in texts])
    noted = [output for output in found if isinstance(output, Noted)]
    return [Noted(out.value, out.record) for out in noted if isinstance(out.value, Text)]


def punctuated(text: str, kind: tiny.Kind, bias: str = "usual", window: int = 20) -> str:
    return run(loaded(kind, bias, window), [text])[0].value.content


def chinese(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(tiny.CHARACTERS, k=length))


def mixed(length: int, seed: int = 0) -> str:
    """Return as many pieces: characters, rare ones, words between blanks, and what is neither."""
    chance = random.Random(seed)
    others = [f" {word} " for word in tiny.ENGLISH] + ["龘", " ", "\n", "👍", "abc12", "今天天气"]
    return "".join(
        chance.choice(tiny.CHARACTERS if chance.random() < 0.6 else others) for _ in range(length)
    )


def bare(text: str) -> str:
    """Return the text without what FunASR changes: blanks, and the size of letters."""
    return "".join(text.split()).lower()


def without(marked: str, text: str) -> str:
    """Return `marked` without the marks that are not in `text` at their place."""
    kept: list[str] = []
    for character in marked:
        expected = text[len(kept) : len(kept) + 1]
        if character == expected or character not in SIGNS:
            kept.append(character)
    return "".join(kept)


# FunASR's code shares nothing with the plugin's.


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_scores_are_those_of_funasr(kind: tiny.Kind) -> None:
    ours = published(str(folder(kind))).network("cpu", torch.float32)
    numbers = torch.randint(
        len(tiny.tokens(kind)), (3, 57), generator=torch.Generator().manual_seed(1)
    )
    lengths = torch.tensor([57, 20, 1])
    with torch.inference_mode():
        expected, _ = funasr(kind).model.punc_forward(numbers, lengths)
        found = ours(numbers, lengths)
        alone = ours(numbers[1:2, :20])
    for row, length in enumerate(lengths):
        assert (found[row, :length] - expected[row, :length]).abs().max() <= 1e-5
    assert (alone[0] - expected[1, :20]).abs().max() <= 1e-5
    assert expected.std() > 0.3


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("length", [1, 2, 3, 19, 20, 21, 40, 41, 150])
def test_chinese_text_is_that_of_funasr(kind: tiny.Kind, length: int) -> None:
    text = chinese(length, seed=length)
    found = punctuated(text, kind)
    assert found == theirs(text, kind)
    assert found[-1] in "。？"


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("length", [1, 5, 30, 150])
def test_mixed_text_is_that_of_funasr_but_for_blanks_and_capitals(
    kind: tiny.Kind, length: int
) -> None:
    text = mixed(length, seed=length + 1)
    assert bare(punctuated(text, kind)) == bare(theirs(text, kind))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_long_text_without_a_full_stop_is_cut_at_a_comma_as_by_funasr(kind: tiny.Kind) -> None:
    text = chinese(390, seed=7)
    found = punctuated(text, kind, "commas")
    assert found == theirs(text, kind, "commas")
    assert "。" in found[:-1]


@pytest.mark.parametrize("kind", tiny.KINDS)
@given(
    text=st.text(
        st.one_of(
            st.sampled_from(tiny.CHARACTERS + " \n\t\u3000龘👍é\u0301abcXYZ'0189-@\u200d"),
            st.characters(exclude_categories=["Cs"], exclude_characters="，。？！、；：…,.?!;"),
        ),
        max_size=120,
    )
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_character_is_lost_or_doubled(kind: tiny.Kind, text: str) -> None:
    (found,) = run(loaded(kind), [text])
    assert without(found.value.content, text) == text
    assert found.record == {
        "punctuated": len(found.value.content) - len(text),
        "passed_through": False,
    }
    assert bool(found.record["punctuated"]) == bool(text.strip())


@pytest.mark.parametrize(
    ("kind", "bias", "window"),
    [
        ("characters", "usual", 2),
        ("characters", "usual", 77),
        ("characters", "commas", 20),
        ("characters", "none", 20),
        ("words", "usual", 20),
        ("words", "commas", 20),
    ],
)
def test_nothing_is_lost_or_doubled_between_windows(
    kind: tiny.Kind, bias: str, window: int
) -> None:
    text = mixed(500, seed=window)
    assert len(words_of(text, cut() if kind == "words" else None)) > LONGEST
    assert without(punctuated(text, kind, bias, window), text) == text


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(
    "text",
    [
        "今天天气不错，我们去逛吧",
        "你好。",
        "你好吗？他说",
        "hello, world",
        "it is 3 . ok",
        "等等…",
        "喝茶、看书",
        "No! really",
        "ends in 3.",
    ],
)
def test_text_with_marks_passes_through(kind: tiny.Kind, text: str) -> None:
    (found,) = run(loaded(kind), [text])
    assert found.value.content == text
    assert found.record == {"punctuated": 0, "passed_through": True}


@pytest.mark.parametrize("text", ["", " ", "\n\u3000"])
def test_text_without_words_stays_as_it_is(text: str) -> None:
    (found,) = run(loaded("characters"), [text])
    assert found.value.content == text
    assert found.record == {"punctuated": 0, "passed_through": False}


def test_points_and_commas_between_digits_are_no_punctuation() -> None:
    (found,) = run(loaded("characters"), ["一共 1,234.5 元"])
    assert found.value.content != "一共 1,234.5 元"
    assert without(found.value.content, "一共 1,234.5 元") == "一共 1,234.5 元"


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_batch_gives_what_its_texts_give_alone(kind: tiny.Kind) -> None:
    texts = [mixed(length, seed=length) for length in (90, 1, 300, 0, 33, 21, 20)]
    texts.insert(2, "有标点。")
    together = run(loaded(kind), texts)
    assert together == [run(loaded(kind), [text])[0] for text in texts]
    assert len({found.value.content for found in together}) == len(texts)


def test_characters_runs_of_ascii_and_their_places() -> None:
    words = words_of(" 你好abc12  ok👍", None)
    assert [word.text for word in words] == ["你", "好", "abc12", "ok", "👍"]
    assert [word.end for word in words] == [2, 3, 8, 12, 13]


def test_words_may_have_blanks_inside_where_jieba_joins_them() -> None:
    words = words_of("今 天 don't 商店逛 吧 T恤", cut())
    assert [word.text for word in words] == ["今天", "don't", "商店", "逛吧", "T恤"]
    assert [word.end for word in words] == [3, 9, 12, 15, 18]


def test_a_dictionary_does_not_reach_other_users_of_jieba() -> None:
    assert list(cut()("逛吧")) == ["逛吧"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    assert list(jieba.Tokenizer().cut("逛吧", HMM=False)) == ["逛", "吧"]


def test_windows_end_at_the_last_sentence_but_not_at_its_edges() -> None:
    assert decided([3, 1, 3, 1, 4, 1, 3], MARKS) == [3, 1, 3, 1, 4]
    assert decided([3, 3, 1, 2, 1, 3], MARKS) == []


def test_long_windows_end_at_a_comma_or_leave_the_last_words() -> None:
    assert decided([1] * 150 + [2] + [1] * 49, MARKS) == []
    assert decided([1] * 150 + [2] + [1] * 50, MARKS) == [1] * 150 + [3]
    assert decided([1] * LONGEST, MARKS) == []
    assert decided([1] * (LONGEST + 20), MARKS) == [1] * (LONGEST + 20 - LONG)


def test_another_window_reads_other_words_together() -> None:
    text = chinese(300)
    assert punctuated(text, "characters", window=20) != punctuated(text, "characters", window=7)


def test_batches_hold_windows_of_like_length() -> None:
    readings = [Reading(np.zeros(length, np.int64), 99) for length in (60, 9, 10, 8, 8, 1, 64, 62)]
    found = [[len(reading.window) for reading in batch] for batch in batches(readings, 150)]
    assert found == [[1], [8, 8, 9, 10], [60, 62], [64]]


def test_weights_in_safetensors_give_the_same(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    copy = shutil.copytree(folder("characters"), tmp_path / "copy")
    (copy / "model.pt").unlink()
    save_file(tiny.tensors("characters"), copy / "model.safetensors")
    text = mixed(100)
    found = run(CTTransformer(checkpoint=str(copy)).load("cpu", "float32"), [text])
    assert found[0].value.content == punctuated(text, "characters")


@pytest.mark.parametrize("nest", ["state_dict", "model"])
def test_nested_weights_of_a_parallel_training_give_the_same(tmp_path: Path, nest: str) -> None:
    copy = shutil.copytree(folder("characters"), tmp_path / "copy")
    named = {f"module.{name}": tensor for name, tensor in tiny.tensors("characters").items()}
    torch.save({nest: named, "epoch": 3}, copy / "model.pt")
    found = run(CTTransformer(checkpoint=str(copy)).load("cpu", "float32"), [chinese(50)])
    assert found[0].value.content == punctuated(chinese(50), "characters")


def test_without_configuration_json_the_dictionary_is_found(tmp_path: Path) -> None:
    copy = shutil.copytree(folder("words"), tmp_path / "copy")
    (copy / "configuration.json").unlink()
    assert published(str(copy)).dictionary == copy / "jieba_usr_dict"
    (copy / "jieba_usr_dict").unlink()
    assert published(str(copy)).dictionary is None


def test_the_identity_is_of_the_weights(tmp_path: Path) -> None:
    copy = shutil.copytree(folder("words"), tmp_path / "copy")
    one, other = (CTTransformer(checkpoint=str(path)) for path in (folder("words"), copy))
    assert describe(one) == describe(other)
    assert describe(one) != describe(CTTransformer(checkpoint=str(folder("characters"))))


Change = Callable[[Path], object]


def _config(change: Callable[[dict[str, Any]], object]) -> Change:
    def changed(path: Path) -> None:
        told = tiny.config("characters")
        change(told)
        (path / "config.yaml").write_text(yaml.safe_dump(told, allow_unicode=True))

    return changed


def _weights(change: Callable[[tiny.Tensors], object]) -> Change:
    def changed(path: Path) -> None:
        found = tiny.tensors("characters")
        change(found)
        torch.save(found, path / "model.pt")

    return changed


MISFITS: dict[str, tuple[Change, str]] = {
    "weights are missing": (
        _weights(lambda found: found.pop("encoder.encoders.0.self_attn.fsmn_block.weight")),
        r"missing: encoder\.encoders\.0\.self_attn\.fsmn_block\.weight",
    ),
    "weights are left": (
        _weights(lambda found: found.update({"decoder.extra": torch.ones(1)})),
        r"not expected: decoder\.extra",
    ),
    "more blocks": (
        _config(lambda told: told["encoder_conf"].update(num_blocks=3)),
        r"missing: encoder\.encoders\.1",
    ),
    "another vocabulary": (
        lambda path: (path / "tokens.json").write_text('["a", "<unk>"]'),
        r"embed\.weight gives \(\d+, 32\), expected \(2, 32\)",
    ),
    "another kernel": (
        _config(lambda told: told["encoder_conf"].update(kernel_size=9)),
        "of another shape",
    ),
    "another model": (
        _config(lambda told: told.update(model="CTTransformerStreaming")),
        "model: .*'CTTransformerStreaming'; expected that of a CT-Transformer",
    ),
    "heads that do not divide": (
        _config(lambda told: told["encoder_conf"].update(attention_heads=5)),
        "attention_heads is 5, which does not divide the output_size 32",
    ),
    "an odd width": (
        _config(lambda told: told["encoder_conf"].update(input_size=35)),
        "input_size is 35, expected an even number",
    ),
    "a memory beside the words": (
        _config(lambda told: told["encoder_conf"].update(sanm_shfit=6)),
        "sanm_shfit is 6",
    ),
    "widths that differ": (
        _config(lambda told: told["model_conf"].update(att_unit=40)),
        "embed_unit and att_unit are 32 and 40, but the encoder goes from 32 to 32",
    ),
    "a strange mark": (
        _config(lambda told: told["model_conf"].update(punc_list=["<unk>", "_", "~"])),
        r"punc_list has \['~'\]; expected names out of",
    ),
    "another full stop": (
        _config(lambda told: told["model_conf"].update(sentence_end_id=4)),
        "sentence_end_id is 4, which is not '。'",
    ),
    "no YAML": (
        lambda path: (path / "config.yaml").write_text("a: ["),
        r"config\.yaml: is no YAML",
    ),
    "tokens that are no list": (
        lambda path: (path / "tokens.json").write_text('{"a": 1}'),
        "holds no list of words",
    ),
    "tokens that are no JSON": (
        lambda path: (path / "tokens.json").write_text('["a"'),
        "cannot be read",
    ),
    "a word twice": (
        lambda path: (path / "tokens.json").write_text('["a", "a", "<unk>"]'),
        "has a word twice",
    ),
    "no unknown word": (
        lambda path: (path / "tokens.json").write_text('["a", "b"]'),
        "lacks '<unk>'",
    ),
    "a dictionary that is none": (
        lambda path: (path / "jieba_usr_dict").write_bytes(b"\xff\xfe\x00"),
        "is no dictionary of jieba",
    ),
    "no tokens": (
        lambda path: (path / "tokens.json").unlink(),
        r"no file 'tokens\.json' or 'tokens\.txt'",
    ),
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, what: str) -> None:
    change, message = MISFITS[what]
    kind: tiny.Kind = "words" if "dictionary" in what else "characters"
    copy = shutil.copytree(folder(kind), tmp_path / "copy")
    change(copy)
    with pytest.raises(CheckpointError, match=message):
        CTTransformer(checkpoint=str(copy)).load("cpu", "float32")


def test_a_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="is a file; expected the folder"):
        CTTransformer(checkpoint=str(folder("words") / "model.pt")).load("cpu", "float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_missing_is_refused() -> None:
    with pytest.raises(RunError, match="torch finds no CUDA device"):
        CTTransformer(checkpoint=str(folder("words"))).load("cuda", "float32")


def test_the_published_sizes_are_understood() -> None:
    for width, heads, units, blocks in ((256, 8, 1024, 4), (516, 12, 2048, 12)):
        sizes = Sizes(
            input_size=width,
            output_size=width,
            attention_heads=heads,
            linear_units=units,
            num_blocks=blocks,
            input_layer="pe",
        )
        assert sizes.before == 5


def test_tokens_as_text_are_read(tmp_path: Path) -> None:
    copy = shutil.copytree(folder("characters"), tmp_path / "copy")
    (copy / "tokens.txt").write_text("\n".join(tiny.tokens("characters")), encoding="utf-8")
    (copy / "tokens.json").unlink()
    metas = tiny.configuration("characters")
    metas["file_path_metas"]["tokenizer_conf"]["token_list"] = "tokens.txt"
    (copy / "configuration.json").write_text(json.dumps(metas))
    function = CTTransformer(checkpoint=str(copy)).load("cpu", "float32")
    assert isinstance(function, Punctuator)
    assert run(function, [chinese(60)])[0].value.content == punctuated(chinese(60), "characters")


class _Suite(PreprocessorTests):
    long = 0.1

    @property
    def samples(self) -> Sequence[dict[str, Text]]:
        return [{"text": Text(mixed(length, seed=length))} for length in (40, 7, 130, 23)]


class TestCharacters(_Suite):
    component = CTTransformer(checkpoint=str(folder("characters")))


class TestWords(_Suite):
    component = CTTransformer(checkpoint=str(folder("words")))
