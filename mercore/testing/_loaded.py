"""The checks of what ``load`` returns: where and when it runs, how fast, and what it leaves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import ClassVar

import pytest

from mercore.components import Inputs, MediaComponent
from mercore.errors import MercoreError
from mercore.machine import Machine
from mercore.testing._outputs import apart, stored_type
from mercore.testing._pace import described, rounds
from mercore.testing._release import allocated, references, still_held
from mercore.testing._samples import made_up
from mercore.testing._subject import Subject
from mercore.testing._suite import ComponentTests
from mercore.testing._threads import side_by_side


class LoadedTests(ComponentTests):
    """The checks of the function that a component of media loads."""

    component: MediaComponent
    atol: float = 1e-5
    """How far a result may be from that of another batch, as a share of its largest value."""
    rough: float = 0.1
    """The same for another device or dtype."""
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    """The types beside float32 that are tried."""
    slow_batch: str = ""
    """Why a batch may take longer than its samples one by one; unless given, it may not."""

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

    def test_a_second_load_gives_the_same_results(self) -> None:
        """The result does not depend on which load it comes from, within `atol`.

        Why: features of one fingerprint come from many runs, on many machines.

        Cure: read every weight from the checkpoint; a layer that is left out starts at random.
        """
        again = self.subject.second.run(self.subject.samples[:1])
        gap = apart(self.subject.alone[0], again[0])
        self.require(gap <= self.atol, f"a second load differs by {gap:.2g} of the largest value")

    def test_two_loads_work_side_by_side(self) -> None:
        """Two functions of the component, each in a thread of its own, give what one gives alone.

        Why: features are extracted side by side. One function is called by one thread at a time,
        which may be another than loaded it; it needs no lock.

        Cure: keep no buffer, counter or setting in a module or a class; switch torch's gradients
        off where the function is called, not in `load`, for that holds in one thread only.
        """
        first, second = self.subject.samples[:2]
        calls = [
            partial(self.subject.run, [first, second]),
            partial(self.subject.second.run, [second, first]),
        ]
        expected = [call() for call in calls]
        try:
            found = side_by_side(calls)
        except Exception as error:
            self.fail(f"in a thread it raises {type(error).__name__}: {error}", error)
        pairs = zip(chain(*expected), chain(*found), strict=True)
        gap = max(apart(own, output) for own, output in pairs)
        self.require(gap <= self.atol, f"side by side, a result is {gap:.2g} off the same alone")

    def test_a_dropped_function_leaves_nothing(self) -> None:
        """Tensors and arrays that a function held are gone with it, on a GPU its memory.

        Why: components are loaded one after another; what each leaves behind adds up.

        Cure: hold the weights in the function that `load` returns, and nowhere else: no `@cache`
        around what reads them, no dict of a module or a class, no attribute of the component.
        """
        self._leaves_nothing(self.subject.second)
        del self.subject.second
        # What has not imported torch holds nothing on a GPU, and to look for one takes a while.
        device = Machine().chosen_device() if "torch" in sys.modules else "cpu"
        if device == "cpu":
            return
        self._leaves_nothing(Subject(self.component, self.subject.samples, device))
        before = allocated(device)  # the first one left what CUDA keeps for itself
        self._leaves_nothing(Subject(self.component, self.subject.samples, device))
        more = allocated(device) - before
        self.require(more <= 0, f"{more} bytes on {device!r} are not freed")

    def test_a_batch_is_no_slower_than_its_samples_one_by_one(self) -> None:
        """Four equal samples at once take at most 1.5 times as long as one after the other.

        By the clock and by the time of the processor, and in each of five tries, so that a busy
        machine fails nothing. Samples under 1 ms are not timed.

        Why: the core makes batches of samples of like length, as many as `budget` lets in.

        Cure: run the samples of a batch one by one where that is faster, as on most CPUs; lower
        `budget` where large batches do not fit the cache. Where a batch has to be slower, say why:
        `slow_batch = "..."`.
        """
        if self.slow_batch:
            pytest.skip(self.slow_batch)
        found = rounds(self.subject, self.subject.samples[0])
        if not found[-1].measurable:
            pytest.skip("a sample takes less than 1 ms: too short to time")
        self.require(found[-1].fine, described(found))

    def test_dtypes_are_honoured(self) -> None:
        """Another dtype gives results of the same type near the others, or a MercoreError.

        Nearness is within `rough`.

        Why: `dtype: bfloat16` in registry.yaml halves the memory of a large model; the features
        stay float32.

        Cure: compute in that dtype and end with `.float()`; where it cannot be computed in, raise
        RunError with the dtypes that can.
        """
        for dtype in self.dtypes:
            self._is_near("cpu", dtype)

    def test_devices_are_honoured(self) -> None:
        """On a GPU, where there is one, the results are near those of the CPU, or a MercoreError.

        Nearness is within `rough`.

        Why: the same registry runs on machines with and without a GPU.

        Cure: move weights and inputs to `device`, and the result back with `.cpu()`.
        """
        device = Machine().chosen_device()
        if device == "cpu":
            pytest.skip("no CUDA device")
        self._is_near(device, "float32")

    def test_an_unknown_device_or_dtype_is_refused(self) -> None:
        """`load` raises a MercoreError that names it, or does not look at it.

        Tried are a device that is none, a GPU that is not there, and a dtype that is none.

        Why: a traceback out of a library does not say what to change.

        Cure: begin with `mercore.nn.device_of(device)` and `mercore.nn.dtype_of(dtype)`, or raise
        RunError with what was found and what can be.
        """
        for wrong in ("abacus", "cuda:99", "float12"):
            given = ("cpu", wrong) if wrong.startswith("float") else (wrong, "float32")
            try:
                self.component.load(*given)
            except MercoreError as error:
                self.require(wrong in str(error), f"load{given} says {str(error)!r}")
            except Exception as error:
                self.fail(f"load{given} raises {type(error).__name__}: {error}", error)

    def _leaves_nothing(self, subject: Subject) -> None:
        """Use the subject's function, drop it, and fail for what is still there."""
        __tracebackhide__ = True
        try:
            subject.run(subject.samples[:1])
        except MercoreError:
            return  # refused in words, and nothing held
        found = references(subject.__dict__.pop("function"))
        held = still_held(found)
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        self.require(not held, f"still there after it was dropped: {'; '.join(held[:3])}{more}")

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
