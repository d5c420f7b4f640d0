"""`transformers_audio` beside the library's own networks, one clip at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
import transformers

from mercore.errors import InputError, RegistryError
from mercore.media import Audio, FloatArray, Waveform
from mercore.testing import EncoderTests
from mercore_transformers import TransformersAudio
from mercore_transformers._audio import AudioEncoder

hf: Any = transformers  # it is typed in part only

FAMILIES = sorted(tiny.AUDIO)
TOWERS = {"whisper": "encoder", "clap": "audio_model"}


def sound(samples: int, seed: int = 0, rate: int = tiny.RATE) -> Waveform:
    numbers = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 110 * (seed + 1) * np.arange(samples) / rate)
    made = 0.05 * numbers.standard_normal(samples) + 0.2 * tone + 0.02
    return Waveform(made.astype(np.float32), rate)


def encoder(family: str, **options: Any) -> AudioEncoder:
    rate = {"rate": 48_000} if family == "clap" else {}
    component = TransformersAudio(
        checkpoint=str(tiny.folder("audio", family)), **{**rate, **options}
    )
    loaded = component.load("cpu", "float32")
    assert isinstance(loaded, AudioEncoder)
    return loaded


def encode(family: str, *clips: Waveform, **options: Any) -> list[FloatArray]:
    return encoder(family, **options)([{"audio": clip} for clip in clips])


@torch.inference_mode()
def output(family: str, clip: Waveform) -> Any:
    """Return what the library's own network gives for the clip alone."""
    folder = tiny.folder("audio", family)
    extractor: Any = hf.AutoFeatureExtractor.from_pretrained(folder)
    model: Any = hf.AutoModel.from_pretrained(folder).eval()
    if family in TOWERS:
        model = model.get_submodule(TOWERS[family])
    given = extractor(clip.samples, sampling_rate=clip.rate, return_tensors="pt")
    if family == "wavlm large":
        del given["attention_mask"]  # of ones alone; torch warns of how WavLM uses it
    return model(**given, output_hidden_states=True)


def matrix(state: torch.Tensor) -> FloatArray:
    """Return one sample's rows; of a feature map a row a place."""
    rows = state[0].flatten(1).T if state.dim() == 4 else state[0]
    return np.asarray(rows.numpy(), np.float32)


def apart(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest difference as a share of the largest value."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def clip_of(family: str, samples: int = 9_011, seed: int = 0) -> Waveform:
    rate = 48_000 if family == "clap" else tiny.RATE
    return sound(samples, seed, rate)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_is_the_librarys_output(family: str) -> None:
    clip = clip_of(family)
    expected = matrix(output(family, clip).last_hidden_state)
    (found,) = encode(family, clip)
    assert apart(found, expected[: len(found)]) <= 1e-5
    cut = {"whisper": 29}  # 9,011 samples are 57 frames of 10 ms, and half as many rows
    assert len(found) == cut.get(family, len(expected))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in {"clap", "sew"}])
def test_layers_are_the_librarys_hidden_states(family: str) -> None:
    clip = clip_of(family)
    given = output(family, clip)
    states = [matrix(state) for state in (*given.hidden_states[:-1], given.last_hidden_state)]
    cases: list[tuple[tuple[int, ...], str, Any]] = [
        ((0,), "mean", states[0]),
        ((1, -1), "mean", (states[1] + states[-1]) / 2),
        ((-2, -1), "sum", states[-2] + states[-1]),
        ((-1, 0), "concat", np.concatenate([states[0], states[-1]], 1)),
    ]
    for layers, reduce, expected in cases:
        (found,) = encode(family, clip, layers=layers, reduce=reduce)
        assert apart(found, expected[: len(found)]) <= 1e-5


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_clips_that_run_together_give_what_each_gives_alone(family: str) -> None:
    clips = [clip_of(family, length, seed) for seed, length in enumerate((9_011, 5_000, 9_011))]
    loaded = encoder(family)
    alone = [loaded([{"audio": clip}])[0] for clip in clips]
    loaded.budget = 10**9  # as on a GPU
    for own, found in zip(alone, loaded([{"audio": clip} for clip in clips]), strict=True):
        assert apart(found, own) <= 1e-5


@pytest.mark.parametrize("family", ["ast", "clap"])
def test_the_pooler_is_the_librarys(family: str) -> None:
    clip = clip_of(family)
    (found,) = encode(family, clip, pool="pooler")
    assert apart(found, output(family, clip).pooler_output.numpy()) <= 1e-5


def test_a_network_without_a_pooler_says_so() -> None:
    with pytest.raises(RegistryError, match="'wavlm' has none; use mean or frames"):
        encode("wavlm", clip_of("wavlm"), pool="pooler")


def test_the_mean_is_one_row() -> None:
    clip = clip_of("wavlm")
    (frames,), (mean,) = encode("wavlm", clip), encode("wavlm", clip, pool="mean")
    assert apart(mean, frames.mean(0, keepdims=True)) <= 1e-6


@pytest.mark.parametrize("family", ["whisper", "clap", "ast"])
def test_audio_longer_than_the_network_reads_is_encoded_in_equal_pieces(family: str) -> None:
    whole = clip_of(family, 2 * 9_011 if family == "ast" else 200_000)
    most = encoder(family)._most
    assert most is not None
    pieces = np.array_split(whole.samples, -(-len(whole.samples) // most))
    assert len(pieces) > 1
    alone = [encode(family, Waveform(piece, whole.rate))[0] for piece in pieces]
    (found,) = encode(family, whole)
    assert apart(found, np.concatenate(alone)) <= 1e-5


def test_chunk_cuts_what_is_longer() -> None:
    clip = clip_of("hubert", 40_000)
    halves = [Waveform(part, tiny.RATE) for part in np.split(clip.samples, 2)]
    alone = [encode("hubert", half)[0] for half in halves]
    (found,) = encode("hubert", clip, chunk=1.5)
    assert apart(found, np.concatenate(alone)) <= 1e-5


def test_another_rate_is_refused_with_the_one_to_write() -> None:
    with pytest.raises(RegistryError, match="reads audio of 48000 Hz; write `rate: 48000`"):
        encode("clap", clip_of("clap"), rate=16_000)


def test_the_rate_is_that_of_the_audio_it_asks_for() -> None:
    component = TransformersAudio(checkpoint="laion/clap-htsat-unfused", rate=48_000)
    assert component.needs() == {"audio": Audio(rate=48_000)}


def test_layers_that_the_network_does_not_have_are_refused() -> None:
    with pytest.raises(RegistryError, match="has the hidden states 0 to 3"):
        encode("wavlm", clip_of("wavlm"), layers=(7,))


def test_hidden_states_of_several_lengths_are_not_combined() -> None:
    with pytest.raises(RegistryError, match="cannot be combined"):
        encode("sew", clip_of("sew"), layers=(1, -1))


def test_audio_below_one_frame_is_refused() -> None:
    with pytest.raises(InputError, match="has 399 samples, expected 400 or more"):
        encode("wav2vec2", clip_of("wav2vec2", 399))
    assert encode("wav2vec2", clip_of("wav2vec2", 400))[0].shape == (1, 32)


def test_biases_that_a_file_has_none_of_are_left_out(tmp_path: Path) -> None:
    """As in TencentGameMate/chinese-hubert-large."""
    model = hf.HubertModel.from_pretrained(tiny.folder("audio", "hubert large"))
    for layer in model.feature_extractor.conv_layers:
        layer.conv.bias.data.zero_()
    weights = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "conv.bias" not in name or "conv_layers" not in name
    }
    model.save_pretrained(tmp_path, state_dict=weights)
    hf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    clip = clip_of("hubert large")
    found = TransformersAudio(checkpoint=str(tmp_path)).load("cpu", "float32")([{"audio": clip}])[0]
    with torch.inference_mode():
        given = hf.Wav2Vec2FeatureExtractor(do_normalize=True)(
            clip.samples, sampling_rate=clip.rate, return_tensors="pt"
        )
        expected = model.eval()(**given).last_hidden_state[0].numpy()
    assert isinstance(found, np.ndarray)
    assert apart(found, expected) <= 1e-5


class TestWavLM(EncoderTests):
    component = TransformersAudio(checkpoint=str(tiny.folder("audio", "wavlm large")))


class TestWhisper(EncoderTests):
    component = TransformersAudio(
        checkpoint=str(tiny.folder("audio", "whisper")), layers=(-2, -1), pool="mean"
    )
    long = 0.2
