"""How much memory a training takes, before any weights are loaded.

Parameters, gradients and the state of the optimiser are counted. What the backward pass keeps is
measured: the network runs on torch's fake tensors, which have shapes and no memory, and every
tensor that autograd saves is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from transformers.modeling_layers import GradientCheckpointingLayer

from mercore.components import Encoder
from mercore.errors import RunError
from mercore.media import Audio, Media, Spec, Text, Video
from mercore.testing._samples import pictures, sound
from mercore.tuning._options import Tuning
from mercore.tuning._trainee import Example, Trainee

SECONDS, FRAMES, CHARACTERS = 10.0, 16, 100
"""How long the sample is that the plan is for."""
DEVICES = (1, 2, 4, 8)
_STATE = {"adamw": 2, "sgd": 1}  # numbers of the optimiser for each parameter


@dataclass(frozen=True)
class Need:
    """Bytes on each device."""

    devices: int
    sharded: bool
    """Whether each device holds a part of the weights (FSDP), or all of them (DDP)."""
    weights: int
    gradients: int
    optimiser: int
    activations: int
    """For the samples at once."""
    at_once: int
    fits: int | None
    """The most samples at once that fit the memory; None where no memory was given."""

    @property
    def total(self) -> int:
        """All of it; what libraries and fragments take comes to it, often 1 to 2 GiB on a GPU."""
        return self.weights + self.gradients + self.optimiser + self.activations


@dataclass(frozen=True)
class Plan:
    """The memory of a training."""

    parameters: int
    trained: int
    needs: tuple[Need, ...]


def plan(tuning: Tuning, encoder: Encoder, classes: int, memory: int | None = None) -> Plan:
    """Return the memory that a training takes on each device, with and without sharding.

    `memory` is how many bytes a device has. For a sample of 10 s, 16 frames, 100 characters.
    Raises RunError for a network that cannot run without its weights.
    """
    whole = tuning.model_copy(update={"recompute": False})  # so that all that is saved is seen
    trainee = whole.prepare(encoder, classes, weights=False)
    module = trainee.module.to("meta")
    parameters = list(module.parameters())
    sizes = [(p.numel(), p.numel() * p.element_size()) for p in parameters]
    trained = [size for size, p in zip(sizes, parameters, strict=True) if p.requires_grad]
    fixed = (
        sum(size for _, size in sizes)
        + sum(b.numel() * b.element_size() for b in module.buffers()),
        sum(size for _, size in trained),
        _STATE[tuning.optimizer] * sum(size for _, size in trained),
    )
    one = _kept(trainee, _example(trainee, encoder, tuning.trunk(encoder)), tuning)
    needs = [
        _need(fixed, one, tuning, devices, sharded, memory)
        for devices in DEVICES
        for sharded in ((False, True) if devices > 1 else (False,))
    ]
    return Plan(sum(count for count, _ in sizes), sum(count for count, _ in trained), tuple(needs))


def device_memory() -> int | None:
    """Return the bytes of the first GPU; None where there is none."""
    return torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None


def _need(
    fixed: Sequence[int],
    one: int,
    tuning: Tuning,
    devices: int,
    sharded: bool,
    memory: int | None,
) -> Need:
    weights, gradients, optimiser = (size // devices if sharded else size for size in fixed)
    at_once = min(tuning.at_once, max(1, tuning.batch // devices))
    left = (memory or 0) - weights - gradients - optimiser
    fits = None if memory is None else max(0, left // max(1, one))
    return Need(devices, sharded, weights, gradients, optimiser, one * at_once, at_once, fits)


def _example(trainee: Trainee, encoder: Encoder, trunk: Encoder | None) -> Example:
    random = np.random.default_rng(0)
    if trunk is not None:
        rows = [np.zeros(trunk.dim or 0, np.float32)] * FRAMES
        return trainee.from_trunk(rows, random, training=True)
    sample = {name: _media(spec) for name, spec in encoder.needs().items()}
    return trainee.example(sample, random, training=True)


def _media(spec: Spec) -> Media:
    if isinstance(spec, Audio):
        return sound(SECONDS, spec.rate)
    if isinstance(spec, Video):
        return pictures(FRAMES)
    return Text(("the quick brown fox " * CHARACTERS)[:CHARACTERS])


def _kept(trainee: Trainee, example: Example, tuning: Tuning) -> int:
    """Return the bytes that the backward pass keeps of one sample."""
    two, one = (_saved(trainee, [example] * count, tuning) for count in (2, 1))
    return two - one


def _saved(trainee: Trainee, examples: Sequence[Any], tuning: Tuning) -> int:
    module, batch = trainee.module.train(), trainee.batch(examples)
    batch.pop("shares", None)
    blocks, saved = _Blocks(module), dict[int, tuple[int, int]]()
    with FakeTensorMode() as fake:
        weights = {name: _empty(p) for name, p in _tensors(module)}
        own = {_storage(tensor) for tensor in weights.values()}
        inputs = {name: fake.from_tensor(tensor) for name, tensor in batch.items()}

        def note(tensor: Tensor) -> Tensor:
            if (key := _storage(tensor)) not in own:
                saved.setdefault(key, (blocks.current, _bytes(tensor, tuning)))
            return tensor

        try:
            with blocks.watched(tuning), saved_tensors_hooks(note, _same):
                # Kept while it is counted, so that no storage is used twice.
                graph = functional_call(module, weights, (), inputs)
        # An operation whose shapes torch does not know, or one that looks at values.
        except (NotImplementedError, RuntimeError) as error:
            raise RunError(
                "the memory cannot be planned: the network does not run without its weights: "
                f"{(str(error) or type(error).__name__).splitlines()[0]}"
            ) from error
        del graph
    return blocks.kept(saved, recompute=tuning.recompute)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _empty(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype).requires_grad_(tensor.requires_grad)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _storage(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _bytes(tensor: Tensor, tuning: Tuning) -> int:
    """Return the size of a saved tensor; of half precision half of what float32 takes."""
    size = tensor.untyped_storage().nbytes()
    half = tuning.precision in ("bfloat16", "float16") and tensor.dtype == torch.float32
    return size // 2 if half else size


class _Blocks:
    """The blocks of a network, which are what is computed again with ``recompute``.

    They are those of its largest stack, and all that transformers would compute again.
    """

    def __init__(self, module: nn.Module) -> None:
        lists = [m for m in module.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
        largest = list(max(lists, key=_weight, default=[]))
        others = [m for m in module.modules() if isinstance(m, GradientCheckpointingLayer)]
        self._blocks = list(dict.fromkeys([*largest, *others]))
        self.current = -1
        self._inputs: dict[int, int] = {}

    @contextmanager
    def watched(self, tuning: Tuning) -> Iterator[None]:
        """Note which block runs, and how large its inputs are."""
        handles = []
        for number, block in enumerate(self._blocks):

            def begin(_: nn.Module, given: Any, number: int = number) -> None:
                self.current = number
                tensors = [value for value in given if isinstance(value, Tensor)]
                self._inputs[number] = sum(_bytes(tensor, tuning) for tensor in tensors)

            def end(_: nn.Module, given: Any, output: Any) -> None:
                self.current = -1

            handles += [block.register_forward_pre_hook(begin), block.register_forward_hook(end)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def kept(self, saved: Mapping[int, tuple[int, int]], *, recompute: bool) -> int:
        """Return the bytes kept; with `recompute` the inputs of the blocks and one block's."""
        if not recompute:
            return sum(size for _, size in saved.values())
        inside = [0] * (len(self._blocks) or 1)
        outside = 0
        for block, size in saved.values():
            if block < 0:
                outside += size
            else:
                inside[block] += size
        inputs = sum(size for block, size in self._inputs.items() if inside[block])
        return outside + inputs + max(inside)


def _weight(blocks: nn.ModuleList | nn.Sequential) -> int:
    return sum(p.numel() for p in blocks.parameters()) if len(blocks) > 1 else 0
