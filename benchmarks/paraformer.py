"""How fast `paraformer` is, stage by stage and beside FunASR's own `generate`, on a CPU.

    python benchmarks/paraformer.py [tiny] [full] [--clips 8] [--rounds 3] [--threads 2]

The weights are random; `full` has the published size: 50 blocks, 16 layers, 8404 tokens. The clips
are noise and tones of 1 to 8 s, in no order of length. Real-time factors are seconds of work for a
second of audio. FunASR takes one clip at a time, as it does by default on a CPU; without dither.
The rounds are interleaved, so that both see the same machine, and a ratio is the median over them.
Loading is not counted, and neither is the first call of each.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from mercore.components import Inputs
from mercore.media import FloatArray, Waveform
from mercore_paraformer import Paraformer
from mercore_paraformer._asr import Transcriber, together
from mercore_paraformer._funasr import undisturbed
from mercore_paraformer._network import Network
from mercore_paraformer._readings import Heard, noted

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins/paraformer/tests"))
from tiny_paraformer import TINY, TOKENS, Sizes, write

RATE: Final = 16_000
SHORTEST, LONGEST = 1.0, 8.0  # seconds
VOCABULARY: Final = (*TOKENS, *map(chr, range(0xAC00, 0xAC00 + 8404)))[:8404]
SIZES: Final = {"tiny": TINY, "full": Sizes(512, 4, 2048, 50, 16, VOCABULARY)}


def main() -> None:
    """Print the stages and the ratio of each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", help=f"of {', '.join(SIZES)}; all of them")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for size in given.sizes or SIZES:
        with TemporaryDirectory() as folder:
            show(size, Path(folder), clips(given.clips), given.rounds)


def clips(count: int) -> list[FloatArray]:
    """Return audio of mixed lengths."""
    numbers = np.random.default_rng(0)
    found = []
    for number in range(count):
        share = number * 7 % count / max(1, count - 1)
        times = np.arange(int(RATE * (SHORTEST + share * (LONGEST - SHORTEST)))) / RATE
        tone = np.sin(2 * np.pi * numbers.uniform(100, 2000) * times)
        loud = 0.2 * np.abs(np.sin(2 * np.pi * 2 * times))
        noise = 0.02 * numbers.standard_normal(len(times))
        found.append((loud * tone + noise).astype(np.float32))
    return found


def show(size: str, folder: Path, audio: Sequence[FloatArray], rounds: int) -> None:
    """Print the real-time factors of one size."""
    write(folder, sizes=SIZES[size])
    ours = Paraformer(checkpoint=str(folder)).load("cpu", "float32")
    assert isinstance(ours, Transcriber)
    theirs = reference(folder)
    batch: list[Inputs] = [{"audio": Waveform(own, RATE)} for own in audio]
    seconds = sum(len(own) for own in audio) / RATE
    print(f"{size}: {len(audio)} clips, {seconds:.0f} s, {torch.get_num_threads()} threads")
    runs: dict[str, Callable[[], object]] = {
        "paraformer": lambda: ours(batch),
        "FunASR": lambda: theirs(audio),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = perf_counter()
            run()
            if number:
                taken[name].append((perf_counter() - start) / seconds)
    for name, factors in taken.items():
        print(f"  {name:<22} {median(factors):.4f}")
    ratios = [a / b for a, b in zip(taken["FunASR"], taken["paraformer"], strict=True)]
    print(f"  times as fast          {median(ratios):.2f}")
    for name, spent in stages(ours, audio).items():
        print(f"  {name:<22} {spent / seconds:.4f}")


def reference(folder: Path) -> Callable[[Sequence[FloatArray]], Any]:
    """Return FunASR's own function."""
    with undisturbed():
        from funasr import AutoModel

        model = AutoModel(
            model=str(folder),
            device="cpu",
            disable_update=True,
            check_latest=False,
            disable_pbar=True,
            ncpu=torch.get_num_threads(),
            frontend_conf={"dither": 0.0},
        )
    return lambda audio: model.generate(list(audio))


@torch.inference_mode()
def stages(ours: Transcriber, audio: Sequence[FloatArray]) -> dict[str, float]:
    """Return the seconds that each stage takes."""
    network = ours._score
    assert isinstance(network, Network)
    spent = dict.fromkeys(("features", "encoder", "predictor and decoder", "tokens and text"), 0.0)
    start = perf_counter()
    features = [ours._features(own) for own in audio]
    spent["features"] = perf_counter() - start
    for places in together(list(map(len, features)), network.alike):
        own = [features[place] for place in places]
        lengths = torch.tensor(list(map(len, own)))
        marks = [perf_counter()]
        encoded = network.encode(own, lengths)
        marks.append(perf_counter())
        heard, counts = network.predict(encoded, lengths)
        scores = network.decode(encoded, lengths, heard, counts).numpy()
        marks.append(perf_counter())
        for row, count in zip(scores, counts.tolist(), strict=True):
            read = Heard(row[:count], ours._decode(row[:count]))
            noted([read], ours._tokens, 1)
        marks.append(perf_counter())
        for name, first, last in zip(list(spent)[1:], marks, marks[1:], strict=False):
            spent[name] += last - first
    return spent


if __name__ == "__main__":
    main()
