"""How much of an extraction is encoding: what is left is waiting for decoding, and writing.

    python benchmarks/extraction.py [--clips 560]

Faces are found in mp4 files (the demo's, 192 x 192, and others of 1280 x 720 that are made here)
and their expression encoded, one stream or feature at a time, with the machine's cores. Wall time
leaves loading out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from _many import project

from mercore.extraction import Outcome
from mercore.machine import Machine
from mercore.manifest import Manifest

REGISTRY = """\
streams:
  faces: {uses: mtcnn, inputs: {video: video}}
features:
  face: {uses: face_expression, inputs: {frames: faces}}
"""
LARGE = (720, 1280)


def main() -> None:
    """Print a row a stream and feature."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=280)
    count = parser.parse_args().clips
    print("| clips | | encode | wall | encode / wall | waited | decode | write | load |")
    print("|---|---|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        show(f"{count} of 192 x 192", Path(folder), count)
    with TemporaryDirectory() as folder, TemporaryDirectory() as made:
        videos = [enlarged(path, Path(made)) for path in demo()[:8]]
        show(f"{count // 4} of 1280 x 720", Path(folder), count // 4, videos)


def show(what: str, folder: Path, count: int, videos: list[Path] | None = None) -> None:
    """Extract and print where the time went."""
    one = replace(project(folder, count, REGISTRY, videos), machine=Machine(parallel=1))
    for outcome in one.extract():
        print(row(what, outcome), flush=True)


def row(what: str, outcome: Outcome) -> str:
    """Return the times of one stream or feature, in seconds."""
    spent = outcome.seconds
    wall = spent.wall - spent.load
    parts = (spent.encode, wall, spent.encode / wall, spent.wait, spent.decode, spent.write)
    numbers = " | ".join(f"{part:.2f}" for part in (*parts, spent.load))
    return f"| {what} | {outcome.node.name} | {numbers} |"


def demo() -> list[Path]:
    """Return the demo's clips."""
    classes = ("neutral", "angry", "happy", "sad", "worried", "surprise")
    samples = Manifest.read("examples/demo/manifest.csv", classes).samples
    return [Path(sample.media["video"]) for sample in samples]


def enlarged(path: Path, folder: Path) -> Path:
    """Return the clip scaled to the height of 720 and set into a picture of 1280 x 720."""
    target = folder / path.name
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=source.streams.video[0].average_rate)
        stream.height, stream.width, stream.pix_fmt = *LARGE, "yuv420p"
        for frame in source.decode(video=0):
            face = frame.reformat(LARGE[0], LARGE[0], "rgb24").to_ndarray()
            picture = np.full((*LARGE, 3), 90, np.uint8)
            picture[:, 280 : 280 + LARGE[0]] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return target


if __name__ == "__main__":
    main()
