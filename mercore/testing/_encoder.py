"""The suite for encoders."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mercore.components import Component, Encoder
from mercore.testing._media import MediaTests
from mercore.testing._outputs import value_of


class EncoderTests(MediaTests):
    """What mercore expects of an encoder. Set ``component``, and ``samples`` at need."""

    component: Encoder
    _kind: ClassVar[type[Component]] = Encoder

    def _problem(self, output: object) -> str:
        """Return what makes a result no matrix of finite numbers, or ``""``."""
        value = value_of(output)
        if not isinstance(value, np.ndarray) or value.ndim != 2:
            return f"{getattr(value, 'shape', type(value).__name__)}, expected (frames, dim)"
        if not len(value):
            return "no frames, expected one or more"
        return "" if np.isfinite(value).all() else "NaN or infinite values"

    def test_results_are_finite_float32_matrices(self) -> None:
        """Every sample gives a finite float32 matrix ``(frames, dim)`` of one frame or more.

        Why: that is what the store keeps; one NaN would spoil the training on all samples.

        Cure: end with `.float().cpu().numpy()`, or `.astype(np.float32)`; a pooled vector becomes
        one row with `[np.newaxis]`; find where NaN comes from, often a mean over nothing.
        """
        for place, output in enumerate(self.subject.alone):
            problem = self._problem(output)
            self.require(not problem, f"sample {place} gives {problem}")
            dtype = value_of(output).dtype
            self.require(dtype == np.float32, f"sample {place} gives {dtype}, expected float32")

    def test_dim_is_as_declared(self) -> None:
        """All results have one width, and it is `dim` where that is not None.

        Why: what has another width is not stored, and a fusion needs one width.

        Cure: compute `dim` from the options, or return None where only the checkpoint knows it.
        """
        widths = {value_of(output).shape[-1] for output in self.subject.alone}
        self.require(len(widths) == 1, f"the results have the widths {sorted(widths)}")
        declared = self.component.dim
        expected = widths if declared is None else {declared}
        self.require(widths == expected, f"dim is {declared}, the results are {widths} wide")
