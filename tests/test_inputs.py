from __future__ import annotations

import numpy as np
import pytest

from mercore import Frames, InputError, Inputs, Text, Waveform, audio_of, frames_of, text_of

SOUND = Waveform(np.array([0.5, -0.5], np.float32), 8_000)
PICTURE = Frames(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1))
SAMPLE: Inputs = {"audio": SOUND, "frames": PICTURE, "text": Text("yes"), "id": Text("clip1")}


def test_an_input_is_what_it_was_declared_to_be() -> None:
    assert audio_of(SAMPLE) is SOUND.samples
    assert audio_of(SAMPLE, rate=8_000, least=2) is SOUND.samples
    assert frames_of(SAMPLE) is PICTURE
    assert text_of(SAMPLE) == "yes"
    assert text_of(SAMPLE, "id") == "clip1"


@pytest.mark.parametrize(
    ("sample", "least", "says"),
    [
        (Text("a"), 1, "the input 'audio' holds Text, expected audio"),
        (Waveform(SOUND.samples, 16_000), 1, "has 16000 Hz, expected audio at 8000 Hz"),
        (Waveform(SOUND.samples[:0], 8_000), 1, "has 0 samples, expected 1 or more; check"),
        (SOUND, 80, r"has 2 samples, expected 80 or more \(10 ms\); check that the clip has"),
        (Waveform(np.array([np.nan], np.float32), 8_000), 1, "samples that are not finite"),
    ],
)
def test_audio_that_is_not_as_declared_is_refused(
    sample: Text | Waveform, least: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        audio_of({"audio": sample}, rate=8_000, least=least)


@pytest.mark.parametrize("media", [Text("a"), Frames(PICTURE.pixels[:0], PICTURE.times[:0])])
def test_frames_are_at_least_one(media: Text | Frames) -> None:
    found = "Text" if isinstance(media, Text) else "no frame"
    with pytest.raises(InputError, match=f"'video' holds {found}, expected at least one frame"):
        frames_of({"video": media}, "video")


def test_words_are_text() -> None:
    with pytest.raises(InputError, match="'text' holds Frames, expected text"):
        text_of({"text": PICTURE})
