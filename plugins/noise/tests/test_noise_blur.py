from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from mercore.components import Inputs, Noted, Preprocessor
from mercore.errors import InputError, RegistryError
from mercore.media import Frames, Text, Video, Words
from mercore.plugins import Plugins
from mercore.testing import PreprocessorTests
from mercore_noise import Blur
from mercore_noise._pyramid import blur, lower, upper

SIZES = [(1, 1), (1, 5), (2, 3), (3, 2), (4, 4), (5, 8), (7, 9), (30, 41), (48, 64)]


def picture(height: int, width: int, seed: int = 0) -> np.typing.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def clip(identifier: str, count: int = 3) -> Inputs:
    pixels = np.stack([picture(16, 24, seed) for seed in range(count)])
    return {"video": Frames(pixels, np.arange(count) / 25), "id": Text(identifier)}


def run(component: Blur, samples: list[Inputs]) -> list[Noted[Frames]]:
    found = []
    for output in component.load("cpu", "float32")(samples):
        assert isinstance(output, Noted)
        assert isinstance(output.value, Frames)
        found.append(Noted(output.value, output.record))
    return found


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_pyramid_is_that_of_opencv_to_the_bit(height: int, width: int) -> None:
    given = picture(height, width)
    small = cv2.pyrDown(given)
    np.testing.assert_array_equal(lower(given), small)
    np.testing.assert_array_equal(
        upper(lower(given), height, width), cv2.pyrUp(small, dstsize=(width, height))
    )


def test_the_largest_and_smallest_pixels_do_not_overflow() -> None:
    for value in (0, 255):
        plain = np.full((9, 10, 3), value, np.uint8)
        np.testing.assert_array_equal(blur(plain, 4), plain)


def test_a_factor_of_four_is_two_steps_down_and_two_up() -> None:
    given = picture(32, 48)
    there = cv2.pyrDown(cv2.pyrDown(given))
    np.testing.assert_array_equal(blur(given, 4), cv2.pyrUp(cv2.pyrUp(there)))
    np.testing.assert_array_equal(blur(given, 1), given)


def test_each_clip_has_one_factor_and_all_of_them_occur() -> None:
    outputs = run(Blur(), [clip(f"clip{number}") for number in range(60)])
    counts = Counter(output.record["blur"] for output in outputs)
    assert set(counts) == {1, 2, 4}
    assert min(counts.values()) > 8
    for output in outputs[:6]:
        factor = int(str(output.record["blur"]))
        expected = [blur(picture(16, 24, seed), factor) for seed in range(3)]
        np.testing.assert_array_equal(output.value.pixels, np.stack(expected))
        np.testing.assert_array_equal(output.value.times, np.arange(3) / 25)


def test_the_factor_does_not_depend_on_order_or_frames() -> None:
    names = [f"clip{number}" for number in range(20)]
    forward = run(Blur(), [clip(name) for name in names])
    backward = run(Blur(), [clip(name, 1) for name in reversed(names)])[::-1]
    assert [one.record for one in forward] == [other.record for other in backward]
    other = run(Blur(seed=1), [clip(name) for name in names])
    assert [one.record for one in forward] != [one.record for one in other]


def test_the_frames_to_read_are_those_of_the_options() -> None:
    assert Blur().needs() == {"video": Video(), "id": Words()}
    assert Blur(count=4).needs()["video"] == Video(count=4)
    assert Blur(count=4, rate=2.0).needs()["video"] == Video(rate=2.0)


def test_what_cannot_be_blurred_is_refused() -> None:
    empty: Inputs = {"video": Frames(np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0)), "id": Text("")}
    with pytest.raises(InputError, match="no frame"):
        run(Blur(), [empty])
    with pytest.raises(RegistryError, match=r"with\.factors"):
        Plugins().build(Preprocessor, "blur", {"factors": [3]})
    with pytest.raises(RegistryError, match=r"with\.factors"):
        Plugins().build(Preprocessor, "blur", {"factors": []})


class TestBlur(PreprocessorTests):
    component = Blur(factors=(2, 4))
    atol = 0.0
    long = 0.1
