"""`sentence_transformers` beside the library of that name, on folders that it saved itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from mercore.components import Noted
from mercore.errors import CheckpointError, RegistryError
from mercore.media import FloatArray, Text
from mercore.testing import EncoderTests
from mercore_transformers import SentenceTransformers

TEXTS = ("the cat sat !", "you saw a happy cat there , not on the mat ?", "happy " * 40, "cat")
Stages = Callable[[], list[Any]]
RECIPES: dict[str, Stages] = {
    "mean": lambda: [Pooling(32, "mean")],
    "cls, normalised": lambda: [Pooling(32, "cls"), Normalize()],
    "max": lambda: [Pooling(32, "max")],
    "root of the length": lambda: [Pooling(32, "mean_sqrt_len_tokens")],
    "weighted": lambda: [Pooling(32, "weightedmean")],
    "last": lambda: [Pooling(32, "lasttoken")],
    "several": lambda: [Pooling(32, ("cls", "mean", "max"))],
    "dense": lambda: [Pooling(32, "mean"), _dense(), Normalize()],
    "dense without bias": lambda: [Pooling(32, "mean"), _dense(bias=False)],
}


def _dense(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Dense(32, 8, activation_function=torch.nn.Tanh(), **changes)


def saved(folder: Path, stages: Stages, family: str = "bert", **known: Any) -> Any:
    """Save a model as the library does; return it."""
    network = Transformer(str(tiny.folder("text", family)))
    model = SentenceTransformer(modules=[network, *stages()], device="cpu", **known)
    model.save_pretrained(str(folder), create_model_card=False)
    return model


def encode(folder: Path, *texts: str, **options: Any) -> list[Any]:
    component = SentenceTransformers(checkpoint=str(folder), **options)
    return list(component.load("cpu", "float32")([{"text": Text(text)} for text in texts]))


def value(found: Any) -> FloatArray:
    own = found.value if isinstance(found, Noted) else found
    assert own.dtype == np.float32
    assert own.ndim == 2
    assert len(own) == 1
    return own[0]  # type: ignore[no-any-return]


def apart(found: Any, expected: FloatArray) -> float:
    """Return the largest difference as a share of the largest value."""
    own = value(found)
    assert own.shape == expected.shape
    return float(np.abs(own - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_librarys_embedding(name: str, tmp_path: Path) -> None:
    model = saved(tmp_path, RECIPES[name])
    for text, found in zip(TEXTS, encode(tmp_path, *TEXTS), strict=True):
        assert apart(found, model.encode(text)) <= 1e-5


def test_a_decoder_with_its_last_token(tmp_path: Path) -> None:
    """As in E5-Mistral and Qwen3-Embedding."""
    model = saved(tmp_path, lambda: [Pooling(32, "lasttoken"), Normalize()], "qwen3")
    for text, found in zip(TEXTS, encode(tmp_path, *TEXTS), strict=True):
        assert apart(found, model.encode(text)) <= 1e-5


def test_prompts_are_those_of_the_folder(tmp_path: Path) -> None:
    prompts = {"query": "you saw ", "passage": "on the "}
    known: dict[str, Any] = {"prompts": prompts, "default_prompt_name": "passage"}
    model = saved(tmp_path, RECIPES["mean"], **known)
    query = encode(tmp_path, TEXTS[0], prompt="query")[0]
    assert apart(query, model.encode(TEXTS[0], prompt_name="query")) <= 1e-5
    assert apart(encode(tmp_path, TEXTS[0])[0], model.encode(TEXTS[0])) <= 1e-5
    with pytest.raises(RegistryError, match=r"has the prompts .*passage.*did you mean 'query'"):
        encode(tmp_path, TEXTS[0], prompt="querry")


def test_older_folders_are_read_too(tmp_path: Path) -> None:
    model = saved(tmp_path, RECIPES["dense"])
    _write(tmp_path / "1_Pooling/config.json", word_embedding_dimension=32, **OLDER)
    _write(tmp_path / "sentence_bert_config.json", max_seq_length=16, do_lower_case=False)
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert apart(encode(tmp_path, TEXTS[1])[0], model.encode(TEXTS[1])) <= 1e-5


OLDER = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


def _write(file: Path, **content: Any) -> None:
    file.write_text(json.dumps(content))


def test_text_that_is_too_long_is_noted(tmp_path: Path) -> None:
    saved(tmp_path, RECIPES["mean"])
    found = encode(tmp_path, TEXTS[2], max_tokens=12)[0]
    assert found.record == {"tokens": 40, "read": 10}


def test_text_without_a_word_gives_zeros_of_the_same_width(tmp_path: Path) -> None:
    saved(tmp_path, RECIPES["dense"])
    empty, word = encode(tmp_path, "  ", "cat")
    assert np.array_equal(empty, np.zeros_like(value(word)[None]))


def test_modules_of_somebody_else_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, RECIPES["mean"])
    file = tmp_path / "modules.json"
    modules = json.loads(file.read_text())
    modules[1]["type"] = "pooling_of_mine.Pooling"
    file.write_text(json.dumps(modules))
    (tmp_path / "pooling_of_mine.py").write_text("raise SystemExit('run')")
    with pytest.raises(CheckpointError, match=r"kind 'pooling_of_mine\.Pooling', which are not"):
        encode(tmp_path, "cat")


def test_an_activation_that_is_none_of_torch_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, RECIPES["dense"])
    file = tmp_path / "2_Dense/config.json"
    _write(file, **{**json.loads(file.read_text()), "activation_function": "os.abort"})
    with pytest.raises(CheckpointError, match=r"activation_function is 'os\.abort', expected"):
        encode(tmp_path, "cat")


def test_a_pooling_that_leaves_the_prompt_out_is_refused(tmp_path: Path) -> None:
    """As in INSTRUCTOR."""
    saved(tmp_path, lambda: [Pooling(32, "mean", include_prompt=False)])
    with pytest.raises(CheckpointError, match="include_prompt"):
        encode(tmp_path, "cat")


def test_modules_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, RECIPES["mean"])
    file = tmp_path / "modules.json"
    modules = json.loads(file.read_text())
    modules[1]["path"] = "../elsewhere"
    file.write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="names folders outside of its own"):
        encode(tmp_path, "cat")


def test_a_folder_of_transformers_alone_says_what_is_missing() -> None:
    with pytest.raises(CheckpointError, match=r"no file 'modules\.json'"):
        encode(tiny.folder("text", "bert"), "cat")


class TestSentences(EncoderTests):
    @classmethod
    def setup_class(cls) -> None:
        folder = tiny.folder("text", "bert").parent / "sentences"
        saved(folder, RECIPES["dense"])
        cls.component = SentenceTransformers(checkpoint=str(folder))
        super().setup_class()
