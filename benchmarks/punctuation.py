"""How fast `ct_transformer` is beside FunASR, on a CPU.

    python benchmarks/punctuation.py [tiny] [full] [--rounds 5] [--threads 1] [--short 64]
        [--long 4] [--window 20]

The weights are random, biased so that a mark follows about one word in eight and a full stop one in
thirty; `full` has the sizes of the large network published, `tiny` those of the tests. The texts
are random words of jieba's dictionary, by their frequency: short ones as of clips, of 5 to 40
characters, and long ones of 600. FunASR's ``AutoModel.generate`` is called once a text, which is
all that it does with a list; `ct_transformer` gets the texts as one batch. Both are loaded once,
run in one process, and take turns, so that both see the same machine; a ratio is the median over
the rounds. A real-time factor takes five characters for a second of speech. Texts are equal but for
what is documented; the share of equal ones is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import jieba
import torch

from mercore.components import Noted
from mercore.media import Text
from mercore_paraformer import CTTransformer

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins/paraformer/tests"))
from tiny_ct_transformer import TINY, Sizes, write

BIAS: Final = (-50.0, 4.2, 1.0, 0.6, -1.0, -1.0)
VOCABULARY: Final = 471_067
SPOKEN: Final = 5.0  # characters a second

Punctuate = Callable[[Sequence[str]], list[str]]


def main() -> None:
    """Print seconds, real-time factors and ratios of each size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", help="of tiny, full; both if none")
    defaults = {"rounds": 5, "threads": 1, "short": 64, "long": 4, "window": 20}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    told = parser.parse_args()
    words, weights = dictionary()
    chance = random.Random(0)

    def made_up(length: int) -> str:
        return "".join(chance.choices(words, weights, k=length))[:length]

    cases = {
        "short": [made_up(chance.randint(5, 40)) for _ in range(told.short)],
        "long": [made_up(600) for _ in range(told.long)],
    }
    known = sizes(words)
    for size in told.sizes or known:
        with TemporaryDirectory() as folder:
            write(Path(folder), sizes=known[size], bias=BIAS)
            ours, theirs = mercore(folder, told.window), funasr(folder, told.threads)
        for name, texts in cases.items():
            compare(f"{size}, {name}", texts, ours, theirs, told.rounds)


def sizes(words: Sequence[str]) -> Mapping[str, Sizes]:
    """Return the sizes by name, of networks that know the words."""
    filler = [f"word{number}" for number in range(VOCABULARY - 1 - len(words))]
    tokens = ["<unk>", *words, *filler]
    return {
        "tiny": replace(TINY["words"], tokens=tokens),
        "full": Sizes(width=516, heads=12, ffn=2048, blocks=12, tokens=tokens),
    }


def compare(
    name: str, texts: Sequence[str], ours: Punctuate, theirs: Punctuate, rounds: int
) -> None:
    """Print the medians of both and of their ratio."""
    equal = sum(map(str.__eq__, ours(texts), theirs(texts)))  # warms up, too
    taken = [(seconds(theirs, texts), seconds(ours, texts)) for _ in range(rounds)]
    theirs_median, ours_median = map(statistics.median, zip(*taken, strict=True))
    ratio = statistics.median(one / other for one, other in taken)
    characters = sum(map(len, texts))
    speech = characters / SPOKEN
    print(
        f"{name}: {len(texts)} texts, {characters} characters, {torch.get_num_threads()} threads; "
        f"FunASR {theirs_median:.2f} s (real-time factor {theirs_median / speech:.5f}), "
        f"ct_transformer {ours_median:.2f} s ({ours_median / speech:.5f}), "
        f"ratio {ratio:.2f}; {equal} of {len(texts)} texts equal",
        flush=True,
    )


def seconds(punctuate: Punctuate, texts: Sequence[str]) -> float:
    """Return how long it takes."""
    start = perf_counter()
    punctuate(texts)
    return perf_counter() - start


def mercore(folder: str, window: int) -> Punctuate:
    """Return `ct_transformer`."""
    transform = CTTransformer(checkpoint=folder, window=window).load("cpu", "float32")

    def punctuate(texts: Sequence[str]) -> list[str]:
        outputs = transform([{"text": Text(text)} for text in texts])
        found = [output.value if isinstance(output, Noted) else output for output in outputs]
        return [text.content for text in found if isinstance(text, Text)]

    return punctuate


def funasr(folder: str, threads: int) -> Punctuate:
    """Return FunASR's, which sets torch's number of threads, and prints while it loads."""
    with contextlib.redirect_stdout(io.StringIO()):
        from funasr import AutoModel

        model: Any = AutoModel(
            model=folder,
            device="cpu",
            ncpu=threads,
            disable_update=True,
            check_latest=False,
            disable_pbar=True,
        )
    return lambda texts: [model.generate(input=text)[0]["text"] for text in texts]


def dictionary() -> tuple[list[str], list[int]]:
    """Return the Chinese words of jieba's dictionary and how often they occur."""
    jieba.initialize()
    found = {
        word: count
        for word, count in jieba.dt.FREQ.items()
        if count and all("\u4e00" <= sign <= "\u9fa5" for sign in word)
    }
    return list(found), list(found.values())


if __name__ == "__main__":
    main()
