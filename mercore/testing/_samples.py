"""Made-up media for a component, the same every time: ordinary, empty, very short, very long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mercore.components import Inputs, MediaComponent
from mercore.media import Audio, Frames, Media, Spec, Text, Video, Waveform

SIDE = 112  # pixels
RATE = 10.0  # frames a second (Hz)

# Neither rising nor falling, so that a component that sorts by length must also unsort.
SECONDS = (1.3, 0.5, 2.1, 0.8)
COUNTS = (4, 1, 6, 3)
SENTENCES = (
    "It was raining all day, and we stayed at home.",
    "No!",
    "今天下雨了，我们一整天都待在家里看书、喝茶，晚上才出去走了一会儿。",
    "Why did you leave me alone?",
)

LONG_SECONDS, LONG_COUNT, LONG_CHARACTERS = 60.0, 256, 20_000


def made_up(component: MediaComponent) -> Sequence[Inputs]:
    """Return four different samples of different lengths with all that the component reads."""
    return [
        {name: _media(spec, index) for name, spec in component.needs().items()}
        for index in range(len(SECONDS))
    ]


def _media(spec: Spec, index: int) -> Media:
    if isinstance(spec, Audio):
        return sound(SECONDS[index], spec.rate, index)
    if isinstance(spec, Video):
        return pictures(COUNTS[index], index)
    return Text(SENTENCES[index])


def sound(seconds: float, rate: int, seed: int = 0) -> Waveform:
    """Return noise and a tone of ``110 * (seed + 1)`` Hz."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(times))
    samples = 0.05 * noise + 0.3 * np.sin(2 * np.pi * 110 * (seed + 1) * times)
    return Waveform(samples.astype(np.float32), rate)


def pictures(count: int, seed: int = 0) -> Frames:
    """Return frames of 112 x 112 pixels: coarse noise, another in each frame."""
    cells = np.random.default_rng(seed).integers(0, 256, (count, SIDE // 8, SIDE // 8, 3), np.uint8)
    return Frames(cells.repeat(8, axis=1).repeat(8, axis=2), np.arange(count) / RATE)


def emptied(sample: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Yield each input name and the sample with nothing in that input."""
    for name, media in sample.items():
        yield name, {**sample, name: cut(media, 0)}


def shortened(sample: Inputs) -> Inputs:
    """Return the sample with one audio sample, one frame or one character in each input."""
    return {name: cut(media, 1) for name, media in sample.items()}


def cut(media: Media, length: int) -> Media:
    """Return the first `length` audio samples, frames or characters."""
    if isinstance(media, Waveform):
        return Waveform(media.samples[:length].copy(), media.rate)
    if isinstance(media, Frames):
        return Frames(media.pixels[:length].copy(), media.times[:length].copy())
    return Text(media.content[:length])


def lengthened(sample: Inputs, scale: float) -> Inputs:
    """Return the sample repeated to 60 s, 256 frames or 20,000 characters, times `scale`."""
    return {name: _long(media, scale) for name, media in sample.items()}


def _long(media: Media, scale: float) -> Media:
    if isinstance(media, Waveform):
        return Waveform(
            np.resize(media.samples, round(LONG_SECONDS * scale * media.rate)), media.rate
        )
    if isinstance(media, Frames):
        count = max(1, round(LONG_COUNT * scale))
        return Frames(media.pixels[np.arange(count) % len(media.pixels)], np.arange(count) / RATE)
    length = max(1, round(LONG_CHARACTERS * scale))
    return Text((f"{media.content} " * length)[:length])


def copied(sample: Inputs) -> Inputs:
    """Return the sample with arrays of its own."""
    return {name: _copy(media) for name, media in sample.items()}


def _copy(media: Media) -> Media:
    if isinstance(media, Waveform):
        return Waveform(media.samples.copy(), media.rate)
    if isinstance(media, Frames):
        return Frames(media.pixels.copy(), media.times.copy())
    return media


def content(sample: Inputs) -> Mapping[str, bytes]:
    """Return the bytes of each input, to see whether one was changed."""
    return {name: _bytes(media) for name, media in sample.items()}


def _bytes(media: Media) -> bytes:
    if isinstance(media, Waveform):
        return media.samples.tobytes()
    if isinstance(media, Frames):
        return media.pixels.tobytes() + media.times.tobytes()
    return media.content.encode()
