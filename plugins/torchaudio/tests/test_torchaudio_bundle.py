"""`torchaudio_bundle` beside torchaudio's own networks, built small in the bundles' layouts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model, wavlm_model
from torchaudio.pipelines import Wav2Vec2Bundle

from mercore.components import Inputs
from mercore.errors import CheckpointError, InputError, RegistryError, RunError
from mercore.fingerprints import describe
from mercore.media import FloatArray, Text, Waveform
from mercore.testing import EncoderTests
from mercore_torchaudio import RATE, STRIDE, TorchaudioBundle
from mercore_torchaudio._bundles import FILES, WIDTHS, BundleName
from mercore_torchaudio._model import FIELD, bundle_of

DEPTH = 3
# A group norm, a layer norm with normalised audio, and both with the attention of WavLM.
KINDS: tuple[BundleName, ...] = (
    "WAV2VEC2_BASE",
    "HUBERT_LARGE",
    "WAV2VEC2_ASR_LARGE_LV60K_10M",
    "WAVLM_BASE_PLUS",
    "WAVLM_LARGE",
)


OWN = {name: bundle_of(name) for name in KINDS}


def small(name: BundleName) -> dict[str, Any]:
    """Return what the bundle is built with, but for fewer blocks and less within them."""
    own = OWN[name].params
    return {
        **own,
        "extractor_conv_layer_config": [
            (16, *rest) for _, *rest in own["extractor_conv_layer_config"]
        ],
        "encoder_num_layers": DEPTH,
        "encoder_ff_interm_features": 48,
        "encoder_pos_conv_kernel": 16,
    }


@pytest.fixture(autouse=True, scope="module")
def _small_bundles() -> Iterator[None]:
    """Let torchaudio build small networks: published ones have 90 to 2,000 million weights."""
    with pytest.MonkeyPatch.context() as patch:
        for name in KINDS:
            patch.setattr(getattr(pipelines, name), "_params", small(name))
        yield


@cache
def published(name: BundleName) -> tuple[Any, Path]:
    """Return what ``get_model`` of torchaudio builds, and a folder with the file that it reads."""
    own, params = OWN[name], small(name)
    torch.manual_seed(0)
    net = (wavlm_model if own.kind == "WavLM" else wav2vec2_model)(**params)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    folder = Path(tempfile.mkdtemp())
    torch.save(old_names(net.state_dict()), folder / FILES[name])
    layout = Wav2Vec2Bundle(FILES[name], params, RATE, own.normalise, own.kind)
    with pytest.MonkeyPatch.context() as patch:  # it is read instead of downloaded
        patch.setenv("TORCH_HOME", str(folder))
        kept = folder / "hub" / "checkpoints" / FILES[name]
        kept.parent.mkdir(parents=True)
        kept.symlink_to(folder / FILES[name])
        return layout.get_model(), folder


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the names of before torch 2, which the published files have."""
    new = "parametrizations.weight.original"
    return {
        name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): tensor
        for name, tensor in state.items()
    }


def encoder_of(name: BundleName, **options: Any) -> TorchaudioBundle:
    return TorchaudioBundle(bundle=name, **{"checkpoint": str(published(name)[1]), **options})


def sound(samples: int, seed: int = 0) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal(samples)
    tone = np.sin(2 * np.pi * 110 * (seed + 1) * np.arange(samples) / RATE)
    return (0.05 * noise + 0.2 * tone + 0.02).astype(np.float32)


AUDIO = sound(8_011)


def encode(encoder: TorchaudioBundle, audio: FloatArray = AUDIO, dtype: str = "float32") -> Any:
    return encoder.load("cpu", dtype)([{"audio": Waveform(audio, RATE)}])[0]


def states(name: BundleName, audio: FloatArray = AUDIO) -> list[FloatArray]:
    """Return what ``extract_features`` gives, with what the first block reads in front."""
    net, _ = published(name)
    inner = net.model if hasattr(net, "model") else net
    seen: list[Tensor] = []
    hook = inner.encoder.transformer.layers[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].clone())
    )
    with torch.inference_mode():
        found, _ = net.extract_features(torch.from_numpy(audio)[None])
    hook.remove()
    return [state[0].numpy() for state in [*seen, *found]]


def apart(found: FloatArray, expected: FloatArray) -> float:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("layer", range(DEPTH + 1))
def test_each_layer_is_that_of_extract_features(name: BundleName, layer: int) -> None:
    found = encode(encoder_of(name, layers=(layer,)))
    assert found.shape == ((len(AUDIO) - FIELD) // STRIDE + 1, WIDTHS[name])
    assert apart(found, states(name)[layer]) <= 1e-6


@pytest.mark.parametrize("name", KINDS)
def test_layers_are_averaged_or_summed(name: BundleName) -> None:
    expected = np.stack(states(name))  # the last four are all there are
    assert apart(encode(encoder_of(name)), expected.mean(0)) <= 1e-6
    last = encode(encoder_of(name, layers=(-1, -2), reduce="sum"))
    assert apart(last, expected[-2:].sum(0)) <= 1e-6


def test_the_states_of_the_layers_differ() -> None:
    first, *others = states("WAVLM_LARGE")
    assert all(np.abs(first - other).max() > 0.01 for other in others)


def test_pooling_gives_the_mean_of_the_frames() -> None:
    frames = encode(encoder_of("HUBERT_LARGE"))
    pooled = encode(encoder_of("HUBERT_LARGE", pool="mean"))
    assert apart(pooled, frames.mean(0, keepdims=True)) <= 1e-6
    assert encoder_of("HUBERT_LARGE").frame_rate == 50
    assert encoder_of("HUBERT_LARGE", pool="mean").frame_rate is None


@pytest.mark.parametrize("name", KINDS)
def test_half_precision_is_near(name: BundleName) -> None:
    exact = encode(encoder_of(name))
    assert 0 < apart(encode(encoder_of(name), dtype="bfloat16"), exact) <= 0.1


# Weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("old", [True, False])
def test_the_names_of_a_file_may_be_old_or_new(tmp_path: Path, suffix: str, old: bool) -> None:
    net, _ = published("WAVLM_BASE_PLUS")
    tensors = old_names(net.state_dict()) if old else net.state_dict()
    file = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(tensors, file)
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    for dtype in ("float32", "bfloat16"):
        found = encode(encoder_of("WAVLM_BASE_PLUS", checkpoint=str(file)), dtype=dtype)
        assert apart(found, encode(encoder_of("WAVLM_BASE_PLUS"), dtype=dtype)) == 0


def test_without_a_checkpoint_the_file_that_torch_keeps_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert torch.hub.get_dir() == str(tmp_path / "hub")
    encoder = encoder_of("WAV2VEC2_BASE", checkpoint=None)
    kept = tmp_path / "hub" / "checkpoints" / FILES["WAV2VEC2_BASE"]
    with pytest.raises(CheckpointError, match=r"fetch https://download\.pytorch\.org/.*ls960\.pth"):
        encode(encoder)
    with pytest.raises(CheckpointError, match=str(kept)):
        encoder.load("cpu", "float32")
    assert encoder.identity() == {"checkpoint": FILES["WAV2VEC2_BASE"]}  # until they are here
    kept.parent.mkdir(parents=True)
    kept.write_bytes((published("WAV2VEC2_BASE")[1] / kept.name).read_bytes())
    assert apart(encode(encoder), encode(encoder_of("WAV2VEC2_BASE"))) == 0
    assert encoder.identity() == encoder_of("WAV2VEC2_BASE").identity()


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    encoder = encoder_of("HUBERT_LARGE", checkpoint=str(tmp_path))
    file = published("HUBERT_LARGE")[1] / FILES["HUBERT_LARGE"]
    (tmp_path / file.name).write_bytes(file.read_bytes())
    before = describe(encoder)
    torch.save({"a": torch.zeros(1)}, tmp_path / FILES["WAVLM_BASE"])
    assert describe(encoder) == before
    encode(encoder)
    torch.save({"a": torch.zeros(1)}, tmp_path / file.name)
    assert describe(encoder) != before


def test_blocks_behind_the_last_layer_and_heads_are_not_loaded() -> None:
    model: Any = encoder_of("WAV2VEC2_ASR_LARGE_LV60K_10M", layers=(2,)).load("cpu", "float32")
    assert len(model._net.encoder.transformer.layers) == 2
    assert model._net.aux is None


@pytest.mark.parametrize(
    ("name", "checkpoint", "says"),
    [
        ("WAV2VEC2_BASE", "WAVLM_BASE_PLUS", "not expected: .*gru_rel_pos"),
        ("WAVLM_BASE_PLUS", "WAV2VEC2_BASE", "missing: .*gru_rel_pos"),
        ("HUBERT_LARGE", "WAV2VEC2_BASE", "missing: .*layer_norm"),
    ],
)
def test_weights_of_another_bundle_are_refused(
    name: BundleName, checkpoint: BundleName, says: str
) -> None:
    file = published(checkpoint)[1] / FILES[checkpoint]
    with pytest.raises(CheckpointError, match=says):
        encode(encoder_of(name, checkpoint=str(file)))


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    says = r"no file 'wavlm_large\.safetensors' or 'wavlm_large\.pth'"
    with pytest.raises(CheckpointError, match=says):
        encode(encoder_of("WAVLM_LARGE", checkpoint=str(tmp_path)))
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        encode(encoder_of("WAVLM_LARGE", checkpoint=str(tmp_path / "none.pth")))


# Bundles


def test_every_bundle_is_offered_with_its_file_and_width() -> None:
    own = {
        name: bundle
        for name, bundle in vars(pipelines).items()
        if isinstance(bundle, Wav2Vec2Bundle)
    }
    assert set(get_args(BundleName)) == set(own)
    for name, bundle in own.items():
        assert FILES[name] == bundle._path
        assert WIDTHS[name] == bundle._params["encoder_embed_dim"]
        assert bundle.sample_rate == RATE


def test_every_bundle_has_the_same_frames() -> None:
    for name in get_args(BundleName):
        field, stride = 1, 1
        for _, kernel, step in bundle_of(name).params["extractor_conv_layer_config"]:
            field, stride = field + (kernel - 1) * stride, stride * step
        assert (field, stride) == (FIELD, STRIDE)


# Wrong use


def test_short_audio_and_other_media_are_refused() -> None:
    encoder = encoder_of("WAV2VEC2_BASE")
    assert len(encode(encoder, sound(FIELD))) == 1
    with pytest.raises(InputError, match=r"has 399 samples, expected 400 or more \(25 ms\)"):
        encode(encoder, sound(FIELD - 1))
    with pytest.raises(InputError, match="holds Text, expected audio"):
        encoder.load("cpu", "float32")([{"audio": Text("a")}])


def test_layers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(RegistryError, match="hidden states 0 to 3"):
        encode(encoder_of("WAV2VEC2_BASE", layers=(4,)))


def test_a_bundle_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="'WAVLM_BASE', 'WAVLM_BASE_PLUS'"):
        TorchaudioBundle(bundle="WAVLM_HUGE")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="torch finds no CUDA device"):
        encoder_of("WAV2VEC2_BASE").load("cuda", "float32")


def test_an_empty_batch_gives_nothing() -> None:
    batch: list[Inputs] = []
    assert list(encoder_of("WAV2VEC2_BASE").load("cpu", "float32")(batch)) == []


# Conformance


class TestWavLM(EncoderTests):
    component = encoder_of("WAVLM_BASE_PLUS")
    long = 0.1


class TestHubert(EncoderTests):
    component = encoder_of("HUBERT_LARGE", layers=(-1, 0), reduce="sum", pool="mean")
    long = 0.1
