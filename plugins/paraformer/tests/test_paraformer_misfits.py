"""What `paraformer` refuses: weights, files and hotwords that do not fit, each with its reason."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_paraformer as tiny
import torch
from paraformer_reference import heard, sound, text_of

from mercore.components import Transform
from mercore.errors import CheckpointError, RegistryError
from mercore_paraformer import Paraformer
from mercore_paraformer._funasr import undisturbed

torch.set_num_threads(1)

WEIGHTS = tiny.Weights().found
AUDIO = sound(1.3)
Changes = Mapping[str, torch.Tensor | None]

MISFITS: list[tuple[Changes, str]] = [
    ({"encoder.after_norm.bias": None}, r"missing: encoder\.after_norm\.bias"),
    ({"predictor.cif_output.weight": None}, r"missing: predictor\.cif_output\.weight"),
    ({"decoder.output_layer.bias": None}, r"missing: decoder\.output_layer\.bias"),
    ({"decoder.decoders.2.norm1.bias": torch.ones(16)}, r"not expected: decoder\.decoders\.2"),
    ({"ctc.ctc_lo.weight": torch.ones(2, 2)}, r"not expected: ctc\.ctc_lo\.weight"),
    (
        {"decoder.output_layer.weight": torch.ones(50, 16)},
        r"decoder\.output_layer\.weight gives \(50, 16\), expected \(49, 16\)",
    ),
]
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model": "SenseVoiceSmall"}, "model is 'SenseVoiceSmall', expected 'Paraformer' or"),
    ({"model": "ContextualParaformer"}, "model is 'ContextualParaformer', expected"),
    ({"tokenizer": "SentencepiecesTokenizer"}, "tokenizer is 'SentencepiecesTokenizer', expected"),
    ({"frontend": "WhisperFrontend"}, "frontend is 'WhisperFrontend', expected 'WavFrontend'"),
    ({"frontend_conf": {"fs": 8000}}, "frontend_conf.fs is 8000, expected 16000: .* at 16000 Hz"),
    ({"frontend_conf": {"window": "povey"}}, "frontend_conf.window is 'povey', expected 'hamming'"),
    ({"frontend_conf": {"n_mels": 40, "lfr_m": 7}}, "560 shifts and 560 scales, expected 280"),
    ({"encoder": "NoSuchEncoder"}, "FunASR cannot build this network: "),
]


def load(folder: Path, **options: Any) -> Transform:
    return Paraformer(checkpoint=str(folder), **options).load("cpu", "float32")


@pytest.mark.parametrize(("changes", "message"), MISFITS)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, changes: Changes, message: str
) -> None:
    own: dict[str, Any] = {**WEIGHTS, **changes}
    kept = {name: tensor for name, tensor in own.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        load(tiny.write(tmp_path, weights=kept))


@pytest.mark.parametrize(("changes", "message"), CONFIGS)
def test_other_networks_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(tiny.write(tmp_path, **changes))


@pytest.mark.parametrize(
    "nested",
    [
        lambda weights: {"state_dict": weights},
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {"model_state_dict": weights},
        lambda weights: {"state_dict": {f"module.{name}": own for name, own in weights.items()}},
    ],
)
def test_weights_are_found_where_training_puts_them(
    tmp_path: Path, nested: Callable[[tiny.Tensors], dict[str, Any]]
) -> None:
    plain = load(tiny.write(tmp_path / "plain"))
    inside = load(tiny.write(tmp_path / "inside", weights=nested(WEIGHTS)))
    assert inside([heard(AUDIO)]) == plain([heard(AUDIO)])


@pytest.mark.parametrize("configuration", [True, False])
def test_a_folder_is_read_without_a_network(
    tmp_path: Path, configuration: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError(f"connects to {given}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)  # the name is an alias of a hub's, in FunASR
    tiny.write(tmp_path / "paraformer", configuration=configuration)
    assert text_of(load(Path("paraformer"))([heard(AUDIO)])[0])


def test_files_are_found_under_the_names_of_configuration_json(tmp_path: Path) -> None:
    plain = load(tiny.write(tmp_path / "plain"))
    folder = tiny.write(tmp_path / "renamed")
    for name in ("am.mvn", "tokens.json"):
        (folder / f"of_{name}").write_bytes((folder / name).read_bytes())
    (folder / "am.mvn").write_text("<Nnet>")
    (folder / "tokens.json").write_text("[]")
    file = folder / "configuration.json"
    told = json.loads(file.read_text())
    told["file_path_metas"]["frontend_conf"]["cmvn_file"] = "of_am.mvn"
    told["file_path_metas"]["tokenizer_conf"]["token_list"] = "of_tokens.json"
    file.write_text(json.dumps(told))
    assert load(folder)([heard(AUDIO)]) == plain([heard(AUDIO)])


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"trust_remote_code": True, "remote_code": str(tmp_path / "evil.py")}
    folder = tiny.write(tmp_path / "folder", **asked)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    load(folder)
    assert not (tmp_path / "ran").exists()


class Opens:
    """Opens a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), "w")


def test_weights_that_are_code_are_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(CheckpointError, match="reading it could run code"):
        load(tiny.write(tmp_path / "folder", weights={**WEIGHTS, "evil": Opens(ran)}))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["config.yaml", "model.pt", "tokens.json", "am.mvn"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    (tiny.write(tmp_path) / name).unlink()
    with pytest.raises(CheckpointError, match=re.escape(f"no file '{name}'")):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "a: [", "config.yaml: is no YAML"),
        ("config.yaml", "just words", "config.yaml: holds no mapping"),
        ("tokens.json", "{", "tokens.json: is no JSON"),
        ("tokens.json", '{"a": 1}', "tokens.json: holds no list of tokens"),
        ("am.mvn", "<Nnet>", "am.mvn: holds no shifts and scales"),
        ("model.pt", "not weights", "model.pt: "),
        ("configuration.json", "[", "configuration.json: is no JSON"),
    ],
)
def test_a_file_that_is_cut_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tiny.write(tmp_path) / name).write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a file, expected a folder with config\.yaml"):
        load(tiny.write(tmp_path) / "model.pt")


def test_a_network_of_other_inputs_is_refused(tmp_path: Path) -> None:
    class Other(torch.nn.Module):
        def forward(self, speech: torch.Tensor) -> torch.Tensor:
            return speech + 1

    tiny.write(tmp_path)
    with undisturbed():
        torch.onnx.export(
            Other(),
            (torch.ones(1, 2, 560),),
            str(tmp_path / "model.onnx"),
            input_names=["speech"],
            output_names=["logits"],
            dynamo=False,
        )
    with pytest.raises(CheckpointError, match="has the inputs speech and the outputs logits, exp"):
        load(tmp_path, backend="onnx")


def test_an_onnx_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    (tiny.write(tmp_path) / "model_quant.onnx").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"model_quant\.onnx: cannot be read"):
        load(tmp_path, backend="onnx", int8=True)


def test_hotwords_need_seaco(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path)
    np.save(folder / "model.pt", np.zeros(1))  # it is refused before weights are read
    with pytest.raises(RegistryError, match=r"is of a Paraformer, which does not listen for them"):
        load(folder, hotwords=("今天",))


def test_hotwords_of_unknown_characters_are_refused_together(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, seaco=True)
    with pytest.raises(RegistryError, match="'龘天' \\('龘'\\), 'ö' \\('ö'\\)"):
        load(folder, hotwords=("今天", "龘天", "ö"))
