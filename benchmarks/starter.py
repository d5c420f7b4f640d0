"""Time the starter components, and count the errors of the ASR, on clips of the demo set.

Run from the root of the repository: ``OMP_NUM_THREADS=1 python benchmarks/starter.py``. Times are
CPU milliseconds a clip (about 1.7 s of audio, 8 frames looked at), all clips in one batch, without
decoding and loading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from _words import error_rate

from mercore.components import Inputs, Noted
from mercore.decode import read_audio, read_frames
from mercore.manifest import Manifest, Sample
from mercore.media import Media, Text, Video
from mercore_starter import (
    DeepFilterNet,
    FaceExpression,
    MiniLM,
    MtcnnFaces,
    Prosody,
    WhisperASR,
    WhisperEncoder,
)

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
EVERY = 5  # clips; the set is sorted by split and identity


def main() -> None:
    """Run all components."""
    samples = Manifest.read("examples/demo/manifest.csv", CLASSES).samples[::EVERY]
    paths = [sample.file("video") or "" for sample in samples]
    audio: list[Inputs] = [{"audio": read_audio(path, 16_000)} for path in paths]
    video: list[Inputs] = [{"video": read_frames(path, Video(count=8))} for path in paths]
    text: list[Inputs] = [{"text": Text(sample.extra["sentence"])} for sample in samples]

    timed("deepfilternet", DeepFilterNet().load("cpu", "float32"), audio)
    for beam in (1, 5):
        heard(samples, f"whisper_asr, beam {beam}", WhisperASR(beam=beam), audio)
    full = WhisperASR(beam=1, padding=29, quantize=False)
    heard(samples, "whisper_asr, beam 1, float32, windows of 30 s", full, audio)
    faces = timed("mtcnn", MtcnnFaces().load("cpu", "float32"), video)
    crops: list[Inputs] = [{"frames": plain(face)} for face in faces]
    timed("face_expression", FaceExpression().load("cpu", "float32"), crops)
    timed("whisper", WhisperEncoder().load("cpu", "float32"), audio)
    timed("whisper, quantize", WhisperEncoder(quantize=True).load("cpu", "float32"), audio)
    timed("minilm", MiniLM().load("cpu", "float32"), text)
    timed("prosody", Prosody().load("cpu", "float32"), audio)


def timed(
    name: str, function: Callable[[Sequence[Inputs]], Sequence[Any]], batch: Sequence[Inputs]
) -> Sequence[Any]:
    """Print and return what the component makes of the batch."""
    function(batch[:2])
    began = time.process_time()
    results = function(batch)
    print(f"{name:<48} {1e3 * (time.process_time() - began) / len(batch):6.1f} ms")
    return results


def heard(samples: Sequence[Sample], name: str, asr: WhisperASR, audio: Sequence[Inputs]) -> None:
    """Print the time and the word error rate, without and with noise."""
    texts = timed(name, asr.load("cpu", "float32"), audio)
    for noisy in (False, True):
        pairs = [
            (sample.extra["sentence"], said(text))
            for sample, text in zip(samples, texts, strict=True)
            if (sample.split == "test_noise") == noisy
        ]
        rate = error_rate(pairs)
        print(f"    word error rate, {'with' if noisy else 'without'} noise: {rate:.3f}")


def plain(output: Any) -> Media:
    """Return a preprocessor's output without its record."""
    value: Media = output.value if isinstance(output, Noted) else output
    return value


def said(output: Any) -> str:
    """Return the text of an output."""
    media = plain(output)
    assert isinstance(media, Text)
    return media.content


if __name__ == "__main__":
    main()
