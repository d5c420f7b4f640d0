"""What denoising does to the demo: errors of the ASR, and the WAF of the ensemble.

    OMP_NUM_THREADS=1 python benchmarks/noise.py [--seeds 5]

The demo's registry four times, with one store: the noisy audio itself, always the denoised audio,
the recording chosen by its transcript (section 2.4.2 of the paper), and that for the prosody alone.
Word error rates are of the transcript, on the splits `test` (clean) and `test_noise`; WAF is the
mean over the seeds, with its standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from _words import error_rate

from mercore.manifest import Sample
from mercore.media import Text, Words
from mercore.metrics import waf
from mercore.project import Project
from mercore.streams import unpack

DEMO = Path("examples/demo/manifest.csv").absolute()
SPLITS = ("test", "test_noise")
Registry = dict[str, Any]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    print("| the speech is | WER clean | WER noisy | WAF clean | WAF noisy |")
    print("|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for name, changed in VARIANTS.items():
            projects = [opened(Path(folder), changed, seed) for seed in seeds]
            projects[0].extract()
            numbers = [f"{rate:.3f}" for rate in transcribed(projects[0])]
            numbers += [f"{mean:.3f} ± {sd:.3f}" for mean, sd in decided(projects)]
            print(f"| {name} | {' | '.join(numbers)} |", flush=True)
        print_choices(projects[0])


def noisy(registry: Registry) -> None:
    """Leave denoising out."""
    for name in ("noisy_text", "denoised"):
        del registry["streams"][name]
    registry["streams"]["transcript"]["inputs"] = {"audio": "audio"}
    registry["features"]["prosody"]["inputs"] = {"audio": "audio"}


def always(registry: Registry) -> None:
    """Take the denoised audio unseen."""
    del registry["streams"]["noisy_text"]
    registry["streams"]["denoised"] = {"uses": "deepfilternet", "inputs": {"audio": "audio"}}


def chosen(registry: Registry) -> None:
    """Leave the registry as it is."""


def chosen_for_prosody(registry: Registry) -> None:
    """Transcribe the noisy audio."""
    registry["streams"]["transcript"]["inputs"] = {"audio": "audio"}


VARIANTS: Mapping[str, Callable[[Registry], None]] = {
    "noisy": noisy,
    "always denoised": always,
    "chosen by transcript, for prosody alone": chosen_for_prosody,
    "chosen by transcript": chosen,
}


def opened(folder: Path, changed: Callable[[Registry], None], seed: int) -> Project:
    """Return the project of one variant of the demo's registry."""
    registry = yaml.safe_load(Path("registry.yaml").read_text(encoding="utf-8"))
    changed(registry)
    registry["seed"] = seed
    path = folder / f"{changed.__name__}_{seed}.yaml"
    path.write_text(yaml.safe_dump(registry, sort_keys=False), encoding="utf-8")
    return Project.open(path, DEMO, folder / "mer.zarr", out=folder / path.stem, create=True)


def transcribed(project: Project) -> Iterator[float]:
    """Yield the word error rate of each split."""
    node = project.pipeline.nodes["transcript"]
    stored = project.store.collection(node.groups[0], node.name, node.fingerprint)
    assert stored is not None
    for split in SPLITS:
        pairs = []
        for sample in of_split(project, split):
            text = unpack(stored.sequence(sample.id), {}, Words())
            assert isinstance(text, Text)
            pairs.append((sample.extra["sentence"], text.content))
        yield error_rate(pairs)


def decided(projects: Sequence[Project]) -> Iterator[tuple[float, float]]:
    """Yield the mean and the standard deviation of each split's WAF."""
    tables = []
    for project in projects:
        project.train()
        tables.append(project.decide(project.branch_results()).labels)
    project = projects[0]
    splits = np.array([sample.split for sample in project.manifest.samples])
    for split in SPLITS:
        rows = splits == split
        scores = [waf(project.labels[rows], table[rows], 6) for table in tables]
        yield float(np.mean(scores)), float(np.std(scores, ddof=1))


def print_choices(project: Project) -> None:
    """Print what was chosen for the noisy split, and how much a perfect choice would gain."""
    node = project.pipeline.nodes["denoised"]
    stored = project.store.collection(node.groups[0], node.name, node.fingerprint)
    assert stored is not None
    entries = stored.entries()
    print(
        "\n| noisy split | clips | WER noisy | WER denoised | WER residual | WER chosen | least |"
    )
    print("|---|---|---|---|---|---|---|")
    samples = of_split(project, "test_noise")
    heard = {s.id: entries[s.id].record for s in samples}
    for decision in ("original", "denoised", "residual", "all"):
        some = [s for s in samples if decision in ("all", heard[s.id]["decision"])]
        if some:
            print(f"| {decision} | {len(some)} | {' | '.join(rates(some, heard))} |")


def rates(samples: Sequence[Sample], heard: Mapping[str, Any]) -> Iterator[str]:
    """Yield the error rates of the noisy audio, both recordings, the choice and the best one."""
    said = [sample.extra["sentence"] for sample in samples]
    texts = [heard[sample.id]["texts"] for sample in samples]
    for name in ("noisy", "denoised", "residual"):
        yield f"{error_rate([(s, t[name]) for s, t in zip(said, texts, strict=True)]):.3f}"
    taken = [heard[sample.id]["decision"].replace("original", "noisy") for sample in samples]
    pairs = [(s, t[name]) for s, t, name in zip(said, texts, taken, strict=True)]
    yield f"{error_rate(pairs):.3f}"
    best = [(s, closest(s, list(t.values()))) for s, t in zip(said, texts, strict=True)]
    yield f"{error_rate(best):.3f}"


def closest(spoken: str, texts: Sequence[str]) -> str:
    """Return the text with the fewest errors."""
    return min(texts, key=lambda text: error_rate([(spoken, text)]))


def of_split(project: Project, split: str) -> list[Sample]:
    """Return the samples of a split."""
    return [sample for sample in project.manifest.samples if sample.split == split]


if __name__ == "__main__":
    main()
