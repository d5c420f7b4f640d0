from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from lhotse import Recording
from lhotse.audio.mixer import AudioMixer
from lhotse.augmentation import ReverbWithImpulseResponse
from numpy.typing import NDArray
from pydantic import ValidationError
from tiny_noise import RATE, clip, hiss, response, write_noise, write_rooms, write_voices, write_wav

from mercore.components import Inputs, Noted, Preprocessor
from mercore.decode import read_track
from mercore.errors import InputError, PluginError, RegistryError, RunError
from mercore.fingerprints import describe
from mercore.media import FloatArray, Text, Waveform
from mercore.plugins import Plugins
from mercore.testing import PreprocessorTests
from mercore_noise import AddNoise, Mixture
from mercore_noise._draws import draws_for
from mercore_noise._mix import NoiseAdder, at_ratio
from mercore_noise._rooms import reverberated, simulated
from mercore_noise._sounds import Sounds, rms
from mercore_noise._spans import read_span, seconds_of
from mercore_noise.folders import identity_of, sound_files

Record = Mapping[str, Any]
NOISE = Mixture(noise=1)


@cache
def sounds() -> Path:
    root = Path(tempfile.mkdtemp())
    write_noise(root / "noise")
    write_voices(root / "voices")
    write_rooms(root / "rooms")
    return root


@pytest.fixture
def folder() -> Path:
    return sounds()


def options(folder: Path, **more: Any) -> AddNoise:
    names = ("noise", "voices", "rooms")
    return AddNoise(**{name: str(folder / name) for name in names} | more)


def run(component: Preprocessor, samples: list[Inputs]) -> list[tuple[FloatArray, Record]]:
    found = []
    for output in component.load("cpu", "float32")(samples):
        assert isinstance(output, Noted)
        assert isinstance(output.value, Waveform)
        found.append((output.value.samples, output.record))
    return found


def samples_of(sample: Inputs) -> FloatArray:
    audio = sample["audio"]
    assert isinstance(audio, Waveform)
    return audio.samples


def decibels(clean: FloatArray, mixed: FloatArray) -> float:
    return 20 * float(np.log10(rms(clean) / rms(mixed - clean)))


def named(count: int) -> list[Inputs]:
    return [clip(f"clip{number}", 0.3) for number in range(count)]


def test_the_conditions_are_drawn_by_their_shares(folder: Path) -> None:
    add = NoiseAdder(options(folder))
    drawn = (draws_for({"id": Text(f"clip{n}")}, "add_noise", 0).random() for n in range(2000))
    counts = Counter(map(add.condition, drawn))
    assert counts["clean"] == pytest.approx(1000, abs=70)
    assert counts["noise"] == pytest.approx(500, abs=60)
    assert counts["voices"] == pytest.approx(500, abs=60)
    assert [add.condition(drawn) for drawn in (0.0, 0.4999, 0.5, 0.7499, 0.75, 0.9999)] == [
        "clean", "clean", "noise", "noise", "voices", "voices"
    ]  # fmt: skip


def test_the_added_noise_has_the_ratio_of_the_record(folder: Path) -> None:
    samples = named(24)
    outputs = run(options(folder), samples)
    ratios: dict[str, list[float]] = {"noise": [], "voices": []}
    for sample, (mixed, record) in zip(samples, outputs, strict=True):
        clean = samples_of(sample)
        assert mixed.dtype == np.float32
        assert mixed.shape == clean.shape
        if record["condition"] == "clean":
            np.testing.assert_array_equal(mixed, clean)
            assert record == {"condition": "clean"}
            continue
        assert decibels(clean, mixed) == pytest.approx(record["snr"], abs=1e-3)
        assert set(record) == {"condition", "snr", "files", "offset"} | (
            {"room"} if record["condition"] == "voices" else set()
        )
        ratios[record["condition"]].append(record["snr"])
    assert all(5 <= ratio <= 12 for ratio in ratios["noise"])
    assert all(10 <= ratio <= 30 for ratio in ratios["voices"])
    assert max(ratios["voices"]) > 12 > min(ratios["noise"])


def test_what_is_added_is_the_piece_that_the_record_names(folder: Path) -> None:
    clean = samples_of(clip("a", 0.5))
    component = options(folder, voices=None, rooms=None, mixture=NOISE)
    ((mixed, record),) = run(component, [clip("a", 0.5)])
    found = Sounds(str(folder / "noise"), "noise")
    names = sound_files(str(folder / "noise"), "noise")
    whole = np.concatenate(
        [found.whole(_Always(names.index(name))).samples for name in record["files"]]
    )
    start = round(record["offset"] * RATE)
    expected = at_ratio(clean, whole[start : start + len(clean)], record["snr"])
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


class _Always(np.random.Generator):
    """Draws one number again and again."""

    def __init__(self, number: int) -> None:
        super().__init__(np.random.PCG64(0))
        self._number = number

    def integers(self, *_: Any, **__: Any) -> Any:
        return self._number


def test_short_files_are_joined_until_they_are_longer_than_the_clip(folder: Path) -> None:
    component = options(folder, voices=None, rooms=None, mixture=NOISE)
    outputs = run(component, [clip(f"{number}", 5.0) for number in range(5)])
    for mixed, record in outputs:
        assert len(record["files"]) > 1
        added = mixed - samples_of(clip("", 5.0))
        assert rms(added[-RATE // 4 :]) > 0.02
        assert "sound-bible/silence.wav" not in record["files"]
        assert not any(".cache" in name for name in record["files"])


@pytest.mark.parametrize("native", [16_000, 44_100, 8_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_span_is_what_the_whole_file_has_there(tmp_path: Path, native: int, suffix: str) -> None:
    times = np.arange(5 * native) / native
    chirp = 0.3 * np.sin(2 * np.pi * (100 + 200 * times) * times)
    path = str(write_as(tmp_path / f"a.{suffix}", np.stack([chirp, chirp / 2], axis=1), native))
    whole = read_track(path, RATE).samples
    assert seconds_of(path) == pytest.approx(5, abs=0.01)
    for start, length in ((0, 800), (12_320, 16_000), (5 * RATE - 960, 960)):
        span = read_span(path, RATE, start, length)
        assert span.shape == (length,)
        edge = 0 if native == RATE else 60  # the resampler has nothing before and behind
        inner = slice(edge, length - edge)
        np.testing.assert_allclose(span[inner], whole[start : start + length][inner], atol=3e-3)
    with pytest.raises(InputError, match=r"cut short: no audio 5\.0 s from its start"):
        read_span(path, RATE, 5 * RATE - 100, 800)
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(InputError, match="is damaged or cut short"):
        read_span(str(tmp_path / "notes.txt"), RATE, 0, 800)


def write_as(path: Path, samples: NDArray[np.floating], rate: int) -> Path:
    """Write ``(samples, channels)`` in the format that the name ends with."""
    wav = write_wav(path.with_suffix(".wav"), samples, rate)
    if path.suffix == ".flac":
        with av.open(str(wav)) as given, av.open(str(path), "w") as container:
            track = container.add_stream("flac", rate=rate, layout="stereo")
            for frame in given.decode(audio=0):
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def test_a_sample_gets_the_same_noise_whatever_the_order_and_the_batch(folder: Path) -> None:
    component, samples = options(folder), named(12)
    together = run(component, samples)
    reverse = run(component, samples[::-1])[::-1]
    alone = [run(component, [sample])[0] for sample in samples]
    for one, other, own in zip(together, reverse, alone, strict=True):
        assert one[1] == other[1] == own[1]
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[0], own[0])


def test_another_process_draws_the_same_and_another_seed_or_id_does_not() -> None:
    code = (
        "from mercore.media import Text; from mercore_noise._draws import draws_for;"
        "print(draws_for({'id': Text('片段 1')}, 'add_noise', 3).random())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    sample = {"id": Text("片段 1")}
    here = draws_for(sample, "add_noise", 3).random()
    assert float(output.stdout) == here
    others = [
        ({"id": Text("片段 2")}, "add_noise", 3),
        (sample, "blur", 3),
        (sample, "add_noise", 4),
    ]
    assert here not in [draws_for(*given).random() for given in others]


def test_a_silent_clip_stays_as_it_is_and_is_said_to_be_silent(folder: Path) -> None:
    silent = clip("quiet", 0.3, level=0)
    ((mixed, record),) = run(options(folder, rooms=None, mixture=NOISE), [silent])
    assert not mixed.any()
    assert record == {"condition": "clean", "silent": True}


def test_only_a_sum_that_clips_is_scaled(folder: Path) -> None:
    component = options(folder, voices=None, rooms=None, mixture=NOISE, snr=(5, 5))
    (quiet, loud) = run(component, [clip("a", 0.5, 0.2), clip("a", 0.5, 0.95)])
    assert "scale" not in quiet[1]
    assert float(np.abs(loud[0]).max()) == pytest.approx(1.0)
    assert loud[1]["scale"] < 1
    clean = samples_of(clip("a", 0.5, 0.95)) * loud[1]["scale"]
    assert decibels(clean, loud[0]) == pytest.approx(5, abs=0.01)


def test_the_ratio_is_that_of_lhotse() -> None:
    clean, noise = hiss(0.5, 1, 0.3), hiss(0.5, 2, 0.02)
    mixer = AudioMixer(clean[None], RATE)
    mixer.add_to_mix(noise[None], snr=7.5)
    np.testing.assert_allclose(at_ratio(clean, noise, 7.5), mixer.mixed_audio[0], atol=1e-6)


def test_a_room_is_that_of_lhotse(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "room.wav", response(0.2, 3))
    taps = Sounds(str(tmp_path), "rooms").whole(np.random.default_rng(0), 0).samples
    audio = hiss(0.5, 4)
    expected = ReverbWithImpulseResponse(rir=Recording.from_file(path).to_dict())(audio[None], RATE)
    np.testing.assert_allclose(reverberated(audio, taps), expected[0], atol=1e-5)


def test_a_room_neither_delays_nor_changes_the_power() -> None:
    click = np.zeros(4_000, np.float32)
    click[1_000] = 0.5
    heard = reverberated(click, -response(0.1, 5, delay=300))
    assert int(np.abs(heard).argmax()) == 1_000
    assert rms(heard) == pytest.approx(rms(click), rel=1e-5)
    assert heard.dtype == np.float32
    assert not reverberated(np.zeros(10, np.float32), response(0.1, 5)).any()


def test_the_first_channel_of_an_impulse_response_is_used(folder: Path) -> None:
    found = Sounds(str(folder / "rooms"), "rooms").whole(_Always(0), 0).samples
    np.testing.assert_allclose(found, response(0.2, 0), atol=1e-4)


def test_a_clip_is_heard_in_a_room_where_that_is_a_condition(folder: Path) -> None:
    component = options(folder, noise=None, voices=None, mixture=Mixture(rooms=1))
    sample = clip("a", 0.5)
    ((heard, record),) = run(component, [sample])
    assert record["condition"] == "rooms"
    assert record["room"] in ("room-0.wav", "room-1.wav")
    assert rms(heard) == pytest.approx(rms(samples_of(sample)), rel=1e-4)
    assert np.abs(heard - samples_of(sample)).max() > 0.01


def test_rooms_are_simulated_the_same_each_time() -> None:
    one, again = (simulated(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.response, again.response)
    assert isinstance(one.about, dict)
    assert 0.2 <= float(str(one.about["rt60"])) <= 0.5
    other = simulated(np.random.default_rng(4))
    assert other.about != one.about
    # Schroeder's integral falls by 60 dB at the drawn time, about.
    energy = np.cumsum(np.square(one.response[::-1].astype(float)))[::-1]
    level = 10 * np.log10(energy / energy[0])
    slope = (np.argmax(level < -25) - np.argmax(level < -5)) / RATE
    assert 3 * slope == pytest.approx(float(str(one.about["rt60"])), rel=0.35)


def test_a_clip_is_heard_in_the_same_simulated_room_each_time() -> None:
    component, sample = AddNoise(rooms="simulated", mixture=Mixture(rooms=1)), clip("a", 0.3)
    one, again = (run(component, [sample])[0] for _ in range(2))
    np.testing.assert_array_equal(one[0], again[0])
    assert one[1] == again[1]
    assert set(one[1]["room"]) == {"size", "rt60"}
    assert rms(one[0]) == pytest.approx(rms(samples_of(sample)), rel=1e-4)


def test_simulated_rooms_ask_for_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    component = AddNoise(rooms="simulated", mixture=Mixture(rooms=1))
    with pytest.raises(PluginError, match=r"pip install \"mercore-noise\[rooms\]\""):
        component.load("cpu", "float32")


def test_a_folder_of_silence_ends_the_run_and_a_damaged_file_its_sample(tmp_path: Path) -> None:
    write_wav(tmp_path / "silent/a.wav", np.zeros(RATE))
    silent = AddNoise(noise=str(tmp_path / "silent"), mixture=NOISE)
    with pytest.raises(RunError, match=r"silent: all 1 audio files are silent"):
        run(silent, named(1))
    write_wav(tmp_path / "cut/a.wav", hiss(1.0, 0))
    (tmp_path / "cut/a.wav").write_bytes((tmp_path / "cut/a.wav").read_bytes()[:9_000])
    with pytest.raises(InputError, match=r"a.wav: cut short"):
        run(AddNoise(noise=str(tmp_path / "cut"), mixture=NOISE), named(1))


def test_silent_pieces_are_drawn_again(tmp_path: Path) -> None:
    padded = np.concatenate([np.zeros(8 * RATE), hiss(0.2, 0), np.zeros(RATE)])
    write_wav(tmp_path / "mostly/a.wav", padded)
    sounds = Sounds(str(tmp_path / "mostly"), "noise")
    for seed in range(5):
        assert rms(sounds.piece(2 * RATE, np.random.default_rng(seed)).samples) > 1e-3
    with pytest.raises(InputError, match=r"20 pieces of 0\.01 s in a row were silent"):
        sounds.piece(RATE // 100, np.random.default_rng(0))


def test_audio_that_cannot_be_used_is_refused(folder: Path) -> None:
    empty: Inputs = {"audio": Waveform(np.zeros(0, np.float32), RATE), "id": Text("a")}
    broken: Inputs = {"audio": Waveform(np.array([np.nan], np.float32), RATE), "id": Text("a")}
    for sample, reason in ((empty, "0 samples"), (broken, "not finite")):
        with pytest.raises(InputError, match=reason):
            run(options(folder), [sample])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "nothing to add; give noise, voices, or rooms"),
        ({"rooms": "simulated"}, "nothing to add"),
        ({"noise": "n", "rooms": "simulated"}, "rooms: never used; give voices"),
        ({"noise": "n", "mixture": {"voices": 1}}, "voices has a share; give the folder"),
        ({"noise": "n", "mixture": {}}, "every share is 0"),
        ({"noise": "n", "mixture": {"voice": 1}}, "mixture.voice"),
        ({"noise": "n", "snr": [12, 5]}, "expected the lower limit first"),
    ],
)
def test_options_that_draw_nothing_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AddNoise(**given)
    with pytest.raises(RegistryError, match=reason.split(";")[0]):
        Plugins().build(Preprocessor, "add_noise", given)


def test_the_files_of_the_folders_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    write_noise(tmp_path / "a")
    write_noise(tmp_path / "b")
    one, same = (describe(AddNoise(noise=str(tmp_path / name))) for name in "ab")
    assert one == same
    write_wav(tmp_path / "b/free-sound/noise-0.wav", hiss(0.7, 77))
    assert describe(AddNoise(noise=str(tmp_path / "b"))) != one
    write_noise(tmp_path / "b")
    (tmp_path / "b/LICENSE.txt").write_text("other")
    assert describe(AddNoise(noise=str(tmp_path / "b"))) == one
    (tmp_path / "b/free-sound/noise-2.wav").rename(tmp_path / "b/free-sound/noise-3.wav")
    assert describe(AddNoise(noise=str(tmp_path / "b"))) != one


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.wav").write_bytes(b"")
    for name, reason in {
        "gone": "with.noise: nothing at '.*gone'; expected a folder",
        "a.wav": "with.noise: a file at '.*a.wav'",
        "empty": "with.noise: no audio file below '.*empty'; expected .aac",
    }.items():
        with pytest.raises(RegistryError, match=reason):
            identity_of(str(tmp_path / name), "noise")


class TestAddNoise(PreprocessorTests):
    component = options(sounds())
    atol = 0.0
    long = 0.2


class TestVoicesInRooms(PreprocessorTests):
    component = options(sounds(), mixture=Mixture(voices=1))
    atol = 0.0
    long = 0.2
