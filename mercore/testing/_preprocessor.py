"""The suite for preprocessors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mercore.components import Component, Preprocessor
from mercore.errors import InputError
from mercore.media import Text
from mercore.streams import medium_name, pack
from mercore.testing._media import MediaTests
from mercore.testing._outputs import apart, numbers, value_of


class PreprocessorTests(MediaTests):
    """What mercore expects of a preprocessor. Set ``component``, and ``samples`` at need."""

    component: Preprocessor
    _kind: ClassVar[type[Component]] = Preprocessor

    def _problem(self, output: object) -> str:
        """Return what makes a result no medium of finite numbers, or ``""``."""
        try:
            finite = np.isfinite(numbers(output)).all()
        except (TypeError, ValueError):
            return f"a {type(value_of(output)).__name__}, expected audio, frames or text"
        return "" if finite else "NaN or infinite values"

    def _near(self, own: object, output: object) -> bool:
        """Return whether two media are near; other words or other faces may be found."""
        if isinstance(value_of(own), Text) or numbers(own).shape != numbers(output).shape:
            return not self._problem(output)
        return apart(own, output) <= self.rough

    def test_the_output_is_as_declared(self) -> None:
        """Every sample gives a medium of the kind and the rate of `output`, fit for the store.

        Why: what reads the stream is checked against `output` before anything runs.

        Cure: return `Waveform`, `Frames` or `Text` as `output` says, audio at its rate, frames as
        uint8 ``(frames, height, width, 3)`` with one time each.
        """
        spec = self.component.output
        for place, output in enumerate(self.subject.alone):
            try:
                array, _ = pack(value_of(output), spec)
            except InputError as error:
                self.fail(f"sample {place} of a {medium_name(spec)} stream: {error}", error)
            dims = 4 if medium_name(spec) == "video" else 1
            self.require(array.ndim == dims, f"sample {place} has the shape {array.shape}")
