"""How fast `ct_transformer` is beside FunASR, on a CPU.

    python benchmarks/punctuation.py [--rounds 5] [--threads 1] [--short 64] [--long 4]
        [--window 20]

The network has the sizes of the large one published and random weights, biased so that a mark
follows about one word in eight and a full stop one in thirty. The texts are random words of jieba's
dictionary, by their frequency: short ones as of clips, of 5 to 40 characters, and long ones of
600. FunASR's ``AutoModel.generate`` is called once a text, which is all that it does with a list;
`ct_transformer` gets the texts as one batch. Both are loaded once, run in one process, and take
turns, so that both see the same machine; a ratio is the median over the rounds. Texts are equal
but for what is documented; the share of equal ones is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import jieba
import torch
import yaml

from mercore.components import Noted
from mercore.media import Text
from mercore_paraformer import CTTransformer

MARKS: Final = ["<unk>", "_", "，", "。", "？", "、"]
BIAS: Final = (-50.0, 4.2, 1.0, 0.6, -1.0, -1.0)
VOCABULARY, WIDTH, FFN, BLOCKS, HEADS, KERNEL = 471_067, 516, 2048, 12, 12, 11

Punctuate = Callable[[Sequence[str]], list[str]]


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
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
    with TemporaryDirectory() as folder:
        checkpoint(Path(folder), words)
        ours, theirs = mercore(folder, told.window), funasr(folder)
        torch.set_num_threads(told.threads)  # FunASR sets it when it loads
        for name, texts in cases.items():
            compare(name, texts, ours, theirs, told.rounds)


def compare(
    name: str, texts: Sequence[str], ours: Punctuate, theirs: Punctuate, rounds: int
) -> None:
    """Print the medians of both and of their ratio."""
    equal = sum(map(str.__eq__, ours(texts), theirs(texts)))  # warms up, too
    taken = [(seconds(theirs, texts), seconds(ours, texts)) for _ in range(rounds)]
    theirs_median, ours_median = map(statistics.median, zip(*taken, strict=True))
    ratio = statistics.median(one / other for one, other in taken)
    characters = sum(map(len, texts))
    print(
        f"{name}: {len(texts)} texts, {characters} characters; FunASR {theirs_median:.2f} s, "
        f"ct_transformer {ours_median:.2f} s ({characters / ours_median:.0f} characters a second), "
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


def funasr(folder: str) -> Punctuate:
    """Return FunASR's, which prints when it is imported and loaded."""
    with contextlib.redirect_stdout(io.StringIO()):
        from funasr import AutoModel

        model: Any = AutoModel(
            model=folder, device="cpu", disable_update=True, check_latest=False, disable_pbar=True
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


def checkpoint(folder: Path, words: Sequence[str]) -> None:
    """Write a network of the large one's sizes with random weights, as it is published."""
    filler = [f"word{number}" for number in range(VOCABULARY - 1 - len(words))]
    (folder / "tokens.json").write_text(json.dumps(["<unk>", *words, *filler]))
    (folder / "jieba_usr_dict").write_text("今天天气 10 n\n", encoding="utf-8")
    metas = {
        "init_param": "model.pt",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json"},
        "jieba_usr_dict": "jieba_usr_dict",
    }
    (folder / "configuration.json").write_text(json.dumps({"file_path_metas": metas}))
    config = {
        "model": "CTTransformer",
        "model_conf": {"embed_unit": WIDTH, "att_unit": WIDTH, "punc_list": MARKS},
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "input_size": WIDTH,
            "output_size": WIDTH,
            "attention_heads": HEADS,
            "linear_units": FFN,
            "num_blocks": BLOCKS,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "kernel_size": KERNEL,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    torch.save(weights(), folder / "model.pt")


def weights() -> dict[str, torch.Tensor]:
    """Return random weights under their published names."""
    torch.manual_seed(0)
    found = {"embed.weight": torch.randn(VOCABULARY, WIDTH)}

    def linear(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"] = torch.randn(out, into) * into**-0.5
        found[f"{name}.bias"] = torch.zeros(out)

    def norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)

    for block in range(BLOCKS):
        name = f"encoder.encoders.{block - 1}" if block else "encoder.encoders0.0"
        linear(f"{name}.self_attn.linear_out", WIDTH, WIDTH)
        linear(f"{name}.self_attn.linear_q_k_v", 3 * WIDTH, WIDTH)
        found[f"{name}.self_attn.fsmn_block.weight"] = torch.randn(WIDTH, 1, KERNEL) / KERNEL
        linear(f"{name}.feed_forward.w_1", FFN, WIDTH)
        linear(f"{name}.feed_forward.w_2", WIDTH, FFN)
        norm(f"{name}.norm1")
        norm(f"{name}.norm2")
    norm("encoder.after_norm")
    linear("decoder", len(MARKS), WIDTH)
    found["decoder.bias"] = torch.tensor(BIAS)
    return found


if __name__ == "__main__":
    main()
