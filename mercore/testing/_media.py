"""The checks that encoders and preprocessors share: batches, odd inputs, devices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from mercore.batches import apply
from mercore.components import Inputs, MediaComponent, Noted
from mercore.errors import InputError, MercoreError
from mercore.machine import Machine
from mercore.testing._outputs import apart, identical, numbers, start_apart, stored_type
from mercore.testing._samples import content, copied, emptied, lengthened, made_up, shortened
from mercore.testing._subject import Subject
from mercore.testing._suite import ComponentTests


class MediaTests(ComponentTests):
    """The checks of a component that reads media. Set ``component``, and ``samples`` at need."""

    component: MediaComponent
    atol: float = 1e-5
    """How far a result may be from that of another batch, as a share of its largest value."""
    rough: float = 0.1
    """The same for another device or dtype."""
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    """The types beside float32 that are tried."""
    long: float = 1.0
    """Scales the very long input of 60 s, 256 frames or 20,000 characters."""

    subject: ClassVar[Subject]

    @property
    def samples(self) -> Sequence[Inputs]:
        """Three or more samples of different lengths, with different results."""
        return made_up(self.component)

    @classmethod
    def setup_class(cls) -> None:
        """Make the subject; its weights are loaded by the first check that needs them."""
        super().setup_class()
        cls.subject = Subject(cls.component, cls().samples)
        if len(cls.subject.samples) < 3:
            raise TypeError(f"{cls.__qualname__}.samples: expected three or more")

    @classmethod
    def teardown_class(cls) -> None:
        """Drop the weights."""
        del cls.subject

    def _problem(self, output: object) -> str:
        """Return what makes a result unusable, or ``""``."""
        raise NotImplementedError

    def test_order_is_kept(self) -> None:
        """Each result of a batch is that of its own sample.

        Cure: return the results in the order of the samples; undo a sort by length. If the results
        of the made-up samples are all alike, set `samples` to some that differ.
        """
        alone = self.subject.alone
        kinds = {numbers(output).tobytes() for output in alone}
        self.require(len(kinds) > 1, "all samples give the same result, so their order is unseen")
        for place, output in enumerate(self.subject.together):
            gaps = [start_apart(own, output) for own in alone]
            nearest = int(np.argmin(gaps))
            wrong = gaps[nearest] < gaps[place]
            self.require(not wrong, f"result {place} of the batch is that of sample {nearest}")

    def test_batching_does_not_change_results(self) -> None:
        """A sample alone gives what it gives in a batch, within `atol`.

        Cure: mask the padding (pass the attention mask, leave padded frames out of every mean and
        norm) and cut it from the result; or run the samples one by one.
        """
        shapes = sorted({numbers(output).shape for output in self.subject.together})
        for place, own in enumerate(self.subject.alone):
            # Wherever it is in the batch: the order is a check of its own.
            gap = min(apart(own, output) for output in self.subject.together)
            self.require(
                gap <= self.atol,
                f"sample {place} alone, of shape {numbers(own).shape}, is {gap:.2g} of its largest "
                f"value off every result of the batch, of shapes {shapes}; expected {self.atol:g}",
            )

    def test_the_same_input_gives_the_same_result_twice(self) -> None:
        """A second call with the same samples gives the same bits.

        Cure: put the model into evaluation mode (dropout off); seed what is random from an option;
        keep nothing from call to call.
        """
        samples = self.subject.samples
        for place, (one, other) in enumerate(
            zip(self.subject.run(samples), self.subject.run(samples), strict=True)
        ):
            self.require(identical(one, other), f"sample {place} gives another result or record")

    def test_a_second_load_gives_the_same_results(self) -> None:
        """The result does not depend on which load it comes from, within `atol`.

        Cure: read every weight from the checkpoint; a layer that is left out starts at random.
        """
        again = Subject(self.component, self.subject.samples[:1]).alone
        gap = apart(self.subject.alone[0], again[0])
        self.require(gap <= self.atol, f"a second load differs by {gap:.2g} of the largest value")

    def test_the_input_is_not_modified(self) -> None:
        """The samples are the same after the call: other components read the same arrays.

        Cure: compute into new arrays; no `-=`, no `out=`, no `torch.from_numpy(x).mul_()`.
        """
        given = [copied(sample) for sample in self.subject.samples]
        self.subject.function(given)
        for place, (before, after) in enumerate(zip(self.subject.samples, given, strict=True)):
            changed = [name for name in before if content(before)[name] != content(after)[name]]
            self.require(not changed, f"the call changed {changed} of sample {place}")

    def test_empty_input_is_encoded_or_refused(self) -> None:
        """No audio samples, no frames or no text give a result or an InputError, nothing else.

        Cure: look at the length first; return a row for nothing, or raise
        `InputError("the audio has 0 samples, expected 1 or more; ...")`.
        """
        for name, sample in emptied(self.subject.samples[0]):
            self._survives(sample, f"an empty {name!r}")

    def test_very_short_input_is_encoded_or_refused(self) -> None:
        """One audio sample, one frame or one character gives a result or an InputError.

        Cure: pad what is shorter than a window of the model, or raise InputError that says how
        much is needed.
        """
        self._survives(shortened(self.subject.samples[0]), "a very short input")

    def test_very_long_input_is_encoded_or_refused(self) -> None:
        """60 s, 256 frames or 20,000 characters (times `long`) give a result or an InputError.

        Cure: encode in pieces, or cut and say so in the record (`Noted`). Too slow to test: set
        `long = 0.2`.
        """
        self._survives(lengthened(self.subject.samples[0], self.long), "a very long input")

    def test_optional_inputs_may_be_absent(self) -> None:
        """A sample without the optional inputs gives a result or an InputError.

        Cure: read them with `sample.get(name)`, or take the name out of `optional`.
        """
        optional = self.component.optional
        if not optional:
            pytest.skip("no optional inputs")
        given = self.subject.samples[0]
        sample = {name: media for name, media in given.items() if name not in optional}
        self._survives(sample, f"a sample without {sorted(optional)}")

    def test_records_are_json(self) -> None:
        """What is noted beside a result can be stored: plain numbers, text, lists, mappings.

        Cure: turn numpy numbers into Python ones (`float(x)`), and NaN into None.
        """
        for output in self.subject.alone:
            if isinstance(output, Noted):
                try:
                    json.dumps(dict(output.record), allow_nan=False)
                except (TypeError, ValueError) as error:
                    self.fail(f"the record {output.record!r} is no JSON: {error}", error)

    def test_dtypes_are_honoured(self) -> None:
        """Another dtype gives results of the same type near the others, or a MercoreError.

        Cure: compute in that dtype and end with `.float()`; where it cannot be computed in, raise
        RunError with the dtypes that can. Nearness is within `rough`.
        """
        for dtype in self.dtypes:
            self._is_near("cpu", dtype)

    def test_devices_are_honoured(self) -> None:
        """On a GPU, where there is one, the results are near those of the CPU, or a MercoreError.

        Cure: move weights and inputs to `device`, and the result back with `.cpu()`.
        """
        device = Machine().chosen_device()
        if device == "cpu":
            pytest.skip("no CUDA device")
        self._is_near(device, "float32")

    def _survives(self, odd: Inputs, what: str) -> None:
        """Fail unless the sample gives a usable result or an InputError, and spoils no other."""
        __tracebackhide__ = True
        try:
            problem = self._problem(self.subject.run([odd])[0])
        except InputError:
            problem = ""
        except Exception as error:
            self.fail(f"{what} raises {type(error).__name__}: {error}", error)
        self.require(not problem, f"{what} gives {problem}")
        first, second = self.subject.samples[:2]
        before, _, after = apply(self.subject.run, [first, odd, second])
        for place, output in ((0, before), (2, after)):
            if isinstance(output, Exception):
                self.fail(f"{what} makes sample {place} of its batch fail: {output!r}", output)
            self.require(not self._problem(output), f"{what} spoils sample {place} of its batch")

    def _is_near(self, device: str, dtype: str) -> None:
        __tracebackhide__ = True
        where = f"load({device!r}, {dtype!r})"
        try:
            found = Subject(self.component, self.subject.samples[:2], device, dtype).alone
        except MercoreError:
            return  # refused in words
        except Exception as error:
            self.fail(f"{where} raises {type(error).__name__}: {error}", error)
        for own, output in zip(self.subject.alone, found, strict=False):
            kinds = stored_type(own), stored_type(output)
            self.require(kinds[0] == kinds[1], f"{where} returns {kinds[1]}, expected {kinds[0]}")
            self.require(self._near(own, output), f"{where} is more than rough={self.rough} off")

    def _near(self, own: object, output: object) -> bool:
        """Return whether the result of another device or dtype is near enough."""
        return apart(own, output) <= self.rough
