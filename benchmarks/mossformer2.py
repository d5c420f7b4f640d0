"""How fast mossformer2's network is beside ModelScope's own module, on a CPU.

    python benchmarks/mossformer2.py [--seconds 4.5] [--rounds 3] [--threads 1] [--rates 8000 16000]
        [--blocks 24] [--width 512]

Both have the same size, the published one unless told otherwise (24 blocks, 512 channels; that of
the tests is 2 blocks, 16 channels), and the same random weights, and separate the same clip, whole,
in float32 and without gradients. They take turns in one process, so that both see the same machine;
a ratio is the median over the rounds. CPU seconds count all threads, and say more than wall seconds
where others use the machine. A real-time factor is seconds of work a second of audio. The last
column is the largest difference between the two as a share of the largest value.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from modelscope.models.audio.separation.m2.mossformer import MossFormer2 as Theirs

from mercore_mossformer2._network import MossFormer2 as Ours

BLOCKS, WIDTH = 24, 512

Separate = Callable[[torch.Tensor], torch.Tensor]
"""From audio ``(samples,)`` to two recordings ``(2, samples)``."""


def main() -> None:
    """Print a row a sampling rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rates", type=int, nargs="+", default=[8_000, 16_000])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--width", type=int, default=WIDTH, help="channels")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    theirs, ours = networks(given.blocks, given.width)
    print(
        f"{given.seconds:g} s, {given.threads} threads, {given.blocks} blocks, {given.width} wide\n"
        "| | ModelScope, wall s (CPU s) | mercore | times as fast, wall | CPU "
        "| real-time factor, wall | CPU | difference |\n" + "|---" * 8 + "|"
    )
    for rate in given.rates:
        numbers = np.random.default_rng(rate).standard_normal(round(given.seconds * rate))
        audio = torch.from_numpy(0.05 * numbers).float()
        print(row(rate, given.seconds, theirs, ours, audio, given.rounds), flush=True)


def networks(blocks: int, width: int) -> tuple[Separate, Separate]:
    """Return both, with the same random weights."""
    torch.manual_seed(0)
    module: Any = Theirs(".", in_channels=width, out_channels=width, num_blocks=blocks).eval()
    weights = {name: weight.detach() for name, weight in module.state_dict().items()}
    return lambda audio: module(audio[None])[0].T, Ours(weights, blocks).eval()


def row(
    rate: int, seconds: float, theirs: Separate, ours: Separate, audio: torch.Tensor, rounds: int
) -> str:
    """Return what the rounds came to."""
    wall, cpu = np.zeros((rounds, 2)), np.zeros((rounds, 2))
    outputs: dict[int, torch.Tensor] = {}
    for turn in range(rounds):
        for place in (0, 1) if turn % 2 else (1, 0):
            began = perf_counter(), process_time()
            with torch.inference_mode():
                outputs[place] = (theirs, ours)[place](audio)
            wall[turn, place], cpu[turn, place] = (
                perf_counter() - began[0],
                process_time() - began[1],
            )
    apart = (outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()
    (w0, w1), (c0, c1) = np.median(wall, axis=0), np.median(cpu, axis=0)
    fast = [np.median(spent[:, 0] / spent[:, 1]) for spent in (wall, cpu)]
    return (
        f"| {rate} Hz | {w0:.3g} ({c0:.3g}) | {w1:.3g} ({c1:.3g}) | {fast[0]:.2f} | {fast[1]:.2f} "
        f"| {w1 / seconds:.3g} | {c1 / seconds:.3g} | {apart:.0e} |"
    )


if __name__ == "__main__":
    main()
