"""Makes mercore-synthetic-demo: 280 clips of synthetic people who speak with an emotion.

``python examples/demo/make_clips.py --out DIR`` writes ``DIR/clips/*.mp4`` and
``DIR/manifest.csv``. Nothing in it is a recording of anybody. See README.md.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import av
import click
import cv2
import numpy as np
from actions import FPS
from clips import Clip, make_clip, plan_clips
from numpy.typing import NDArray
from rich.progress import track
from voice import RATE

from mercore.media import FloatArray

NOTICE = "Synthetic: rendered face, synthetic speech. No real person. CC0-1.0."
COLUMNS = ("id", "split", "label", "video", "identity", "sentence", "synthetic")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--seed", default=2024, show_default=True, help="Another seed, other people.")
@click.option("--jobs", default=2, show_default=True, help="Processes at work.")
def main(out: Path, seed: int, jobs: int) -> None:
    """Write the clips and their manifest to a folder."""
    if find_spec("espeakng_loader") is None:
        raise click.ClickException(
            "no module 'espeakng_loader', which speaks the sentences; pip install espeakng-loader"
        )
    planned = plan_clips(seed)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        done = pool.map(partial(write_clip, out=out, seed=seed), planned)
        for _ in track(done, "clips", total=len(planned)):
            pass
    write_manifest(planned, out / "manifest.csv")
    size = sum(path.stat().st_size for path in (out / "clips").iterdir())
    click.echo(f"{len(planned)} clips, {size / 1e6:.2f} MB, in {out}")


def write_clip(clip: Clip, out: Path, seed: int) -> None:
    """Make one clip and write it to ``out/clips``."""
    cv2.setNumThreads(1)  # the processes share the cores
    pictures, sound = make_clip(clip, seed)
    encode(out / "clips" / f"{clip.id}.mp4", pictures, sound)


def write_manifest(planned: Sequence[Clip], path: Path) -> None:
    """Write one row a clip; unlabelled clips have an empty label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip in planned:
            label = "" if clip.split == "unlabelled" else clip.label
            video, who = f"clips/{clip.id}.mp4", f"person_{clip.person:02}"
            writer.writerow((clip.id, clip.split, label, video, who, clip.sentence, "true"))


def encode(path: Path, pictures: NDArray[np.uint8], sound: FloatArray) -> None:
    """Write an mp4 of H.264 at 12.5 Hz and AAC at 16 kHz, tagged as synthetic."""
    with av.open(str(path), "w", format="mp4") as container:
        container.metadata.update(title="mercore-synthetic-demo", comment=NOTICE)
        options = {"crf": "28", "preset": "veryslow", "threads": "1"}
        video = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        video.height, video.width = pictures.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 32_000
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.rate, frame.pts = RATE, 0  # from 0 on, the muxer notes the encoder's delay
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


if __name__ == "__main__":
    main()
