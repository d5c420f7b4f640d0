"""`hubert` beside torchaudio's network, in every published layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny_hubert as tiny
import torch
from hubert_reference import RATE, Reference, apart, encode, sound, zero_mean
from pydantic import ValidationError
from transformers import HubertModel

from mercore.errors import RegistryError, RunError
from mercore.fingerprints import describe
from mercore.media import FloatArray
from mercore.testing import EncoderTests
from mercore_hubert import Hubert
from mercore_hubert._audio import Convolutions
from mercore_hubert._model import HubertEncoder
from mercore_hubert._network import AT_ONCE, Network, network, together
from mercore_hubert._published import published
from mercore_hubert._windows import exportable, windowed

KINDS = get_args(tiny.Kind)
AUDIO = sound(20_011)


@cache
def folder(kind: tiny.Kind) -> Path:
    return tiny.write(Path(tempfile.mkdtemp()), kind)


def net_of(checkpoint: Path, dtype: str = "float32", **options: Any) -> Network:
    """Return the network before a CPU's convolutions take the place of its own."""
    found = published(str(checkpoint))
    asked = Hubert(checkpoint=str(checkpoint), **options)
    return network(found, asked, device="cpu", dtype=getattr(torch, dtype))


def encoder_of(checkpoint: Path) -> HubertEncoder:
    encoder = Hubert(checkpoint=str(checkpoint)).load("cpu", "float32")
    assert isinstance(encoder, HubertEncoder)
    return encoder


def read_as(kind: tiny.Kind, audio: FloatArray) -> torch.Tensor:
    """Return what the network of that kind reads."""
    return zero_mean(audio) if kind == "large" else torch.from_numpy(audio)


def exact(kind: tiny.Kind, audio: FloatArray, **options: Any) -> FloatArray:
    reference = Reference(kind, tiny.tensors(kind))
    return reference.features(read_as(kind, audio), **options)


# torchaudio's network shares no code with transformers', nor with the plugin.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduce": "sum"},
        {"layers": (0,)},
        {"layers": (-1,)},
        {"layers": (tiny.DEPTH,)},
        {"layers": (3, 1, 0), "reduce": "sum"},
        {"layers": (-2,)},
    ],
)
def test_it_gives_what_torchaudio_gives(kind: tiny.Kind, options: dict[str, Any]) -> None:
    found = encode(folder(kind), AUDIO, **options)
    assert found.shape == ((len(AUDIO) - 400) // 320 + 1, tiny.WIDTH)
    summed = len(options.get("layers", range(4))) if options.get("reduce") == "sum" else 1
    assert apart(found, exact(kind, AUDIO, **options)) <= 1e-5 * summed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 32_000])
def test_any_length_gives_its_frames(kind: tiny.Kind, samples: int) -> None:
    audio = sound(samples, 1)
    found = encode(folder(kind), audio)
    assert len(found) == (samples - 400) // 320 + 1
    assert apart(found, exact(kind, audio)) <= 1e-5


def test_pooling_gives_the_mean_of_the_frames() -> None:
    frames = encode(folder("large"), AUDIO)
    pooled = encode(folder("large"), AUDIO, pool="mean")
    assert pooled.shape == (1, tiny.WIDTH)
    assert apart(pooled, frames.mean(0, keepdims=True)) <= 1e-6


def test_biases_of_the_convolutions_are_read_where_the_file_has_them(tmp_path: Path) -> None:
    weights = tiny.tensors("large", biased=True)
    checkpoint = tiny.write_safetensors(tmp_path, "large", weights)
    expected = Reference("large", weights).features(zero_mean(AUDIO))
    assert apart(encode(checkpoint, AUDIO), expected) <= 1e-5
    assert apart(expected, exact("large", AUDIO)) > 1e-2


Writer = Callable[[Path, tiny.Kind, tiny.Tensors], Path]


def _bin(path: Path, kind: tiny.Kind, found: tiny.Tensors) -> Path:
    tiny.write_config(path, kind)
    torch.save(found, path / "pytorch_model.bin")
    return path


def _tuned(path: Path, kind: tiny.Kind, found: tiny.Tensors) -> Path:
    return tiny.write_safetensors(path, kind, tiny.tuned(found), architectures=["HubertForCTC"])


def _fairseq_tuned(path: Path, kind: tiny.Kind, found: tiny.Tensors) -> Path:
    names = tiny.fairseq(found, kind)
    del names["final_proj.weight"], names["final_proj.bias"], names["label_embs_concat"]
    prefixed = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in names.items()}
    head = {"w2v_encoder.proj.weight": torch.ones(5, 8), "w2v_encoder.proj.bias": torch.ones(5)}
    return tiny.write_fairseq(path / "tuned.pt", prefixed | head)


LAYOUTS: dict[str, Writer] = {
    "bin": _bin,
    "bin with the names of torch 2": lambda p, k, t: _bin(p, k, tiny.parametrized(t)),
    "safetensors": tiny.write_safetensors,
    "safetensors with the names of torch 2": lambda p, k, t: tiny.write_safetensors(
        p, k, tiny.parametrized(t)
    ),
    "fine-tuned": _tuned,
    "fine-tuned with the names of torch 2": lambda p, k, t: _tuned(p, k, tiny.parametrized(t)),
    "sharded safetensors": lambda p, k, t: tiny.write_shards(p, k, t, ".safetensors"),
    "sharded bin": lambda p, k, t: tiny.write_shards(p, k, t, ".bin"),
    "the file alone": lambda p, k, t: _bin(p, k, t) / "pytorch_model.bin",
    "safetensors file": lambda p, k, t: tiny.write_safetensors(p, k, t) / "model.safetensors",
    "fairseq": lambda p, k, t: tiny.write_fairseq(p / "hubert.pt", tiny.fairseq(t, k)),
    "fairseq fine-tuned": _fairseq_tuned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same(kind: tiny.Kind, layout: str, tmp_path: Path) -> None:
    checkpoint = LAYOUTS[layout](tmp_path, kind, tiny.tensors(kind))
    assert apart(encode(checkpoint, AUDIO), encode(folder(kind), AUDIO)) == 0


def test_fairseq_beside_the_layout_of_transformers_is_left_alone(tmp_path: Path) -> None:
    """As in TencentGameMate's folders, which hold both."""
    shutil.copytree(folder("large"), tmp_path, dirs_exist_ok=True)
    other = tiny.fairseq(tiny.tensors("large", seed=7), "large")
    tiny.write_fairseq(tmp_path / "chinese-hubert-large-fairseq-ckpt.pt", other)
    assert apart(encode(tmp_path, AUDIO), encode(folder("large"), AUDIO)) == 0


def test_biases_of_fairseqs_convolutions_are_read(tmp_path: Path) -> None:
    weights = tiny.tensors("base", biased=True)
    file = tiny.write_fairseq(tmp_path / "biased.pt", tiny.fairseq(weights, "base"))
    expected = Reference("base", weights).features(torch.from_numpy(AUDIO))
    assert apart(encode(file, AUDIO), expected) <= 1e-5


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16)])
def test_fairseqs_heads_are_those_that_were_published(
    tmp_path: Path, width: int, heads: int
) -> None:
    names = tiny.fairseq(tiny.tensors("large"), "large") | {
        "post_extract_proj.weight": torch.zeros(width, tiny.CHANNELS),
        "encoder.pos_conv.0.weight_v": torch.zeros(width, width // 16, 128),
    }
    config = published(str(tiny.write_fairseq(tmp_path / "wide.pt", names))).config
    assert (config.hidden_size, config.num_attention_heads) == (width, heads)
    assert config.num_conv_pos_embedding_groups == 16
    assert config.num_conv_pos_embeddings == 128


def test_a_batch_norm_in_place_of_the_weight_norm(tmp_path: Path) -> None:
    """As in mHuBERT. The arithmetic is transformers' in both, so this compares what is loaded."""
    weights = tiny.tensors("base")
    conv = "encoder.pos_conv_embed.conv."
    del weights[f"{conv}weight_g"]
    weights[f"{conv}weight"] = weights.pop(f"{conv}weight_v")
    for number, name in enumerate(("weight", "bias", "running_mean", "running_var")):
        weights[f"encoder.pos_conv_embed.batch_norm.{name}"] = torch.rand(
            tiny.WIDTH, generator=torch.Generator().manual_seed(number)
        )
    weights["encoder.pos_conv_embed.batch_norm.num_batches_tracked"] = torch.tensor(3)
    folder = tiny.write_safetensors(tmp_path, "base", weights, conv_pos_batch_norm=True)
    net = HubertModel.from_pretrained(folder)
    with torch.inference_mode():
        expected = net(torch.from_numpy(AUDIO[None])).last_hidden_state[0].numpy()
    assert apart(encode(folder, AUDIO, layers=(-1,)), expected) <= 1e-5
    encode(folder, AUDIO, "bfloat16")


@pytest.mark.parametrize(
    ("kind", "told", "normalised"),
    [
        ("large", '{"do_normalize": false}', False),
        ("large", "{}", True),
        ("large", None, True),
        ("base", '{"do_normalize": true, "sampling_rate": 16000}', True),
        ("base", "{}", False),
        ("base", None, False),
    ],
)
def test_audio_is_normalised_where_the_checkpoint_says_so(
    tmp_path: Path, kind: tiny.Kind, told: str | None, normalised: bool
) -> None:
    tiny.write(tmp_path, kind)
    file = tmp_path / "preprocessor_config.json"
    file.unlink()
    if told is not None:
        file.write_text(told)
    read = zero_mean(AUDIO) if normalised else torch.from_numpy(AUDIO)
    expected = Reference(kind, tiny.tensors(kind)).features(read)
    assert apart(encode(tmp_path, AUDIO), expected) <= 1e-5


def merbench(audio: FloatArray) -> FloatArray:
    """Return the features of MERBench by a plain loop, from a description of them."""
    reference = Reference("large", tiny.tensors("large"))
    whole = zero_mean(audio)
    if len(whole) > 10 * RATE:
        whole = torch.cat([whole, torch.zeros(-len(whole) % (10 * RATE))])
    frames = []
    for start in range(0, len(whole), 10 * RATE):
        states = reference.states(whole[None, start : start + 10 * RATE])
        for rows in zip(*(state[0] for state in states[-4:]), strict=True):
            frames.append((rows[0] + rows[1] + rows[2] + rows[3]).numpy())
    return np.stack(frames)


@pytest.mark.parametrize(
    ("samples", "frames"), [(8_000, 24), (160_000, 499), (160_001, 998), (330_000, 1497)]
)
def test_the_preset_gives_the_features_of_merbench(samples: int, frames: int) -> None:
    audio = sound(samples, 3)
    found = encode(folder("large"), audio, preset="mertools")
    assert len(found) == frames
    expected = merbench(audio)
    assert apart(found, expected) <= 1e-5 * np.abs(expected).max()
    pooled = found.mean(0, np.float64) - expected.mean(0, np.float64)
    assert np.abs(pooled).max() <= 4e-5  # of the sum of four layers


def test_a_mean_has_no_frame_rate() -> None:
    assert Hubert().frame_rate == 50.0
    assert Hubert(pool="mean").frame_rate is None


def test_a_preset_is_what_it_stands_for() -> None:
    preset = Hubert(preset="mertools")
    assert (preset.reduce, preset.chunk, preset.pad_chunks) == ("sum", 10.0, True)
    assert Hubert(preset="mertools", reduce="mean").reduce == "mean"
    assert Hubert(preset="paper") == Hubert()


def test_a_preset_has_the_fingerprint_of_what_it_stands_for() -> None:
    where = str(folder("base"))
    preset, spelt, paper = (
        describe(Hubert(checkpoint=where, **options))
        for options in (
            {"preset": "mertools"},
            {"reduce": "sum", "chunk": 10, "pad_chunks": True},
            {},
        )
    )
    assert preset == spelt
    assert preset != paper


def test_the_identity_of_a_file_is_also_that_of_what_lies_beside_it(tmp_path: Path) -> None:
    file = tiny.write(tmp_path) / "pytorch_model.bin"
    before = Hubert(checkpoint=str(file)).identity()
    assert before == Hubert(checkpoint=str(folder("large") / file.name)).identity()
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert Hubert(checkpoint=str(file)).identity() != before


@pytest.mark.parametrize("samples", [47_999, 48_000, 48_080, 48_081, 48_400, 96_000, 100_123])
def test_pieces_give_each_frame_of_the_whole_once(samples: int) -> None:
    convolutions = Convolutions(tiny.KERNELS, tiny.STRIDES)
    assert (convolutions.field, convolutions.stride) == (400, 320)
    audio = np.arange(samples, dtype=np.float32)
    pieces = convolutions.pieces(audio, 16_000)
    starts = [
        int(piece[0]) + 320 * frame
        for piece in pieces
        for frame in range(convolutions.frames(len(piece)))
    ]
    assert starts == [320 * frame for frame in range(convolutions.frames(samples))]
    assert max(map(len, pieces)) <= 16_080


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_encoded_on_their_own(kind: tiny.Kind) -> None:
    audio = sound(40_000, 2)
    found = encode(folder(kind), audio, chunk=1)
    read = read_as(kind, audio)
    reference = Reference(kind, tiny.tensors(kind))
    parts = [reference.features(read[start : start + 16_080]) for start in (0, 16_000, 32_000)]
    assert len(found) == len(encode(folder(kind), audio)) == 124
    assert apart(found, np.concatenate(parts)) <= 1e-5
    short = sound(16_000, 2)
    assert apart(encode(folder(kind), short, chunk=1), encode(folder(kind), short)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_batches_give_what_single_samples_give(kind: tiny.Kind) -> None:
    """The way of a GPU: padded and masked, or where that is not possible of equal length."""
    encoder, net = encoder_of(folder(kind)), net_of(folder(kind))
    pieces = [sound(samples, samples) for samples in (9_000, 400, 16_000, 9_000, 12_345, 720)]
    alone, batched = encoder.one_by_one(net)(pieces), encoder.batched(net)(pieces)
    for one, other in zip(alone, batched, strict=True):
        assert apart(other, one) <= 1e-5 * np.abs(one).max()
    assert len(pieces) == len(batched)


def test_padding_would_change_group_norms() -> None:
    """Why samples of base are not padded; and that the comparison above can fail."""
    encoder, net = encoder_of(folder("base")), net_of(folder("base"))
    pieces = [sound(9_000), sound(16_000)]
    encoder._alike = False
    assert apart(encoder.batched(net)(pieces)[0], encoder.one_by_one(net)(pieces)[0]) > 1e-3


def test_passes_are_of_like_length_and_bounded() -> None:
    pieces = [np.zeros(samples, np.float32) for samples in (5, 7, 5, 5, 7)]
    assert together(pieces, alike=True) == [[0, 2, 3], [1, 4]]
    assert together(pieces, alike=False) == [[0, 2, 3, 1, 4]]
    half = np.broadcast_to(np.float32(0), AT_ONCE // 2)
    more = np.broadcast_to(np.float32(0), AT_ONCE * 2)
    assert together([half, more, half, half], alike=False) == [[0, 2], [3], [1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 5e-2)]
)
def test_windows_give_what_convolutions_give(
    tmp_path: Path, kind: tiny.Kind, biased: bool, dtype: str, most: float
) -> None:
    checkpoint = tiny.write_safetensors(tmp_path, kind, tiny.tensors(kind, biased=biased))
    told = tiny.config(kind, conv_bias=biased)
    (checkpoint / "config.json").write_text(json.dumps(told))
    net = net_of(checkpoint, dtype).model.feature_extractor
    exact = net_of(checkpoint).model.feature_extractor
    own = windowed(net, published(str(checkpoint)).config)
    assert (own is net) == (kind == "base" and dtype == "float32")
    to_export = exportable(net, published(str(checkpoint)).config)
    audio = torch.from_numpy(np.stack([sound(5_000), sound(5_000, 1)]))
    with torch.inference_mode():
        expected = exact(audio)
        for other in (own, to_export):
            found = other(audio.to(getattr(torch, dtype))).float()
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= most * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "most"), [("float16", 5e-3), ("bfloat16", 5e-2)])
def test_half_precision(kind: tiny.Kind, dtype: str, most: float) -> None:
    whole = encode(folder(kind), AUDIO)
    found = encode(folder(kind), AUDIO, dtype)
    assert 0 < apart(found, whole) <= most * np.abs(whole).max()


def test_the_weight_norm_is_multiplied_out_in_float32() -> None:
    conv = net_of(folder("large"), "bfloat16").model.encoder.pos_conv_embed.conv
    weights = tiny.tensors("large")
    size, direction = (weights[f"encoder.pos_conv_embed.conv.weight_{part}"] for part in "gv")
    exact = (size * direction / direction.norm(dim=(0, 1), keepdim=True)).bfloat16()
    assert conv.weight.dtype == torch.bfloat16
    # A difference of rounding in the last place of a few.
    assert (conv.weight == exact).float().mean() > 0.999


@pytest.mark.parametrize(("layers", "blocks"), [((0,), 1), ((2, 1), 2), ((-1,), tiny.DEPTH)])
def test_blocks_that_are_not_needed_are_not_loaded(layers: tuple[int, ...], blocks: int) -> None:
    net = net_of(folder("large"), layers=layers)
    assert len(net.model.encoder.layers) == blocks
    assert not any(parameter.is_meta for parameter in net.parameters())


def test_options_that_do_not_fit() -> None:
    with pytest.raises(RegistryError, match=r"'layers' names \[7\].* hidden states 0 to 6"):
        encode(folder("large"), AUDIO, layers=(7, 1))
    with pytest.raises(ValidationError, match="pad_chunks: true needs chunk"):
        Hubert(pad_chunks=True)
    with pytest.raises(ValidationError, match="pad_chunks: true needs chunk"):
        Hubert(preset="mertools", chunk=None)
    with pytest.raises(ValidationError, match="'paper' or 'mertools'"):
        Hubert.model_validate({"preset": "merbench"})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Hubert(chunk=0.5)
    with pytest.raises(RunError, match="dtype 'int8' is not one"):
        encode(folder("large"), AUDIO, "int8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(RunError, match=f"device '{device}': torch finds no CUDA device"):
        Hubert(checkpoint=str(folder("large"))).load(device, "float32")


class TestLarge(EncoderTests):
    component = Hubert(checkpoint=str(folder("large")), layers=(1, -1), reduce="sum")


class TestBase(EncoderTests):
    component = Hubert(checkpoint=str(folder("base")), layers=(2, 3))


class TestMertools(EncoderTests):
    component = Hubert(checkpoint=str(folder("large")), preset="mertools", chunk=1.0)


class TestChunks(EncoderTests):
    component = Hubert(checkpoint=str(folder("base")), chunk=1.5, layers=(0, 1))
