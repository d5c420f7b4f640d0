"""How fast branches are trained, against a plain PyTorch loop over the same network.

    python benchmarks/training.py [--epochs 5] [--seeds 3] [--search 50]

The plain loop is what one writes first, and what MERTools does: a Dataset that returns one sample,
a DataLoader that puts 32 of them together, ``torch.optim.Adam``, and an evaluation of the
validation and the test samples after each epoch. Its network is ``torch.nn`` modules of the layers
of `Attention` (with MERTools' raw weights, no standardisation, as its ``preset: mertools``).

Both do the same protocol: 5 folds of 5,030 samples, 1,169 test samples, batches of 32, width 128,
features of 1024, 5120 and 768 dimensions that carry a weak signal. ``--epochs`` says how many (the
paper: 100); the time of an epoch does not depend on it. CPU seconds are those of all threads; the
plain loop uses the threads that torch takes by itself.

With ``--search N``, the time of ``Search`` (N draws) is compared with that of the plain loop.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mercore.components import Labelled, Part
from mercore.machine import limited
from mercore.media import FloatArray
from mercore.metrics import waf
from mercore.pipeline import BranchNode
from mercore.search import Search
from mercore_attention import Attention

DIMS = {"hubert": 1024, "baichuan": 5120, "vit": 768}
COUNTS = (1248, 1208, 1038, 730, 616, 190)  # of the six classes in MER2024
TRAIN, TEST, FOLDS, HIDDEN, BATCH = sum(COUNTS), 1169, 5, 128, 32
CLASSES = len(COUNTS)


@dataclass(frozen=True, eq=False)
class Data:
    """Synthetic samples: the training samples first, then the test samples."""

    features: dict[str, FloatArray]
    labels: NDArray[np.int64]

    def parts(self, seed: int) -> list[Part]:
        """Return the folds."""
        folds = np.random.default_rng(seed).permutation(TRAIN) % FOLDS
        return [
            Part(np.flatnonzero(folds != k), np.flatnonzero(folds == k), seed * FOLDS + k)
            for k in range(FOLDS)
        ]


def made() -> Data:
    """Return features in which the classes overlap: a WAF of about 0.7."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), COUNTS)
    labels = np.concatenate([random.permutation(labels), random.choice(labels, TEST)])
    features = {}
    for name, dim in DIMS.items():
        centres = random.standard_normal((CLASSES, dim)).astype(np.float32)
        noise = random.standard_normal((len(labels), dim)).astype(np.float32)
        features[name] = noise + np.float32(1.5 / dim**0.5) * centres[labels]
    return Data(features, labels)


class Encoder(nn.Sequential):
    """Dropout, then three times linear and ReLU."""

    def __init__(self, inputs: int, dropout: float) -> None:
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for width in (inputs, HIDDEN, HIDDEN):
            layers += [nn.Linear(width, HIDDEN), nn.ReLU()]
        super().__init__(*layers)


class Plain(nn.Module):
    """The network as modules."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(dim, dropout) for dim in DIMS.values())
        self.attention = Encoder(HIDDEN * len(DIMS), dropout)
        self.score = nn.Linear(HIDDEN, len(DIMS))
        self.classify = nn.Linear(HIDDEN, CLASSES)

    def forward(self, batch: list[Tensor]) -> Tensor:
        """Return the logits."""
        encoded = [encoder(x) for encoder, x in zip(self.encoders, batch, strict=True)]
        score = self.score(self.attention(torch.cat(encoded, dim=1)))
        fused = torch.bmm(torch.stack(encoded, dim=2), score.unsqueeze(2)).squeeze(2)
        logits: Tensor = self.classify(fused)
        return logits


class Samples(Dataset[tuple[list[Tensor], int]]):
    """One sample at a time."""

    def __init__(self, data: Data, rows: NDArray[np.int64]) -> None:
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        row = self.rows[index]
        features = [torch.from_numpy(x[row]) for x in self.data.features.values()]
        return features, int(self.data.labels[row])


def plain(data: Data, parts: list[Part], epochs: int, options: Attention) -> float:
    """Train every fold; return the WAF of the validation samples, all folds together."""
    test = np.arange(TRAIN, TRAIN + TEST)
    predicted = np.zeros(TRAIN, np.int64)
    for part in parts:
        torch.manual_seed(part.seed)
        network, best = Plain(options.dropout), -1.0
        optimiser = torch.optim.Adam(
            network.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        loss = nn.CrossEntropyLoss()
        train = DataLoader(Samples(data, part.train), BATCH, shuffle=True)
        valid, held_out = (DataLoader(Samples(data, rows), BATCH) for rows in (part.valid, test))
        for _ in range(epochs):
            network.train()
            for batch, labels in train:
                optimiser.zero_grad()
                loss(network(batch), labels).backward()
                optimiser.step()
            network.eval()
            with torch.no_grad():
                found = torch.cat([network(batch).argmax(dim=1) for batch, _ in valid]).numpy()
                torch.cat([network(batch).argmax(dim=1) for batch, _ in held_out])
            score = waf(data.labels[part.valid], found, CLASSES)
            if score > best:
                best, predicted[part.valid] = score, found
    return waf(data.labels[:TRAIN], predicted, CLASSES)


def ours(data: Data, parts: list[Part], fusion: Attention) -> float:
    """Train every fold and predict the test samples; return the WAF as above."""
    labelled = Labelled(data.features, data.labels)
    predicted = np.zeros(TRAIN, np.int64)
    with limited(1):
        fitted = fusion.fit_all(labelled, parts, classes=CLASSES, device="cpu")
        for weights, part in zip(fitted, parts, strict=True):
            predict = fusion.load(weights, "cpu")
            rows = np.concatenate([part.valid, np.arange(TRAIN, TRAIN + TEST)])
            found = predict({name: x[rows] for name, x in data.features.items()}).argmax(axis=1)
            predicted[part.valid] = found[: len(part.valid)]
    return waf(data.labels[:TRAIN], predicted, CLASSES)


@dataclass(frozen=True)
class Time:
    """Seconds that something took."""

    cpu: float
    wall: float


def timed(action: Callable[[], float]) -> tuple[float, Time]:
    """Return what `action` returns, and the time it took."""
    wall, cpu = time.perf_counter(), sum(os.times()[:2])
    value = action()
    return value, Time(sum(os.times()[:2]) - cpu, time.perf_counter() - wall)


def searched(data: Data, epochs: int, draws: int, lr: float) -> float:
    """Search `draws` draws; return the out-of-fold WAF of the best."""
    branch = BranchNode("one", tuple(DIMS), Attention(hidden=HIDDEN, epochs=epochs, lr=lr), "")
    parts = data.parts(0)

    def scores(nodes: Sequence[BranchNode]) -> Iterator[float]:
        for node in nodes:
            assert isinstance(node.fusion, Attention)
            yield ours(data, parts, node.fusion)

    return max(trial.waf for trial in Search(branch, draws, seed=0).run(scores))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search", type=int, default=0, metavar="DRAWS")
    args = parser.parse_args()
    data = made()
    fusion = Attention(preset="mertools", hidden=HIDDEN, batch=BATCH, epochs=args.epochs)
    times: dict[str, list[Time]] = {"plain": [], "mercore": []}
    print(f"5 folds x {args.epochs} epochs; torch threads {torch.get_num_threads()}")
    for seed in range(args.seeds):
        parts = data.parts(seed)
        scores = {}
        for name, action in {
            "plain": lambda: plain(data, parts, args.epochs, fusion),  # noqa: B023
            "mercore": lambda: ours(data, parts, fusion),  # noqa: B023
        }.items():
            scores[name], took = timed(action)
            times[name].append(took)
        slow, fast = times["plain"][-1], times["mercore"][-1]
        print(
            f"seed {seed}: WAF plain {scores['plain']:.4f}, mercore {scores['mercore']:.4f}; "
            f"CPU s {slow.cpu:.1f} and {fast.cpu:.1f} ({slow.cpu / fast.cpu:.1f}x), "
            f"wall s {slow.wall:.1f} and {fast.wall:.1f} ({slow.wall / fast.wall:.1f}x)"
        )
    steps = args.epochs * FOLDS * -(-TRAIN * (FOLDS - 1) // FOLDS // BATCH)
    for name, all_seeds in times.items():
        cpu = np.median([part.cpu for part in all_seeds]) / steps
        print(f"{name}: {1e3 * cpu:.2f} CPU ms a step of one fold, evaluation and all")
    if args.search:
        found, took = timed(lambda: searched(data, args.epochs, args.search, fusion.lr))
        whole = float(np.median([part.cpu for part in times["plain"]]))
        print(
            f"search of {args.search} draws: WAF {found:.4f}, {took.cpu:.1f} CPU s, as many as the "
            f"plain loop takes for {took.cpu / whole:.1f} trainings"
        )


if __name__ == "__main__":
    main()
