from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_noise import write_noise, write_voices, write_wav
from toy_clips import write_mp4

from mercore.cli import main
from mercore.copies import CopyFolder
from mercore.corrupt import corrupt, read_manifest
from mercore.decode import has_audio, read_audio, read_frames, stream_frames
from mercore.encode import write_mp4 as encode_mp4
from mercore.errors import InputError, RunError
from mercore.manifest import Manifest
from mercore.media import FloatArray, Frames, Video, Waveform

RED, BLUE = (200, 20, 20), (20, 20, 200)
RATE = 16_000
MANIFEST = """\
id,split,label,video,audio,text,speaker
a/1,test1,sad,a.mp4,,"well, no",ann
b,test1,happy,,b.wav,words.txt,bob
c,train,happy,a.mp4,b.wav,yes,ann
d,test2,,,,only words,
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of a video, a recording and words, and a folder of noise."""
    write_mp4(tmp_path / "a.mp4", [RED] * 6 + [BLUE] * 6, rate=12, tone=300)
    times = np.arange(RATE) / RATE
    write_wav(tmp_path / "b.wav", 0.2 * np.sin(2 * np.pi * 220 * times))
    (tmp_path / "words.txt").write_text("yes")
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    write_noise(tmp_path / "musan")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["corrupt", *arguments], catch_exceptions=False)


def made(*arguments: str, status: int = 0) -> Any:
    result = mer("--noise", "musan", "--out", "noisy", "--json", *arguments)
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def record(folder: Path) -> dict[str, Any]:
    lines = (folder / "noisy/corrupt.jsonl").read_text().splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def rms(samples: FloatArray) -> float:
    return float(np.sqrt(np.square(samples).mean()))


def added(before: FloatArray, after: FloatArray, scale: float = 1.0) -> float:
    """Return the ratio in dB between the clip and what was added to it."""
    return 20 * float(np.log10(rms(scale * before) / rms(after[: len(before)] - scale * before)))


def test_clips_are_copied_with_noise_and_a_record_of_it(folder: Path) -> None:
    about = made("--snr", "5", "10", "--blur", "1,2,4")
    assert about["written"] == 3
    assert about["conditions"] == {"noise": 3}
    assert sum(about["blur"].values()) == 2
    lines = record(folder)
    assert list(lines) == ["a/1", "b", "c"]
    before = read_audio("b.wav", RATE).samples
    for name in ("b", "c"):
        after = read_audio(f"noisy/audio/{name}.wav", RATE).samples
        noted = lines[name]["audio"]
        snr, scale = noted["snr"], noted.get("scale", 1.0)
        assert 5 <= snr <= 10
        assert added(before, after, scale) == pytest.approx(snr, abs=0.02)
    assert lines["b"]["audio"] != lines["c"]["audio"]  # one file, two samples


def test_the_video_keeps_its_time_and_its_voice(folder: Path) -> None:
    made("--snr", "30", "30", "--blur", "4")
    assert record(folder)["a/1"]["video"] == {"blur": 4}
    before, after = read_frames("a.mp4", Video()), read_frames("noisy/video/a%2F1.mp4", Video())
    assert after.pixels.shape == before.pixels.shape
    np.testing.assert_allclose(after.times, before.times, atol=1e-3)
    assert np.abs(after.pixels.mean(axis=(1, 2)) - before.pixels.mean(axis=(1, 2))).max() < 8
    clean = read_audio("a.mp4", RATE).samples
    noisy = read_audio("noisy/video/a%2F1.mp4", RATE).samples
    assert abs(len(noisy) - len(clean)) <= 1024
    assert added(clean, noisy) == pytest.approx(30, abs=4)  # AAC adds its own; a shift would be -3


def test_the_manifest_has_the_same_rows(folder: Path) -> None:
    made("--split", "test1", "--split", "test2")
    old, new = read_manifest("manifest.csv"), read_manifest("noisy/manifest.csv")
    assert [(s.id, s.split, s.label, s.extra) for s in old.samples] == [
        (s.id, s.split, s.label, s.extra) for s in new.samples
    ]
    a, b, c, d = new.samples
    assert a.media == {"video": str(folder / "noisy/video/a%2F1.mp4"), "text": "well, no"}
    assert b.file("text") is not None
    assert Path(str(b.file("text"))).read_text() == "yes"
    assert [Path(str(c.file(name))).resolve() for name in ("video", "audio")] == [
        folder / "a.mp4", folder / "b.wav"
    ]  # fmt: skip
    assert d.media == {"text": "only words"}


def test_what_is_done_and_unchanged_is_not_done_again(folder: Path) -> None:
    first = made("--blur", "2")
    assert first["written"] == 3
    file = folder / "noisy/audio/b.wav"
    assert made("--blur", "2")["written"] == 0
    kept = file.read_bytes()
    file.unlink()
    again = made("--blur", "2")
    assert (again["written"], again["unchanged"]) == (1, 2)
    assert file.read_bytes() == kept
    write_wav(folder / "b.wav", 0.1 * np.ones(RATE))
    assert made("--blur", "2")["written"] == 2
    assert made("--blur", "2", "--seed", "1")["written"] == 3
    (folder / "musan/free-sound/noise-0.wav").unlink()
    assert made("--blur", "2", "--seed", "1")["written"] == 3


def test_an_interrupted_run_goes_on_where_it_stopped(folder: Path) -> None:
    made()
    path = folder / "noisy/corrupt.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second + third[:40])  # killed while it wrote
    (folder / "noisy/manifest.csv").unlink()
    about = made()
    assert (about["written"], about["unchanged"]) == (1, 2)
    assert path.read_text() == first + second + third


def test_the_copies_do_not_depend_on_order_threads_or_place(folder: Path) -> None:
    made("--blur", "2,4", "--threads", "2")
    head, *rows = MANIFEST.splitlines()
    (folder / "manifest.csv").write_text("\n".join([head, *reversed(rows)]) + "\n")
    (folder / "musan").rename(folder / "noises")
    result = mer("--noise", "noises", "--blur", "2,4", "--out", "other", "--threads", "1")
    assert result.exit_code == 0, result.output
    for name in ("video/a%2F1.mp4", "audio/b.wav", "audio/c.wav", "video/c.mp4"):
        assert (folder / "noisy" / name).read_bytes() == (folder / "other" / name).read_bytes()


def test_a_clip_that_cannot_be_used_fails_alone(folder: Path) -> None:
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:900])
    (folder / "manifest.csv").write_text(MANIFEST + "bad,test1,,cut.mp4,,,\n")
    about = made(status=3)
    assert about["written"] == 3
    ((reason, names),) = [(row["reason"], row["samples"]) for row in about["failures"]]
    assert names == ["bad"]
    assert reason.startswith("cannot be read as media")
    assert "bad" not in read_manifest("noisy/manifest.csv").ids
    assert not [path for path in (folder / "noisy").rglob("*") if ".partial" in path.name]
    shown = mer("--noise", "musan", "--out", "noisy")
    assert shown.exit_code == 3
    assert "clips: bad failed: cannot be read as media" in shown.stdout
    assert "0 clips written, 3 unchanged" in shown.stdout


def test_a_clip_beyond_a_limit_gets_no_copy(folder: Path) -> None:
    told = json.dumps(made("--max-pixels", "100", status=3))
    assert "has frames of 64 x 48" in told
    assert "raise it with --max-pixels" in told
    assert "a/1" not in record(folder)


def test_a_video_that_breaks_off_leaves_no_copy(folder: Path) -> None:
    with av.open("a.mp4") as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos]
    broken = bytearray((folder / "a.mp4").read_bytes())
    start, end = packets[4].pos or 0, (packets[-1].pos or 0) + packets[-1].size
    broken[start:end] = bytes(end - start)
    (folder / "broken.mp4").write_bytes(broken)
    with pytest.raises(InputError, match=r"cut short or damaged|is damaged"):
        list(stream_frames("broken.mp4", 2))
    (folder / "manifest.csv").write_text("id,split,video\nx,test,broken.mp4\n")
    done = corrupt(read_manifest("manifest.csv"), "noisy", blur={"factors": [2]})
    assert list(done.failed) == ["x"]
    assert not list((folder / "noisy").rglob("*.mp4"))


def test_blur_alone_keeps_the_voice_and_noise_alone_the_picture(folder: Path) -> None:
    result = mer("--blur", "2", "--out", "noisy")
    assert result.exit_code == 0, result.output
    lines = record(folder)
    assert {name: line["audio"] for name, line in lines.items()} == {"a/1": None, "c": None}
    assert lines["c"]["files"] == {"video": "video/c.mp4"}
    clean, copy = (read_audio(name, RATE).samples for name in ("a.mp4", "noisy/video/a%2F1.mp4"))
    assert added(clean, copy) > 25
    made("--split", "test1")
    assert record(folder)["a/1"]["video"] is None


def test_a_clip_without_a_voice_gets_none(folder: Path) -> None:
    write_mp4(folder / "mute.mp4", [RED] * 3)
    (folder / "manifest.csv").write_text("id,split,video\nx,test,mute.mp4\n")
    about = made("--blur", "2")
    assert about["conditions"] == {}
    assert record(folder)["x"]["audio"] is None
    assert not has_audio("noisy/video/x.mp4")


def test_voices_and_shares_are_options(folder: Path) -> None:
    write_voices(folder / "speech")
    rows = "".join(f"s{number},test,b.wav\n" for number in range(20))
    (folder / "manifest.csv").write_text("id,split,audio\n" + rows)
    assert set(made("--voices", "speech")["conditions"]) == {"noise", "voices"}
    mixed = made("--voices", "speech", "--mixture", "2:1:1")["conditions"]
    assert set(mixed) == {"clean", "noise", "voices"}
    assert mixed["clean"] > 5


def test_clips_of_an_earlier_run_are_told_from_those_of_this_one(folder: Path) -> None:
    assert made("--split", "test1")["stale"] == []
    result = mer("--noise", "musan", "--out", "noisy", "--split", "train")
    assert result.exit_code == 0
    assert "Warning: noisy has clips of an earlier run that are not in its manifest any more: " in (
        result.stderr
    )
    assert "audio/b.wav, video/a%2F1.mp4; delete them, or give each run its own" in result.stderr
    assert made("--split", "train")["stale"] == ["audio/b.wav", "video/a%2F1.mp4"]
    assert made("--split", "train", "--split", "test1")["stale"] == []


def test_an_original_in_the_folder_is_not_taken_for_a_clip_of_an_earlier_run(folder: Path) -> None:
    (folder / "noisy/audio").mkdir(parents=True)
    (folder / "b.wav").rename(folder / "noisy/audio/original.wav")
    (folder / "manifest.csv").write_text("id,split,audio\nb,test,noisy/audio/original.wav\n")
    assert made()["stale"] == []


def test_originals_are_never_replaced(folder: Path) -> None:
    result = mer("--noise", "musan", "--out", ".")
    assert result.exit_code == 1
    assert "manifest.csv: is an original; give another folder with --out" in result.stderr
    (folder / "set/audio").mkdir(parents=True)
    write_wav(folder / "set/audio/b.wav", np.ones(800) / 3)
    (folder / "manifest.csv").write_text("id,split,audio\nb,test,set/audio/b.wav\n")
    with pytest.raises(RunError, match=r"set/audio/b.wav: is an original"):
        corrupt(read_manifest("manifest.csv"), "set", noise={"noise": "musan"})
    (folder / "linked").mkdir()
    (folder / "linked/audio").symlink_to(folder / "set/audio")
    with pytest.raises(RunError, match=r"set/audio/b.wav: is an original"):
        corrupt(read_manifest("manifest.csv"), "linked", noise={"noise": "musan"})
    (folder / "mine").mkdir()
    (folder / "mine/manifest.csv").write_text("id,split,text\n")
    with pytest.raises(RunError, match="not written by mer corrupt"):
        corrupt(read_manifest("manifest.csv"), "mine", noise={"noise": "musan"})


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "nothing to add; give --noise, --voices, --rooms or --blur"),
        (["--noise", "musan", "--mixture", "2-1"], 2, "'2-1': expected numbers with ':' between"),
        (["--noise", "musan", "--mixture", "1:1:1:1:1"], 2, "expected 4 numbers at most"),
        (["--blur", "3"], 1, "Error: --blur: Input should be 1, 2, 4 or 8\n"),
        (["--noise", "musan", "--snr", "9", "5"], 1, "Error: --snr: expected the lower limit"),
        (["--voices", "musan", "--voices-snr", "9", "5"], 1, "Error: --voices-snr: expected the"),
        (["--noise", "gone"], 1, "Error: --noise: nothing at 'gone'; expected a folder"),
        (["--noise", "musan", "--rooms", "simulated"], 1, "Error: --rooms: never used; give voic"),
        (["--noise", "musan", "--mixture", "1:1:1"], 1, "Error: --mixture: voices has a share; gi"),
        (["--noise", "musan", "--mixture=-1:1"], 1, "Error: --mixture: clean: Input should be gr"),
        (["--noise", "musan", "--split", "tst1"], 1, "in split 'tst1'; did you mean 'test1'?"),
        (["--noise", "musan", "--manifest", "gone.csv"], 1, "cannot read the manifest gone.csv"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    folder: Path, arguments: Sequence[str], status: int, said: str
) -> None:
    result = mer("--out", "noisy", *arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert not (folder / "noisy").exists()


def test_a_folder_of_silence_ends_the_run(folder: Path) -> None:
    write_wav(folder / "silence/a.wav", np.zeros(RATE))
    result = mer("--noise", "silence", "--out", "noisy")
    assert result.exit_code == 1
    assert "all 1 audio files are silent" in result.stderr


def test_a_broken_machine_ends_the_run_and_is_not_taken_for_bad_clips(folder: Path) -> None:
    rows = "".join(f"s{number},test1,,,b.wav,,\n" for number in range(30))
    (folder / "manifest.csv").write_text(MANIFEST + rows)
    (folder / "noisy").mkdir()
    (folder / "noisy/audio").write_text("no folder")
    result = mer("--noise", "musan", "--out", "noisy")
    assert result.exit_code == 1
    assert "20 clips in a row failed, the last with FileExistsError" in result.stderr


def test_the_plugin_is_asked_for_where_it_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mercore.plugins.entry_points", lambda group: [])
    result = mer("--noise", "musan", "--out", "noisy")
    assert result.exit_code == 1
    assert "no preprocessor is called 'add_noise'" in result.stderr
    assert "run `pip install mercore-noise`" in result.stderr


def test_json_lines_are_read_too(folder: Path) -> None:
    row = {"id": "b", "split": "test", "audio": "b.wav", "age": 7}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    assert made("--manifest", "samples.jsonl")["written"] == 1
    (sample,) = Manifest.read("noisy/manifest.csv", []).samples
    assert sample.extra == {"age": "7"}


def test_frames_are_written_at_their_times_and_cut_to_even_sizes(tmp_path: Path) -> None:
    pixels = np.zeros((4, 49, 65, 3), np.uint8)
    pixels[:, :, :, 0] = np.array([40, 90, 140, 190])[:, None, None]
    times = np.array([0.0, 0.04, 0.2, 0.24])  # not evenly spaced
    tone = (0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE // 2) / RATE)).astype(np.float32)
    parts = [Frames(pixels[:3], times[:3]), Frames(pixels[3:], times[3:])]
    encode_mp4(tmp_path / "a.mp4", iter(parts), Waveform(tone, RATE))
    found = read_frames(str(tmp_path / "a.mp4"), Video())
    assert found.pixels.shape == (4, 48, 64, 3)
    np.testing.assert_allclose(found.times, times, atol=1e-3)
    assert np.abs(found.pixels[..., 0].mean(axis=(1, 2)) - [40, 90, 140, 190]).max() < 6
    heard = read_audio(str(tmp_path / "a.mp4"), RATE).samples
    assert added(tone, heard) > 15
    streamed = list(stream_frames(str(tmp_path / "a.mp4"), 3))
    assert [len(part.times) for part in streamed] == [3, 1]
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in streamed]), found.pixels)


def test_the_record_is_by_sample_and_the_last_line_counts(tmp_path: Path) -> None:
    line = {"id": "a", "key": "1", "source": "", "files": {}}
    text = "".join(json.dumps(line | {"key": key}) + "\n" for key in "12")
    (tmp_path / "corrupt.jsonl").write_text(text + '{"id": "b"}\n{"id"')
    assert {id: copy.key for id, copy in CopyFolder(tmp_path).read().items()} == {"a": "2"}


def test_a_file_is_no_folder_for_copies(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    (tmp_path / "manifest.csv").write_text("id,split,label,text\ns1,test,,words\n")
    with pytest.raises(RunError, match="is a file; give a folder with --out"):
        corrupt(read_manifest(tmp_path / "manifest.csv"), tmp_path / "taken")
