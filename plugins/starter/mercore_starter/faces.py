"""Faces: found, aligned and cropped by MTCNN, and encoded by the expression net of face-api.

Both run from weights that ship in ``weights/`` (see ``weights/NOTICE.md``): nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from mercore.components import Encode, Encoder, Preprocessor, Transform
from mercore.errors import CheckpointError
from mercore.media import Spec, Video

MTCNN_WEIGHTS = Path(__file__).parent / "weights" / "mtcnn.safetensors"
EXPRESSION_WEIGHTS = Path(__file__).parent / "weights" / "face_expression.safetensors"


class MtcnnFaces(Preprocessor):
    """Crops of the face in each frame, upright and of one size; frames without one are left out.

    Of several faces in a frame one is kept, by `pick`; nothing is tracked from frame to frame. Its
    eyes, nose and mouth corners are moved onto fixed places of the crop by rotation, scaling and
    translation; what lies outside the frame is black. The record of a sample is
    ``{"faces": found, "frames": looked at, "score": mean score of the found}``, with ``turn`` (how
    far the nose is from the middle between the eyes, in distances of the eyes: 0 from the front)
    and ``outside`` (the share of the face outside of the frame). Raises ``InputError`` when no
    frame shows a face. Always computes in float32: the half-precision
    types cannot hold the pixel coordinates of a large frame.

    Source: Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded
    convolutional networks"; weights of facenet-pytorch 2.6.0 (MIT). Deviations: at most 64
    candidates a pyramid level, 128 a frame and 32 in the last stage are followed.
    """

    name = "mtcnn"
    licence = "MIT"
    citation = """
        @article{zhang2016joint,
          author = {Zhang, Kaipeng and Zhang, Zhanpeng and Li, Zhifeng and Qiao, Yu},
          title = {Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
            Networks},
          journal = {IEEE Signal Processing Letters},
          volume = {23},
          number = {10},
          pages = {1499--1503},
          year = {2016},
          doi = {10.1109/LSP.2016.2603342},
        }
    """
    inputs: ClassVar[Mapping[str, Spec]] = {"video": Video(count=8)}
    output = Video()

    count: int | None = Field(default=8, ge=1)
    """Frames to look at, spread evenly over the clip; null for all of them."""
    rate: float | None = Field(default=None, gt=0)
    """Frames to look at a second (Hz); used instead of `count` when given."""
    size: int = Field(default=112, ge=16, le=1024)
    """Width and height of the crops, in pixels."""
    margin: float = Field(default=0.1, ge=0.0, le=1.0)
    """Room added on each side, as a share of ArcFace's crop, which cuts off the chin (0)."""
    threshold: float = Field(default=0.9, gt=0.0, lt=1.0)
    """The least score of a face, in (0, 1): lower finds more faces, and more that are none."""
    min_face: float = Field(default=0.15, gt=0.0, le=1.0)
    """The smallest face to look for, as a share of the shorter side of the frame."""
    pick: Literal["largest", "central", "best"] = "largest"
    """Which of several faces to keep: the largest, the most central, or the best score."""

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to look at, as `rate` or `count` say."""
        if self.rate is not None:
            return {"video": Video(rate=self.rate)}
        return {"video": Video(count=self.count)}

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return [MTCNN_WEIGHTS]

    def identity(self) -> Mapping[str, JsonValue]:
        """Return the hash of the weights."""
        return {"weights": _digest(MTCNN_WEIGHTS)}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that finds and crops; `dtype` is not used."""
        from mercore_starter._faces import FaceCropper

        return FaceCropper(self, device)


class FaceExpression(Encoder):
    """What the expression net of face-api sees in each face: ``(frames, 256)`` or ``(frames, 7)``.

    Expects crops of one face each, such as the stream of `mtcnn`. As in face-api a crop is padded
    with black to a centred square, resized to 112 x 112 (bilinear), the mean RGB
    (122.782, 117.001, 104.298) subtracted, and divided by 255. `features` are the 256 average
    pooled activations before the classifier; `probabilities` its softmax over neutral, happy, sad,
    angry, fearful, disgusted, surprised. Raises ``InputError`` for a stream without frames.

    Source: ``face_expression_model`` of the npm package @vladmandic/face-api 1.7.15 (MIT), four
    blocks of depthwise separable convolutions, its uint8 weights as published. Deviation: crops
    larger than 112 x 112 are smoothed before resizing; face-api leaves that to the browser.
    """

    name = "face_expression"
    licence = "MIT"
    inputs: ClassVar[Mapping[str, Spec]] = {"frames": Video()}

    output: Literal["features", "probabilities"] = "features"
    """The 256 features before the classifier, or the probabilities of its 7 expressions."""
    backend: Literal["torch", "onnx"] = "torch"
    """What computes: torch, or ONNX Runtime from an export that is made once and compared."""

    @property
    def dim(self) -> int:
        """256 features or 7 probabilities."""
        return 256 if self.output == "features" else 7

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return [EXPRESSION_WEIGHTS]

    def identity(self) -> Mapping[str, JsonValue]:
        """Return the hash of the weights."""
        return {"weights": _digest(EXPRESSION_WEIGHTS)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; the result is float32 whatever `dtype` is."""
        from mercore_starter._expression import ExpressionEncoder

        return ExpressionEncoder(self, device, dtype)


def _digest(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(
            f"no weights at {str(path)!r}, which ship with mercore-starter; install it again"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()
