"""The checks of results that encoders and preprocessors share: batches, odd inputs, records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mercore.batches import apply
from mercore.components import Inputs, Noted
from mercore.errors import InputError
from mercore.testing._loaded import LoadedTests
from mercore.testing._outputs import apart, identical, numbers, start_apart
from mercore.testing._samples import content, copied, emptied, lengthened, shortened


class MediaTests(LoadedTests):
    """The checks of a component that reads media. Set ``component``, and ``samples`` at need."""

    long: float = 1.0
    """Scales the very long input of 60 s, 256 frames or 20,000 characters."""

    def _problem(self, output: object) -> str:
        """Return what makes a result unusable, or ``""``."""
        raise NotImplementedError

    def test_order_is_kept(self) -> None:
        """Each result of a batch is that of its own sample.

        Why: the core tells the samples of a batch apart by their place alone.

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

        Why: which samples share a batch depends on the manifest, and on what is in the store.

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

        Why: an experiment must come out alike when it is run again.

        Cure: put the model into evaluation mode (dropout off); seed what is random from an option;
        keep nothing from call to call.
        """
        samples = self.subject.samples
        for place, (one, other) in enumerate(
            zip(self.subject.run(samples), self.subject.run(samples), strict=True)
        ):
            self.require(identical(one, other), f"sample {place} gives another result or record")

    def test_the_input_is_not_modified(self) -> None:
        """The samples are the same after the call.

        Why: a batch that fails is run again one by one, with the same arrays.

        Cure: compute into new arrays; no `-=`, no `out=`, no `torch.from_numpy(x).mul_()`.
        """
        given = [copied(sample) for sample in self.subject.samples]
        self.subject.function(given)
        for place, (before, after) in enumerate(zip(self.subject.samples, given, strict=True)):
            changed = [name for name in before if content(before)[name] != content(after)[name]]
            self.require(not changed, f"the call changed {changed} of sample {place}")

    def test_empty_input_is_encoded_or_refused(self) -> None:
        """No audio samples, no frames or no text give a result or an InputError, nothing else.

        Why: some clip is silent or has no words; it must fail alone, and say why.

        Cure: look at the length first; return a row for nothing, or raise
        `InputError("the audio has 0 samples, expected 1 or more; ...")`.
        """
        for name, sample in emptied(self.subject.samples[0]):
            self._survives(sample, f"an empty {name!r}")

    def test_very_short_input_is_encoded_or_refused(self) -> None:
        """One audio sample, one frame or one character gives a result or an InputError.

        Why: some clip is shorter than a window; it must fail alone, and say why.

        Cure: pad what is shorter than a window of the model, or raise InputError that says how
        much is needed.
        """
        self._survives(shortened(self.subject.samples[0]), "a very short input")

    def test_very_long_input_is_encoded_or_refused(self) -> None:
        """60 s, 256 frames or 20,000 characters (times `long`) give a result or an InputError.

        Why: some clip is longer than the model reads, and is met after hours of work.

        Cure: encode in pieces, or cut and say so in the record (`Noted`). Too slow to test: set
        `long = 0.2`.
        """
        self._survives(lengthened(self.subject.samples[0], self.long), "a very long input")

    def test_optional_inputs_may_be_absent(self) -> None:
        """A sample without the optional inputs gives a result or an InputError.

        Why: what is in `optional` may be left out in registry.yaml, and lack in the manifest.

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

        Why: records lie in the store as JSON.

        Cure: turn numpy numbers into Python ones (`float(x)`), and NaN into None.
        """
        for output in self.subject.alone:
            if isinstance(output, Noted):
                try:
                    json.dumps(dict(output.record), allow_nan=False)
                except (TypeError, ValueError) as error:
                    self.fail(f"the record {output.record!r} is no JSON: {error}", error)

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
