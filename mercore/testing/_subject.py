"""A component of media with its samples, loaded once for all who look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from mercore.components import Inputs, MediaComponent
from mercore.testing._samples import copied

Function = Callable[[Sequence[Inputs]], Sequence[object]]


class Subject:
    """A loaded component and its results; all is computed when it is first looked at."""

    def __init__(
        self,
        component: MediaComponent,
        samples: Sequence[Inputs],
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.component = component
        self.samples = tuple(samples)
        self._device, self._dtype = device, dtype

    @cached_property
    def function(self) -> Function:
        """What ``load`` returned."""
        return self.component.load(self._device, self._dtype)

    @cached_property
    def alone(self) -> list[object]:
        """The results of the samples, each a batch of its own."""
        return [self.run([sample])[0] for sample in self.samples]

    @cached_property
    def together(self) -> list[object]:
        """The results of the samples in one batch."""
        return self.run(self.samples)

    @cached_property
    def second(self) -> Subject:
        """The same component, loaded once more; ``del`` forgets it."""
        return Subject(self.component, self.samples)

    def run(self, batch: Sequence[Inputs]) -> list[object]:
        """Return one result a sample; raises AssertionError for more or fewer."""
        # Copies: that the input is left alone is a check of its own.
        outputs = list(self.function([copied(sample) for sample in batch]))
        if len(outputs) != len(batch):
            raise AssertionError(
                f"{self.component.name}: returned {len(outputs)} results for {len(batch)} samples; "
                "return one a sample, in order"
            )
        return outputs
