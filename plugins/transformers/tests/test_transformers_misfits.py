"""What the encoders refuse: other networks, code, weights that do not fit; and in which words."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_transformers as tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from mercore.components import Encoder
from mercore.errors import CheckpointError, RunError
from mercore_transformers import (
    SentenceTransformers,
    TransformersAudio,
    TransformersImage,
    TransformersText,
    TransformersVideo,
)
from mercore_transformers._text import TextEncoder

hf: Any = transformers  # it is typed in part only

KINDS: dict[str, Any] = {
    "audio": TransformersAudio,
    "text": TransformersText,
    "image": TransformersImage,
    "video": TransformersVideo,
}


def load(checkpoint: Path, modality: str = "text", device: str = "cpu") -> Any:
    return KINDS[modality](checkpoint=str(checkpoint)).load(device, "float32")


def copied(folder: Path, modality: str = "text", family: str = "bert") -> Path:
    return Path(shutil.copytree(tiny.folder(modality, family), folder / family))


def configured(folder: Path, **changes: Any) -> Path:
    """Change config.json; None takes a key out."""
    file = folder / "config.json"
    told = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    return folder


def weighed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Change the weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "modeling_mine.py").write_text("raise SystemExit('run')")
    configured(folder, auto_map={"AutoModel": "modeling_mine.Mine"})
    with pytest.raises(CheckpointError, match=r"a 'bert' model that brings code of its own"):
        load(folder)
    configured(folder, auto_map={"AutoModel": "modeling_mine.Mine"}, model_type="mine")
    with pytest.raises(CheckpointError, match=r"model_type is 'mine', which transformers 5"):
        load(folder)


def test_code_of_a_tokenizer_is_never_run(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokens_of_mine.py").write_text("raise SystemExit('run')")
    file = folder / "tokenizer_config.json"
    known = {"auto_map": {"AutoTokenizer": ["tokens_of_mine.Mine", None]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **known}))
    load(folder)  # the library's own class is read in its place


@pytest.mark.parametrize(
    ("model_type", "said"),
    [("bertt", "did you mean 'bert'"), (None, "model_type is None"), (7, "model_type is 7")],
)
def test_a_network_that_the_library_lacks_is_named(
    model_type: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(configured(copied(tmp_path), model_type=model_type))


@pytest.mark.parametrize(
    ("family", "own", "asked"),
    [
        ("bert", "text", "audio"),
        ("wavlm", "audio", "text"),
        ("vit", "image", "video"),
        ("videomae", "video", "image"),
        ("whisper", "audio", "image"),
    ],
)
def test_a_network_of_another_modality_is_sent_to_its_encoder(
    family: str, own: str, asked: str, tmp_path: Path
) -> None:
    folder = copied(tmp_path, own, family)
    with pytest.raises(CheckpointError, match=f"reads '{own}', .*; use transformers_{own}"):
        load(folder, asked)


def test_a_network_that_masks_at_random_is_refused(tmp_path: Path) -> None:
    hf.ViTMAEConfig(**tiny.PICTURE).save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match="use the encoder vit_mae"):
        load(tmp_path, "image")


@pytest.mark.parametrize(
    ("family", "modality", "name"),
    [
        ("bert", "text", "encoder.layer.1.output.dense.weight"),
        ("wavlm", "audio", "encoder.layers.2.final_layer_norm.bias"),
        ("whisper", "audio", "model.encoder.conv1.weight"),
        ("clip", "image", "vision_model.encoder.layers.0.mlp.fc1.weight"),
        ("clap", "audio", "audio_model.audio_encoder.norm.weight"),
        ("vivit", "video", "embeddings.cls_token"),
    ],
)
def test_a_weight_that_is_missing_is_named(
    family: str, modality: str, name: str, tmp_path: Path
) -> None:
    options = {"frames": 4} if family == "vivit" else {"rate": 48_000} if family == "clap" else {}
    folder = weighed(copied(tmp_path, modality, family), lambda weights: weights.pop(name))
    last = name.rpartition(".")[0].rpartition(".")[2]
    with pytest.raises(CheckpointError, match=rf"do not fit(.|\n)*missing: .*{last}"):
        KINDS[modality](checkpoint=str(folder), **options).load("cpu", "float32")


def test_a_block_more_than_the_config_says_is_named(tmp_path: Path) -> None:
    folder = configured(copied(tmp_path), num_hidden_layers=2)
    with pytest.raises(CheckpointError, match=r"not expected: encoder\.layer\.2\."):
        load(folder)


def test_weights_of_another_tower_are_left_alone(tmp_path: Path) -> None:
    folder = weighed(
        copied(tmp_path, "image", "clip"),
        lambda weights: weights.update(extra_head=torch.ones(3)),
    )
    load(folder, "image")


def test_a_weight_of_another_shape_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded as BertModel"):
        load(configured(copied(tmp_path), intermediate_size=40))


def test_a_config_that_does_not_go_together_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be loaded as BertModel"):
        load(configured(copied(tmp_path), num_attention_heads=5))
    with pytest.raises(CheckpointError, match="describes no 'bert' model"):
        load(configured(copied(tmp_path / "b"), hidden_size="wide"))


def test_a_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        load(folder)


def test_a_torch_file_is_read_without_running_code(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    load(folder)
    torch.save({**weights, "args": Namespace()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="could run code"):
        load(folder)


def test_a_file_in_the_place_of_a_folder_says_so() -> None:
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        load(tiny.folder("text", "bert") / "model.safetensors")


def test_a_path_that_is_not_there_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load(tmp_path / "nothing")


def test_a_folder_without_a_processor_says_what_is_missing(tmp_path: Path) -> None:
    folder = copied(tmp_path, "audio", "wavlm")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file 'preprocessor_config\.json'"):
        load(folder, "audio")


def test_a_processor_of_nobody_is_an_error(tmp_path: Path) -> None:
    for family, modality in (("wavlm", "audio"), ("vit", "image")):
        folder = copied(tmp_path, modality, family)
        (folder / "preprocessor_config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"has no .* that can be used"):
            load(folder, modality)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunError, match="finds no CUDA device"):
        load(tiny.folder("text", "bert"), device="cuda")


def test_the_weights_are_of_the_dtype_asked_for() -> None:
    component = TransformersText(checkpoint=str(tiny.folder("text", "bert")))
    loaded = component.load("cpu", "bfloat16")
    assert isinstance(loaded, TextEncoder)
    assert {each.dtype for each in loaded.model.model.parameters()} == {torch.bfloat16}


def test_the_identity_is_that_of_the_files_wherever_they_lie(tmp_path: Path) -> None:
    original, moved = tiny.folder("text", "bert"), copied(tmp_path)

    def identity(folder: Path) -> object:
        return TransformersText(checkpoint=str(folder)).identity()

    assert identity(moved) == identity(original)
    weighed(moved, lambda weights: weights["embeddings.LayerNorm.bias"].add_(1))
    assert identity(moved) != identity(original)


@pytest.mark.parametrize("kind", [*KINDS.values(), SentenceTransformers])
def test_each_says_what_to_cite(kind: type[Encoder]) -> None:
    assert "wolf2020transformers" in kind.citation
    assert ("reimers2019sentence" in kind.citation) == (kind is SentenceTransformers)
