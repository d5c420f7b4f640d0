"""How long `mer lm build` takes for 10 MB of made-up text, and reading its model.

python benchmarks/language_model.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mercore.ngrams import read_arpa

WORDS, LONGEST = 30_000, 3
CHARACTERS = 5_000


def write(path: Path, megabytes: float) -> None:
    """Write sentences of 15 words of 1 to 3 Chinese characters, both drawn by Zipf's law."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, LONGEST + 1, WORDS)
    letters = random.choice(CHARACTERS, (WORDS, LONGEST), p=zipf(CHARACTERS)) + 0x4E00
    words = ["".join(map(chr, row[:n])) for row, n in zip(letters, lengths, strict=True)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            drawn = random.choice(WORDS, (1000, 15), p=zipf(WORDS))
            file.writelines("".join(words[i] for i in row) + "\n" for row in drawn)


def zipf(count: int) -> np.ndarray:
    """Return probabilities that fall as 1 / rank."""
    weights = 1 / np.arange(1, count + 1)
    found: np.ndarray = weights / weights.sum()
    return found


def build(corpus: Path, model: Path, order: int) -> tuple[float, float]:
    """Return the seconds that the command takes, start-up included, and its peak in GB."""
    code = (
        "import resource, sys\n"
        "from mercore.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)\n"
    )
    arguments = ["lm", "build", str(corpus), "--out", str(model), "--order", str(order)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    *said, peak = done.stdout.splitlines()
    print(said[0])
    return seconds, float(peak)


def main() -> None:
    """Print a line an order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 5])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, model = Path(folder) / "corpus.txt", Path(folder) / "lm.arpa"
        write(corpus, options.megabytes)
        for order in options.orders:
            seconds, peak = build(corpus, model, order)
            start = time.perf_counter()
            ngrams = len(read_arpa(model).probabilities)
            read = time.perf_counter() - start
            print(f"order {order}: built in {seconds:.1f} s, peak {peak:.2f} GB; ", end="")
            print(f"{ngrams} n-grams read in {read:.1f} s")


if __name__ == "__main__":
    main()
