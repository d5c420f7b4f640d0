"""How fast a masked autoencoder is pre-trained, against a plain PyTorch loop of the same network.

    python benchmarks/tuning.py [--size base] [--batch 8] [--steps 6] [--device cpu]

The plain loop is what one writes first: a DataLoader over the same examples, the loss, backward, a
step of AdamW. A step of one follows a step of the other in one process, so that whatever else the
machine does slows both; the first two pairs are left out. Pictures are 224 x 224 of noise in
memory: both prepare them, neither reads files.

With ``--device cuda`` the steps are in bfloat16 and compiled, the plain loop's too, and the rate is
also given as a share of what the GPU reaches in a large matrix product.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mercore.components import Inputs
from mercore.machine import Machine
from mercore.media import Frames
from mercore.tuning import Trainee
from mercore.tuning._data import Collate, Examples
from mercore.tuning.pretrain import Pretraining
from mercore.watch import Silent
from mercore_vit_mae import VitMAE, VitPretraining

LEFT_OUT = 2  # pairs of steps: caches, and what is compiled


@dataclass(frozen=True)
class Noise:
    """Pictures of noise."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Inputs:
        pixels = np.random.default_rng(row).integers(0, 256, (1, 224, 224, 3), np.uint8)
        return {"frames": Frames(pixels, np.zeros(1))}

    def name(self, row: int) -> str:
        """Return its number."""
        return str(row)


class Plain:
    """The loop that one writes first."""

    def __init__(
        self, trainee: Trainee, data: Examples, options: VitPretraining, device: str
    ) -> None:
        self.device, self.fast = device, device != "cpu"
        self.module = trainee.module.to(device).train()
        self.network = torch.compile(self.module) if self.fast else self.module
        self.optimizer = torch.optim.AdamW(self.module.parameters(), options.lr, options.betas)
        self.batches = self._batches(trainee, data, options.batch)

    def _batches(
        self, trainee: Trainee, data: Examples, size: int
    ) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from DataLoader(
                data, size, shuffle=True, collate_fn=Collate(trainee), drop_last=True,
                num_workers=2 if self.fast else 0,
            )  # fmt: skip

    def step(self) -> float:
        """Return the seconds of one step."""
        began = now(self.device)
        batch = {name: tensor.to(self.device) for name, tensor in next(self.batches).items()}
        del batch["labels"]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.fast):
            loss = self.network(**batch)["loss"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return now(self.device) - began


class Pairs(Silent):
    """Lets a step of the plain loop follow each step of the training, and times both."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain
        self.pairs: list[tuple[float, float]] = []
        self.since: float | None = None

    def advance(self, name: str, done: int, failed: int) -> None:
        """Be told of a step; the first call comes before any."""
        if self.since is not None:
            own = now(self.plain.device) - self.since
            self.pairs.append((own, self.plain.step()))
        self.since = now(self.plain.device)


def now(device: str) -> float:
    """Return the seconds, once the device has done all it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak() -> float:
    """Return the operations a second of a large bfloat16 product: the best of a few."""
    one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    times = []
    for _ in range(10):
        began = now("cuda")
        one @ one
        times.append(now("cuda") - began)
    return 2 * 8192**3 / min(times)


def operations(trainee: Trainee, data: Examples) -> int:
    """Return the operations of a picture, forward and backward."""
    batch = dict(Collate(trainee)([data[0]]))
    del batch["labels"]
    with FlopCounterMode(display=False) as counter:
        trainee.module.cpu()(**batch)["loss"].backward()
    return int(counter.get_total_flops())


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    count = (given.steps + LEFT_OUT) * given.batch
    fast = given.device != "cpu"
    options = VitPretraining.model_validate({
        "size": given.size, "batch": given.batch, "at_once": given.batch, "epochs": 1,
        "evaluate": 10**6, "compile": fast, "precision": "bfloat16" if fast else "float32",
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        pretraining = Pretraining(VitMAE(), "mercore-vit_mae 0.1.0", Noise(count + 1), {},
                                  Machine(given.device))  # fmt: skip
        job = pretraining.job(options.model_dump(exclude={"start"}), folder)
        data = job._examples(options.prepare(VitMAE(), 0), job.train, training=True)
        pairs = Pairs(Plain(options.prepare(VitMAE(), 0), data, options, given.device))
        replace(job, watch=pairs).run()
    times = np.array(pairs.pairs)[LEFT_OUT:]
    own, plain = given.batch / np.median(times, axis=0)
    ratio = np.median(times[:, 1] / times[:, 0])
    threads = torch.get_num_threads()
    print(f"ViT-{given.size}, batch {given.batch}, {given.device}, {threads} threads")
    print(
        f"mer pretrain {own:.2f} pictures/s, plain loop {plain:.2f}, ratio {ratio:.3f} "
        f"({len(times)} steps each)"
    )
    if fast:
        share = own * operations(options.prepare(VitMAE(), 0), data) / peak()
        print(f"share of the measured peak in bfloat16: {share:.1%}")


if __name__ == "__main__":
    main()
