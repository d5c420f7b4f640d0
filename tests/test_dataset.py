from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mercore.dataset import shortened


def test_a_sequence_no_longer_than_asked_is_kept() -> None:
    sequence = np.arange(6, dtype=np.float16).reshape(3, 2)
    assert shortened(sequence, 3).dtype == np.float32
    np.testing.assert_array_equal(shortened(sequence, 5), sequence)


def test_neighbours_are_averaged() -> None:
    sequence = np.arange(7, dtype=np.float32)[:, None]
    assert shortened(sequence, 3).ravel().tolist() == [0.5, 2.5, 5.0]


@given(st.integers(1, 60), st.integers(1, 20))
def test_every_frame_counts_once(count: int, frames: int) -> None:
    sequence = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    short = shortened(sequence, frames)
    assert len(short) == min(count, frames)
    ends = [(place + 1) * count // len(short) for place in range(len(short))]
    sizes = np.diff([0, *ends])
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_allclose(sizes @ short, sequence.sum(axis=0), atol=1e-4)
