"""No media file, however damaged, raises anything but InputError.

This is the small version; benchmarks/fuzz_media.py damages thousands, each in its own process.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from media_kinds import toy_clip, write_kinds
from mutations import damaged, told

from mercore.decode import decode, has_audio
from mercore.errors import InputError
from mercore.media import Audio, Spec, Video, Waveform

SPECS: tuple[Spec, ...] = (Audio(rate=16_000), Video(count=3))
KINDS = 10
EACH = 6
NO_RATE = (
    "SQUBAcopKhSjlkMMBBGE5BxSJar5EgJCwFpUoRyjHJ8EjSdlQLJDz4L58leOJHiQTa0U4zoAh7EmmOEIde9VKQMA"
    "o4CunzzhIhvqZoU2OEqpsSTvtbt3bIrlfLYyVMZ4ZCiKqjKI8x5ySt1k4cWpLzBJHpxcPsSz1dKD2ZJiEhQ+mw=="
)
"""The end of a FLAC, which FFmpeg takes for another format."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_kinds(tmp_path_factory.mktemp("media"), *toy_clip())


def test_the_undamaged_files_can_be_decoded(whole: list[Path]) -> None:
    assert len(whole) == KINDS
    for path in whole:
        assert has_audio(str(path))
        decode(str(path), Audio(rate=16_000))
        if path.suffix in (".mp4", ".mkv", ".webm", ".avi"):
            decode(str(path), Video(count=3))


@pytest.mark.parametrize("index", range(KINDS))
def test_a_damaged_file_is_decoded_or_an_input_error(whole: list[Path], index: int) -> None:
    path, chance = whole[index], random.Random(index)
    mutation = path.with_name(f"mutation{path.suffix}")
    for _ in range(EACH):
        mutation.write_bytes(damaged(path.read_bytes(), chance))
        for spec in SPECS:
            with told(InputError, mutation.name):
                decode(str(mutation), spec)


def test_a_codec_that_is_not_known_is_named(whole: list[Path], tmp_path: Path) -> None:
    path, (mkv,) = tmp_path / "a.mkv", [each for each in whole if each.suffix == ".mkv"]
    path.write_bytes(mkv.read_bytes().replace(b"A_FLAC", b"A_NONE"))
    with pytest.raises(InputError, match=r"a\.mkv: no codec is known for its audio"):
        decode(str(path), Audio(rate=16_000))


def test_names_in_another_encoding_do_no_harm(whole: list[Path], tmp_path: Path) -> None:
    chunk = b"LIST" + (4 + 8 + 6).to_bytes(4, "little") + b"INFOINAM\6\0\0\0caf\xe9 \0"
    riff = whole[0].read_bytes()
    at = riff.index(b"data")
    data = riff[:at] + chunk + riff[at:]
    path = tmp_path / "a.wav"
    path.write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    assert isinstance(decode(str(path), Audio(rate=16_000)), Waveform)


def test_audio_without_a_rate_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(base64.b64decode(NO_RATE))
    with pytest.raises(InputError, match=r"a\.flac: its audio has a rate of 0 Hz"):
        decode(str(path), Audio(rate=16_000))
