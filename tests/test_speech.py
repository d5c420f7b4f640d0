"""The paper's speech front end on recordings of every sort, with tiny random checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_ct_transformer
import tiny_mossformer2
import tiny_paraformer
from click.testing import CliRunner
from scipy.io import wavfile

from mercore.cli import main
from mercore.media import FloatArray, Text, Waveform, Words, as_int16
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve
from mercore.store import Collection, Store
from mercore.streams import unpack

ROOT = Path(__file__).parents[1]
REGISTRY = """\
classes: [sad, happy]
streams:
  noisy_text: {{uses: paraformer, inputs: {{audio: audio}}, with: {{checkpoint: {paraformer}}}}}
  denoised:
    uses: mossformer2
    inputs: {{audio: audio, text: noisy_text}}
    with:
      checkpoint: {mossformer2}
      asr: {{uses: paraformer, with: {{checkpoint: {paraformer}}}}}
  raw_text: {{uses: paraformer, inputs: {{audio: denoised}}, with: {{checkpoint: {paraformer}}}}}
  transcript:
    uses: ct_transformer
    inputs: {{text: raw_text}}
    with: {{checkpoint: {punctuation}}}
features:
  words: {{uses: letters, inputs: {{text: transcript}}}}
"""


def voice(seconds: float, rate: int) -> FloatArray:
    """Return a buzz with syllables, ``(samples,)``."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 2 * np.pi * 140 * time
    buzz = sum(np.sin(k * pitch) / k for k in range(1, 12))
    sound = 0.2 * buzz * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))
    return (sound + 0.01 * np.random.default_rng(0).normal(size=len(time))).astype(np.float32)


def write_recordings(folder: Path) -> None:
    """Write what should work, and what cannot."""
    plain = voice(1.2, 16_000)
    for rate in (8_000, 16_000, 44_100, 48_000):
        wavfile.write(folder / f"rate_{rate}.wav", rate, as_int16(voice(1.2, rate)))
    wavfile.write(folder / "stereo.wav", 16_000, as_int16(np.stack([plain, 0.5 * plain], axis=1)))
    wavfile.write(folder / "clipped.wav", 16_000, as_int16(20 * plain))
    wavfile.write(folder / "short.wav", 16_000, as_int16(plain[:800]))  # 50 ms
    wavfile.write(folder / "float.wav", 16_000, plain)
    wavfile.write(folder / "unsigned.wav", 16_000, (127 + 120 * plain).astype(np.uint8))
    wavfile.write(folder / "faint.wav", 16_000, as_int16(1e-3 * plain))
    wavfile.write(folder / "silent.wav", 16_000, as_int16(0 * plain))
    wavfile.write(folder / "nan.wav", 16_000, np.where(plain > 0.2, np.nan, plain))
    (folder / "text.wav").write_text("no audio at all\n")


REFUSED = {"silent": "silent", "nan": "finite", "text": ""}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of all streams of the recordings."""
    folder = tmp_path_factory.mktemp("speech")
    checkpoints = {
        "paraformer": tiny_paraformer.write(folder / "paraformer"),
        "mossformer2": tiny_mossformer2.write(folder / "mossformer2"),
        "punctuation": tiny_ct_transformer.write(folder / "punctuation"),
    }
    (folder / "registry.yaml").write_text(REGISTRY.format(**checkpoints))
    write_recordings(folder)
    rows = [f"{path.stem},unlabelled,,{path.name}" for path in sorted(folder.glob("*.wav"))]
    (folder / "manifest.csv").write_text("\n".join(["id,split,label,audio", *rows, ""]))
    places = {name: str(folder / name) for name in ("registry.yaml", "manifest.csv", "mer.zarr")}
    options = ("--registry", "--manifest", "--store")
    arguments = [part for pair in zip(options, places.values(), strict=True) for part in pair]
    done = CliRunner().invoke(main, ["extract", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 3, done.output
    rows = json.loads(done.stdout)
    assert {row["name"] for row in rows} >= {"noisy_text", "denoised", "raw_text", "transcript"}
    return Store(folder / "mer.zarr")


def stream(store: Store, name: str) -> Collection:
    (found,) = (part for part in store.collections("streams") if part.name == name)
    return found


def test_what_is_no_speech_fails_alone_and_says_why(store: Store) -> None:
    entries = stream(store, "denoised").entries()
    failed = {id: entry.failed for id, entry in entries.items() if entry.failed}
    assert set(failed) == set(REFUSED)
    for id, reason in REFUSED.items():
        assert reason in (failed[id] or "")


def test_every_other_recording_gets_audio_a_decision_and_words(store: Store) -> None:
    denoised, transcript = stream(store, "denoised"), stream(store, "transcript")
    entries = denoised.entries()
    sound = [id for id, entry in entries.items() if not entry.failed]
    assert len(sound) == 10
    for id in sound:
        record = entries[id].record
        assert record["decision"] in ("original", "first", "second")
        assert isinstance(record["texts"], dict)
        assert set(record["texts"]) == {"noisy", "first", "second"}
        length = 800 if id == "short" else 19_200
        assert abs(len(denoised.sequence(id)) - length) <= 2
        text = unpack(transcript.sequence(id), {}, Words())
        assert isinstance(text, Text)
        assert set(transcript.entries()[id].record) == {"punctuated", "passed_through"}
    assert any(len(transcript.sequence(id)) for id in sound)


def test_the_rate_and_the_channels_of_a_recording_do_not_decide_its_words(store: Store) -> None:
    stored = stream(store, "noisy_text")
    heard = {id: bytes(stored.sequence(id)) for id in ("rate_16000", "float")}
    assert heard["rate_16000"] == heard["float"]


@pytest.mark.parametrize("asr", ["whisper_asr", "paraformer"])
def test_recognisers_take_each_others_place(tmp_path: Path, asr: str) -> None:
    text = (ROOT / "registry.yaml").read_text(encoding="utf-8")
    checkpoint = tiny_paraformer.write(tmp_path / "paraformer")
    options = f"beam: 1, checkpoint: {checkpoint}" if asr == "paraformer" else "beam: 1"
    text = text.replace("whisper_asr", asr).replace("beam: 1", options)
    (tmp_path / "registry.yaml").write_text(text, encoding="utf-8")
    nodes = resolve(Registry.read(tmp_path / "registry.yaml"), Plugins()).nodes
    assert {nodes[name].component.name for name in ("noisy_text", "transcript")} == {asr}
    function = nodes["transcript"].component.load("cpu", "float32")
    (output,) = function([{"audio": Waveform(voice(1.0, 16_000), 16_000)}])
    record = getattr(output, "record", {})
    assert 0 <= record["confidence"] <= 1
