"""The machine a run is on: its device, its cores, and how much of them is used."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from mercore.errors import RunError
from mercore.limits import DEFAULT, Limits

_VARIABLE = "OMP_NUM_THREADS"
_OUTSIDE: ContextVar[int | None] = ContextVar("cores outside of limited", default=None)


@dataclass(frozen=True)
class Machine:
    """Where and how to run; none of it is part of the experiment."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    batch: float = 1.0
    """Scales how much media one batch holds."""
    threads: int = 2
    """Threads that decode ahead."""
    parallel: int = 0
    """Streams and features extracted at once; 0 is two on a CPU with the cores for it, else one."""
    limits: Limits = DEFAULT
    """What a clip may be; one that is more fails alone."""
    devices: str = ""
    """Where worker processes extract: ``cuda:0,cuda:1``, one each, or ``cpu:2``, two on the CPU.
    Empty: this process extracts, on `device`."""
    retries: int = 2
    """How often a sample may end a worker process by itself before it is given up."""
    engine: str = "local"
    """``local``, this machine; ``ray``, a Ray cluster, on which extraction and training run."""
    address: str = "auto"
    """Of the Ray cluster: ``HOST:PORT``, ``auto`` for the one that this machine belongs to, or
    ``local`` for a new one on this machine, which ends with this process."""
    workers: int = 0
    """Workers on the Ray cluster that extract; 0 is one a GPU, or one a node where none has any."""

    def __post_init__(self) -> None:
        if not self.batch > 0:
            raise RunError(f"batch {self.batch!r}: expected a number above 0")
        if self.retries < 1:
            raise RunError(f"retries {self.retries!r}: expected 1 or more")
        _ = self.processes  # raises for what is no device
        self._check_engine()

    def _check_engine(self) -> None:
        if self.engine not in ("local", "ray"):
            raise RunError(f"engine {self.engine!r}: expected local or ray")
        if self.engine == "local" and (self.workers or self.address != "auto"):
            name = "workers" if self.workers else "address"
            raise RunError(f"{name} {getattr(self, name)!r}: is for engine 'ray' alone")
        if self.engine == "ray" and self.devices:
            cure = "give the number of workers, and device 'cpu' or 'cuda' for all"
            raise RunError(f"devices {self.devices!r}: is for engine 'local'; {cure}")
        if self.engine == "ray" and self.device not in ("auto", "cpu", "cuda"):
            raise RunError(f"device {self.device!r}: on a Ray cluster expected auto, cpu or cuda")
        if not re.fullmatch(r"auto|local|[\w.-]+:\d+", self.address):
            raise RunError(f"address {self.address!r}: expected auto, local or HOST:PORT")
        if self.workers < 0:
            raise RunError(f"workers {self.workers!r}: expected 0 or more")

    @property
    def processes(self) -> tuple[str, ...]:
        """The device of each worker process that extracts; none where this process does."""
        parts = [part.strip() for part in self.devices.split(",")] if self.devices else []
        return tuple(device for part in parts for device in _devices(part))

    def of_worker(self, device: str) -> Machine:
        """Return the machine as a worker sees it, on the one device it has."""
        return replace(self, device=device, devices="", engine="local", address="auto", workers=0)

    def check_devices(self) -> None:
        """Raise RunError where the GPU of a worker process is not there."""
        wanted = [device for device in self.processes if device != "cpu"]
        found = _gpus() if wanted else 0
        for device in wanted:
            if int(device.removeprefix("cuda:")) >= found:
                there = f"{found}; the last is 'cuda:{found - 1}'" if found else "no CUDA device"
                raise RunError(
                    f"devices {self.devices!r}: {device!r} is not there, torch finds {there}"
                )

    def at_once(self) -> int:
        """Return how many streams and features are extracted at once."""
        if self.parallel or self.devices or self.engine == "ray":
            return self.parallel or 1
        # Asking torch whether there is a GPU would import it, also when nothing is to be done.
        alone = self.device.startswith("cuda") or os.path.exists("/dev/nvidiactl")
        return 1 if alone and self.device != "cpu" else min(2, cores())

    def chosen_device(self) -> str:
        """Return the device, with ``auto`` resolved to the first GPU or the CPU."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise RunError(f"device {self.device!r}: expected auto, cpu, cuda or cuda:N")
        if self.device == "cpu":
            return "cpu"
        try:
            import torch

            found = torch.cuda.is_available()
        except ImportError:
            found = False
        if self.device != "auto" and not found:
            raise RunError(f"device {self.device!r}: torch finds no CUDA device; use --device cpu")
        return self.device if self.device != "auto" else "cuda" if found else "cpu"


def _devices(part: str) -> list[str]:
    """Return the devices that one part of ``cuda:0,cpu:2`` stands for."""
    if re.fullmatch(r"cuda:\d+", part):
        return [f"cuda:{int(part.removeprefix('cuda:'))}"]
    found = re.fullmatch(r"cpu(:[1-9]\d*)?", part)
    if not found:
        expected = "expected cuda:N for the GPU of that number, or cpu:N for N processes on the CPU"
        raise RunError(f"devices: {part!r}: {expected}, with commas between")
    return ["cpu"] * int((found[1] or ":1").removeprefix(":"))


def _gpus() -> int:
    """Return how many GPUs torch finds."""
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count()


def cores() -> int:
    """Return how many cores there are to use: OMP_NUM_THREADS, else those of this process."""
    given = os.environ.get(_VARIABLE, "")
    if given.isdigit() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_outside() -> int:
    """Return how many cores there are to use where ``limited`` leaves some of them to others."""
    return _OUTSIDE.get() or cores()


@contextmanager
def limited(count: int, outside: int | None = None) -> Iterator[None]:
    """Let torch, and libraries loaded meanwhile, use `count` threads for one operation.

    The number also decides the order of sums, so it is always set: results repeat bit for bit
    whether or not torch was loaded before. `outside` is what ``cores_outside`` is to say, if that
    is not the cores there are.
    """
    before, usual = os.environ.get(_VARIABLE), _torch_threads() or cores()
    token = _OUTSIDE.set(outside or cores_outside())
    os.environ[_VARIABLE] = str(max(1, count))
    _set_torch_threads(max(1, count))
    try:
        yield
    finally:
        _OUTSIDE.reset(token)
        _set_torch_threads(usual)
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else None


def _set_torch_threads(count: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
