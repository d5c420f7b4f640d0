"""Media, as any network in an ONNX file sees, hears or reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints, hookimpl
from mercore.components import Encode, Encoder
from mercore.errors import RegistryError
from mercore.media import Audio, Spec, Video, Words
from mercore_onnx._files import beside, graph_in, outside
from mercore_onnx._recipes import AudioRecipe, FramesRecipe, TextRecipe

__all__ = ["AudioRecipe", "FramesRecipe", "OnnxEncoder", "TextRecipe"]

__version__ = "0.1.0"


class OnnxEncoder(Encoder):
    """What a graph in an ONNX file gives for audio, frames or text: ``(rows, dim)``.

    One of `audio`, `frames` and `text` says what it reads and how that is prepared. Of the output
    the first axis is the batch, `dim_axis` holds the numbers of a row, and all others are
    positions: each is a row, in their order, or with `pool` their mean or the first of them. So
    ``(batch, dim)`` is one row; ``(batch, frames, dim)`` a row a frame; ``(batch, dim, rows,
    columns)``, with ``dim_axis: 1``, a row a cell. Where the graph takes a waveform without a batch
    axis, its output has none either. Of a clip's frames each is encoded by itself, and its rows
    follow those of the frame before.

    Audio and text run one sample at a time, frames in batches where the graph has an open first
    axis: so no sample sees another, or padding.

    Source: ONNX Runtime (MIT); the network is that of the file, under its own licence. The file is
    data: it runs no code of its own, and libraries of custom operators are never loaded. Weights
    in files beside it are read from below its folder alone, and are part of the fingerprint.

    Limits: one stream a graph; pictures are square, resized bicubically by Pillow; a graph with a
    fixed number of samples or tokens, or a fixed batch of more than one, is refused. It computes in
    the types that it was exported with.

    Raises ``CheckpointError`` for a file that is no graph or lacks what the options name,
    ``RegistryError`` for a dtype, ``InputError`` for a sample that the graph does not take.
    """

    name = "onnx"
    example: ClassVar = {"checkpoint": "checkpoints/wav2vec2.onnx", "audio": {"rate": 16_000}}
    inputs: ClassVar[Mapping[str, Spec]] = {
        "audio": Audio(rate=16_000),
        "frames": Video(),
        "text": Words(),
    }
    licence = "that of the file; ONNX Runtime itself is MIT"
    citation = """\
@software{microsoft2018onnxruntime,
  author = {{ONNX Runtime developers}},
  title = {{ONNX Runtime}},
  year = {2018},
  url = {https://onnxruntime.ai},
}"""

    checkpoint: str = Field(
        description="An .onnx file, a folder, or the hub id of a repository that holds one."
    )
    file: str | None = Field(
        default=None,
        description="Which file of a folder or repository; null for `model.onnx` or "
        "`onnx/model.onnx`.",
    )
    audio: AudioRecipe | None = Field(default=None, description="It reads audio, prepared so.")
    frames: FramesRecipe | None = Field(default=None, description="It reads frames, prepared so.")
    text: TextRecipe | None = Field(default=None, description="It reads text, prepared so.")
    output: str | None = Field(
        default=None, description="Which output to take; null where there is only one."
    )
    dim_axis: int = Field(
        default=-1, description="The axis of the output that holds the numbers of a row."
    )
    pool: Literal["none", "mean", "first"] = Field(
        default="none",
        description="What becomes of the positions of a clip, a frame or a text: a row each, one "
        "row with their mean, or the first alone.",
    )

    @model_validator(mode="after")
    def _reads_one_thing(self) -> OnnxEncoder:
        given = [name for name in self.inputs if getattr(self, name) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none of them"
            raise ValueError(f"give one of audio, frames and text; found {found}")
        return self

    @property
    def frame_rate(self) -> float | None:
        """What the recipe of the audio says, where each frame is a row."""
        return self.audio.frame_rate if self.audio and self.pool == "none" else None

    def needs(self) -> Mapping[str, Spec]:
        """Return the one input that is declared."""
        if self.audio:
            return {"audio": Audio(rate=self.audio.rate)}
        if self.frames:
            return {"frames": Video(count=self.frames.pictures)}
        return {"text": Words()}

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the graph and the files that belong to it, wherever they lie."""
        path = Path(os.path.expanduser(self.checkpoint))
        if not path.exists():
            return {"checkpoint": checkpoints.identity(self.checkpoint)}
        graph = graph_in(path, self.file)
        files = [graph, *outside(graph)]
        if self.text:
            files.append(beside(path, graph, self.text.tokenizer))
        return {"checkpoint": " ".join(map(checkpoints.identity, files)), "file": None}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for another graph."""
        if dtype != "float32":
            raise RegistryError(
                f"onnx: dtype {dtype!r}: a graph computes in the types it was exported with; leave "
                "dtype out, and give the file of that precision"
            )
        from mercore_onnx._model import OnnxFile

        return OnnxFile(self, device)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [OnnxEncoder]
