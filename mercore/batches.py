"""Batches by length, and running a component on one so that a bad sample fails alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mercore.components import Inputs
from mercore.errors import DeviceError, InputError, MercoreError
from mercore.media import Frames, Media, Text, Waveform
from mercore.reader import Item

Batch = Sequence[Item]

_SECONDS = 60.0
_PIXELS = 256 * 224 * 224
_CHARACTERS = 8192
_LARGEST = 256  # samples
_WINDOW = 4  # batches that are sorted by length together


def load_of(inputs: Inputs) -> float:
    """Return how much of a batch of budget 1.0 the sample fills."""
    return max((_load(media) for media in inputs.values()), default=0.0)


def _load(media: Media) -> float:
    if isinstance(media, Waveform):
        return media.seconds / _SECONDS
    if isinstance(media, Frames):
        return media.pixels.size / 3 / _PIXELS
    assert isinstance(media, Text)
    return len(media.content) / _CHARACTERS


def in_batches(items: Iterable[Item], budget: float) -> Iterator[Batch]:
    """Yield the items in batches of like length.

    A batch holds as many samples as fit `budget` when all are as long as its longest, and at
    least one. Only a window of a few batches is sorted, so that memory stays bounded.
    """
    window: list[Item] = []
    filled = 0.0
    for item in items:
        window.append(item)
        filled += max(load_of(item.inputs), 1 / _LARGEST)
        if filled >= _WINDOW * budget:
            yield from _packed(window, budget)
            window, filled = [], 0.0
    yield from _packed(window, budget)


def _packed(window: list[Item], budget: float) -> Iterator[Batch]:
    batch: list[Item] = []
    for item in sorted(window, key=lambda item: load_of(item.inputs)):
        if (batch and load_of(item.inputs) * (len(batch) + 1) > budget) or len(batch) == _LARGEST:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def apply(
    function: Callable[[Sequence[Inputs]], Sequence[object]],
    batch: Sequence[Inputs],
    halved: Callable[[int], None] | None = None,
) -> list[object]:
    """Return one output, or the exception that stands in its place, for each sample.

    Out of memory halves the batch; `halved` is told how many samples it had. Any other error of a
    batch runs it again one by one, so that only the sample that caused it fails. Errors that no
    sample can cause are raised, and an error after which the device is of no use to this process,
    as a DeviceError.
    """
    if not batch:
        return []
    try:
        outputs = list(function(batch))
    except Exception as error:
        if _is_fatal(error):
            raise
        if _device_failed(error):
            raise DeviceError(
                f"the device failed: {str(error).strip().splitlines()[0]}; run again: what is done "
                "is kept; with --devices the sample that causes it is found and left out"
            ) from error
        if len(batch) == 1:
            return [error]
        full = out_of_memory(error)
        if full and halved:
            halved(len(batch))
        parts = _halves(batch) if full else [[inputs] for inputs in batch]
        return [output for part in parts for output in apply(function, part, halved)]
    if len(outputs) != len(batch):
        wrong = InputError(f"returned {len(outputs)} results for {len(batch)} samples")
        return [wrong] * len(batch)
    return outputs


def _halves(batch: Sequence[Inputs]) -> list[Sequence[Inputs]]:
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, MercoreError) and not isinstance(error, InputError)


def out_of_memory(error: Exception) -> bool:
    """Return whether the device, or the machine, had too little memory."""
    # torch raises a RuntimeError: the first text is CUDA's, the others are the CPU allocator's.
    said = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error).lower() for text in said)
    )


def _device_failed(error: Exception) -> bool:
    # After such an error every other call in this process fails too, whatever the sample.
    said = ("cuda error", "cuda failure")
    return not out_of_memory(error) and any(text in str(error).lower() for text in said)
