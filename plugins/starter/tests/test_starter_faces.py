"""The frozen numbers come from the packages the weights were taken from, run once by hand.

``FACE_API_*``: npm @vladmandic/face-api 1.7.15 in node on its own TensorFlow.js 4.22 (cpu), with
``FaceExpressionNet.loadFromWeightMap(tf.io.decodeWeights(...))`` and ``forwardInput`` on
``pattern(112, 112)``. ``FACENET_*``: facenet-pytorch 2.6.0, ``MTCNN(keep_all=True).detect`` on the
astronaut, and its networks on ``pattern(...) / 127.5 - 1``.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from skimage import data

from mercore import CheckpointError, Frames, InputError, Inputs, Text, Video
from mercore.testing import EncoderTests, PreprocessorTests
from mercore_starter._expression import normalised, read_weights
from mercore_starter._faces import Face, FaceCropper, similarity, template
from mercore_starter._mtcnn import Candidates, Mtcnn
from mercore_starter.faces import (
    EXPRESSION_WEIGHTS,
    MTCNN_WEIGHTS,
    FaceExpression,
    MtcnnFaces,
)

Pixels = NDArray[np.uint8]

FACENET_BOX = (181.1, 62.2, 267.7, 172.1)
FACENET_POINTS = [205.0 + 101.7j, 246.8 + 103.7j, 224.7 + 129.0j, 201.7 + 139.2j, 245.3 + 141.9j]
FACENET_OUTPUT = [
    0.10226, -0.14271, -0.09368, 0.00104,  # shifts of the box
    0.24719, 0.6311, 0.36165, 0.27722, 0.60959,  # x of the points
    0.27202, 0.19891, 0.54539, 0.79795, 0.76428,
]  # fmt: skip
FACE_API_FEATURES = [0.3808385, 0.07044564, 0.1341705, 0.0, 0.2482365, 0.6454152]
FACE_API_FEATURE_SUM = 84.25125
FACE_API_PROBABILITIES = [
    0.5519944, 0.4340967, 0.001427666, 0.01100314, 1.949573e-05, 2.457784e-04, 0.001212817,
]  # fmt: skip


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    """Eileen Collins, 512 x 512, public domain; her face is some 90 pixels wide."""
    picture: Pixels = data.astronaut()  # type: ignore[no-untyped-call]
    return picture


@pytest.fixture(scope="module")
def cropper() -> FaceCropper:
    return FaceCropper(MtcnnFaces(), "cpu")


def pattern(height: int, width: int) -> Pixels:
    y, x, c = np.indices((height, width, 3))
    return np.asarray((2 * x + 3 * y * (c + 1) + 5 * (x * y % 17)) % 256, dtype=np.uint8)


def clip(*pictures: Pixels) -> dict[str, Any]:
    times = np.arange(len(pictures)) / 4
    return {"video": Frames(np.stack(pictures), times), "frames": Frames(np.stack(pictures), times)}


def crops_of(result: Any) -> Frames:
    assert isinstance(result.value, Frames)
    return result.value


def resized(picture: Pixels, width: int, height: int) -> Pixels:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def test_the_face_is_where_facenet_pytorch_finds_it(
    cropper: FaceCropper, astronaut: Pixels
) -> None:
    (face,) = cropper.faces(astronaut[None])
    assert face is not None
    assert face.score > 0.99
    assert face.box == pytest.approx(FACENET_BOX, abs=6)
    assert np.abs(face.points - FACENET_POINTS).max() < 3


@pytest.mark.parametrize("angle", [-30, 0, 30])
def test_crops_are_upright_and_follow_the_template(astronaut: Pixels, angle: int) -> None:
    turned = np.array(Image.fromarray(astronaut).rotate(angle, center=(224, 120)))
    cropper = FaceCropper(MtcnnFaces(size=224, margin=0.5), "cpu")
    crop = crops_of(cropper([clip(turned)])[0]).pixels[0]
    (face,) = cropper.faces(crop[None])
    assert crop.shape == (224, 224, 3)
    assert face is not None
    assert np.abs(face.points - template(224, 0.5)).mean() < 224 * 0.04
    assert abs(np.angle(face.points[1] - face.points[0], deg=True)) < 5


def test_the_margin_shows_more_of_the_same_face(astronaut: Pixels) -> None:
    tight, wide = (
        crops_of(FaceCropper(MtcnnFaces(size=s, margin=m), "cpu")([clip(astronaut)])[0]).pixels[0]
        for s, m in ((80, 0.0), (160, 0.5))
    )
    middle = wide[40:120, 40:120].astype(int)
    assert np.abs(middle - tight).max() <= 1


def test_frames_without_a_face_are_left_out_and_counted(
    cropper: FaceCropper, astronaut: Pixels
) -> None:
    blank = np.full_like(astronaut, 90)
    (result,) = cropper([clip(blank, astronaut, blank, astronaut[:, ::-1])])
    crops = crops_of(result)
    assert crops.pixels.shape == (2, 112, 112, 3)
    assert crops.pixels.dtype == np.uint8
    assert crops.times.tolist() == [0.25, 0.75]
    record = dict(result.record)
    score = record.pop("score")
    assert record.keys() == {"faces", "frames", "turn", "outside"}
    assert (record["faces"], record["frames"]) == (2, 4)
    assert isinstance(score, float)
    assert 0.9 < score <= 1


def test_a_record_says_how_a_face_is_turned_and_cut(
    cropper: FaceCropper, astronaut: Pixels
) -> None:
    whole, cut = (
        cropper([clip(picture)])[0].record["outside"] for picture in (astronaut, astronaut[:, 200:])
    )
    assert whole == 0
    assert isinstance(cut, float)
    assert 0.02 < cut < 0.5
    eyes = np.array([30 + 40j, 70 + 40j, 0, 0, 0])
    for nose, turn in ((50 + 60j, 0), (70 + 60j, 0.5), (30 + 55j, 0.5)):
        eyes[2] = nose
        tilted = 2 * eyes * np.exp(0.3j)  # neither size nor tilt of the head count
        assert Face(1.0, np.zeros(4), tilted).turn == pytest.approx(turn)


def test_a_clip_without_a_face_is_an_input_error(cropper: FaceCropper) -> None:
    message = r"no face in 2 frames of 300x200 pixels between 0.00 and 0.25 s, expected one at "
    with pytest.raises(InputError, match=message + r"least 30 pixels wide .* lower 'threshold'"):
        cropper([clip(pattern(200, 300), pattern(200, 300))])


def test_a_tiny_frame_is_an_input_error(cropper: FaceCropper) -> None:
    for side in (1, 8, 16):
        with pytest.raises(InputError, match=f"no face in 1 frames of {side}x{side}"):
            cropper([clip(pattern(side, side))])


def test_other_media_and_empty_streams_are_input_errors(cropper: FaceCropper) -> None:
    encode = FaceExpression().load("cpu", "float32")
    with pytest.raises(InputError, match="'video' holds Text, expected at least one frame"):
        cropper([{"video": Text("hello")}])
    with pytest.raises(InputError, match="'frames' holds no frame, expected at least one frame"):
        encode([{"frames": Frames(np.zeros((0, 112, 112, 3), np.uint8), np.zeros(0))}])


def test_a_face_in_a_very_large_frame_is_found(cropper: FaceCropper, astronaut: Pixels) -> None:
    large = resized(astronaut[:288], 3840, 2160)
    (face,) = cropper.faces(large[None])
    assert face is not None
    assert face.box == pytest.approx(np.array(FACENET_BOX) * 7.5, abs=6 * 7.5)
    assert crops_of(cropper([clip(large)])[0]).pixels.shape == (1, 112, 112, 3)


def test_a_face_cut_by_the_edge_is_cropped_with_black(
    cropper: FaceCropper, astronaut: Pixels
) -> None:
    (crop,) = crops_of(cropper([clip(astronaut[:, 190:400])])[0]).pixels
    assert crop[:, 0].max() == 0
    assert crop[:, 60].max() > 100


def test_pick_decides_between_two_faces(astronaut: Pixels) -> None:
    face = astronaut[20:240, 110:330]  # 220 x 220, eyes near its middle
    stage = np.full((300, 640, 3), 120, np.uint8)
    stage[40:260, :220] = face
    stage[90:230, 250:390] = resized(face, 140, 140)
    found = {
        pick: FaceCropper(MtcnnFaces.model_validate({"pick": pick}), "cpu").faces(stage[None])[0]
        for pick in ("largest", "central", "best")
    }
    large, central, best = found["largest"], found["central"], found["best"]
    assert large is not None
    assert central is not None
    assert best is not None
    assert large.box[2] < 220 < 250 < central.box[0]
    assert best.score == max(large.score, central.score)


def test_fewer_faces_pass_a_higher_threshold_or_a_larger_least_size(astronaut: Pixels) -> None:
    for options in ({"min_face": 0.5}, {"threshold": 0.99999999}):
        with pytest.raises(InputError, match="no face"):
            FaceCropper(MtcnnFaces.model_validate(options), "cpu")([clip(astronaut)])


def test_the_options_say_which_frames_are_needed() -> None:
    assert MtcnnFaces().needs() == {"video": Video(count=8)}
    assert MtcnnFaces(count=None).needs() == {"video": Video()}
    assert MtcnnFaces(rate=2.5).needs() == {"video": Video(rate=2.5)}
    assert FaceExpression().needs() == {"frames": Video()}


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"rate": 0}, {"size": 8}, {"threshold": 1}, {"pick": "first"}]
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MtcnnFaces.model_validate(options)


def test_the_networks_give_what_facenet_pytorch_gives() -> None:
    nets = Mtcnn(MTCNN_WEIGHTS, torch.device("cpu"))
    score, shift = nets.proposal(signed(pattern(30, 24)))
    assert score.shape == (1, 10, 7)
    assert score[0, 0].tolist() == pytest.approx(
        [1 - x for x in (0.98765, 0.99584, 0.99488, 0.97442, 0.96961, 0.98837, 0.99631)], abs=2e-3
    )
    assert shift[0, 0, 0, :4].tolist() == pytest.approx(
        [0.12248, 0.0894, 0.05315, 0.02895], abs=2e-3
    )
    assert shift.sum().item() == pytest.approx(-14.1903, abs=0.05)
    score, shift = nets.refine(signed(pattern(24, 24)))
    assert score.item() == pytest.approx(0.00509, abs=1e-3)
    assert shift[0].tolist() == pytest.approx([-0.01193, -0.13478, -0.00927, 0.077], abs=2e-3)
    score, rest = nets.output(signed(pattern(48, 48)))
    assert score.item() == pytest.approx(0.00012, abs=1e-4)
    assert rest[0].tolist() == pytest.approx(FACENET_OUTPUT, abs=2e-3)


def signed(picture: Pixels) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("nested", [False, True])
def test_suppression_is_the_greedy_one(nested: bool) -> None:
    rng = np.random.default_rng(5)
    corner, size = rng.uniform(0, 60, (2, 80, 2)), rng.uniform(5, 40, (2, 80, 2))
    box = np.concatenate([corner, corner + size], axis=2)
    score = np.sort(rng.uniform(0.1, 1, (2, 80)))[:, ::-1].copy()
    found = Candidates(torch.from_numpy(score), torch.from_numpy(box), torch.zeros(2, 80, 4))
    kept = found.without_overlaps(0.4, nested=nested).score > 0
    assert kept.tolist() == [greedy(boxes, 0.4, nested) for boxes in box]
    assert 5 < kept[0].sum() < 60


def greedy(boxes: NDArray[np.float64], limit: float, nested: bool) -> list[bool]:
    kept: list[int] = []
    for i, a in enumerate(boxes):
        if all(overlap(a, boxes[j], nested) <= limit for j in kept):
            kept.append(i)
    return [i in kept for i in range(len(boxes))]


def overlap(a: NDArray[np.float64], b: NDArray[np.float64], nested: bool) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return float(shared / (min(areas) if nested else sum(areas) - shared))


def test_a_similarity_is_recovered_from_points() -> None:
    points = np.array([1 + 2j, 5 - 1j, 3 + 3j, 0 + 7j])
    turn, shift = similarity(points, (2 - 1j) * points + (4 + 5j))
    assert turn == pytest.approx(2 - 1j)
    assert shift == pytest.approx(4 + 5j)


def test_the_expression_net_gives_what_face_api_gives() -> None:
    (found,) = FaceExpression().load("cpu", "float32")([clip(pattern(112, 112))])
    assert isinstance(found, np.ndarray)
    assert found.shape == (1, 256)
    assert found.dtype == np.float32
    assert found[0, :6].tolist() == pytest.approx(FACE_API_FEATURES, abs=2e-5)
    assert found.sum() == pytest.approx(FACE_API_FEATURE_SUM, abs=2e-3)
    options = FaceExpression(output="probabilities")
    (found,) = options.load("cpu", "float32")([clip(pattern(112, 112))])
    assert isinstance(found, np.ndarray)
    assert found.shape == (1, options.dim)
    assert found[0].tolist() == pytest.approx(FACE_API_PROBABILITIES, rel=1e-4)


def test_stored_weights_become_what_tensorflow_js_makes_of_them() -> None:
    weights = read_weights(EXPRESSION_WEIGHTS)
    first = weights["dense0/conv0/filters"].ravel()
    assert first[:3].tolist() == [-0.017379043623805046, -0.06951617449522018, 0.3939250111579895]
    last = weights["dense3/conv1/pointwise_filter"].ravel()
    assert last[[0, 1, -1]].tolist() == [
        -1.2592779397964478,
        -0.4029689431190491,
        0.4029689431190491,
    ]
    assert last.sum(dtype=np.float64) == pytest.approx(109.07025527209044, abs=1e-9)
    assert weights["dense0/conv0/bias"][0] == np.float32(-0.24809572100639343)
    assert weights["fc/weights"].sum(dtype=np.float64) == pytest.approx(
        -105.99151375051588, abs=1e-9
    )


def test_a_smile_is_read_as_happy(cropper: FaceCropper, astronaut: Pixels) -> None:
    encode = FaceExpression(output="probabilities").load("cpu", "float32")
    (found,) = encode([{"frames": crops_of(cropper([clip(astronaut)])[0])}])
    assert isinstance(found, np.ndarray)
    assert found[0, 1] > 0.99  # neutral, happy, ...
    assert found.sum() == pytest.approx(1, abs=1e-6)


def test_a_clip_of_several_passes_is_encoded_like_its_parts() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (20, 112, 112, 3), dtype=np.uint8)
    encode = FaceExpression().load("cpu", "float32")
    whole, part = (np.asarray(one) for one in encode([clip(*pictures), clip(*pictures[14:18])]))
    np.testing.assert_allclose(whole[14:18], part, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 0.1


def test_pictures_of_other_shapes_are_padded_black_to_a_square_and_resized() -> None:
    white = torch.full((1, 56, 29, 3), 255, dtype=torch.uint8)
    x = normalised(white)[0]
    black, bright = -104.298 / 255, (255 - 104.298) / 255  # blue
    assert x.shape == (3, 112, 112)
    row = x[2, 50]  # 13 black columns, 29 white, 14 black, each twice as wide
    assert row[[0, 23, 28, 81, 87, 111]].tolist() == pytest.approx(
        [black, black, bright, bright, black, black], abs=1e-3
    )
    encode = FaceExpression().load("cpu", "float32")
    for side in (1, 16, 300):
        (found,) = encode([clip(pattern(side, side))])
        assert np.isfinite(np.asarray(found)).all()


def test_weights_are_the_ones_the_notice_names() -> None:
    notice = (EXPRESSION_WEIGHTS.parent / "NOTICE.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"\| `(\w+\.safetensors)` \| `([0-9a-f]{64})` \|", notice))
    files = EXPRESSION_WEIGHTS.parent.glob("*.safetensors")
    assert named == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert MtcnnFaces().identity() == {"weights": named["mtcnn.safetensors"]}
    assert FaceExpression().identity() == {"weights": named["face_expression.safetensors"]}


def test_damaged_weights_are_a_checkpoint_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(MTCNN_WEIGHTS.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"broken\.safetensors.*install mercore-starter"):
        Mtcnn(broken, torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"broken\.safetensors.*install mercore-starter"):
        read_weights(broken)
    with pytest.raises(CheckpointError, match=r"(?s)Missing key.*pnet"):
        Mtcnn(EXPRESSION_WEIGHTS, torch.device("cpu"))


class TestMtcnnFaces(PreprocessorTests):
    component = MtcnnFaces(count=None, size=80)
    atol = 0.0
    long = 0.1

    @property
    def samples(self) -> list[Inputs]:
        picture: Pixels = data.astronaut()  # type: ignore[no-untyped-call]
        small = resized(picture[20:240, 110:330], 192, 192)
        clips = [(small, small[:, ::-1]), (picture,), (small,) * 3, (picture[:300],)]
        return [{"video": clip(*pictures)["video"]} for pictures in clips]


class TestFaceExpression(EncoderTests):
    component = FaceExpression()


class TestExpressionProbabilities(EncoderTests):
    component = FaceExpression(output="probabilities")
    long = 0.1


@pytest.mark.parametrize("output", ["features", "probabilities"])
def test_onnx_gives_what_torch_gives(
    output: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCORE_CACHE", str(tmp_path))
    numbers = np.random.default_rng(0)
    pixels = numbers.integers(0, 256, (19, 90, 112, 3), np.uint8)
    sample = {"frames": Frames(pixels, np.arange(19.0))}
    (one,) = FaceExpression(output=output).load("cpu", "float32")([sample])
    (other,) = FaceExpression(output=output, backend="onnx").load("cpu", "float32")([sample])
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1e-5
