"""No media file, however damaged, raises anything but InputError.

This is the small version; benchmarks/fuzz_media.py damages thousands, each in its own process.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from media_kinds import toy_clip, write_kinds
from mutations import damaged, told

from mercore.decode import decode, has_audio
from mercore.errors import InputError
from mercore.media import Audio, Spec, Video

SPECS: tuple[Spec, ...] = (Audio(rate=16_000), Video(count=3))
KINDS = 10
EACH = 6


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
