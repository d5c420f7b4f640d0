"""What denoising does to the demo: errors of the ASR, and the WAF of the ensemble.

    OMP_NUM_THREADS=1 python benchmarks/noise.py [--seeds 5]

The demo's registry four times, with one store: the noisy audio itself, always the denoised audio,
the recording chosen by its transcript (section 2.4.2 of the paper), and that for the prosody alone.
Word error rates are of the transcript, on the splits `test` (clean) and `test_noise`; WAF is the
mean over the seeds, with its standard deviation. Then, for one kind of noise at a time, what was
chosen, and what the best of the three recordings would have given, chosen by its errors.
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

from mercore.components import Noted
from mercore.decode import read_audio
from mercore.encode import write_wav
from mercore.manifest import Sample
from mercore.media import Text, Waveform
from mercore.metrics import waf
from mercore.project import Project
from mercore.status import stored_samples
from mercore_noise import AddNoise
from mercore_noise.add_noise import Mixture
from mercore_starter import DeepFilterNet, WhisperASR

DEMO = Path("examples/demo/manifest.csv").absolute()
SPLITS = ("test", "test_noise")
RATE = 16_000  # Hz
SNR = (5.0, 10.0)  # dB
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
        project = projects[0]
        print_kinds(of_split(project, "test"), of_split(project, "train"), Path(folder))


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
    for split in SPLITS:
        samples = of_split(project, split)
        rows = stored(project, "transcript", samples)
        yield error_rate([(s.extra["sentence"], rows[s.id]["text"]) for s in samples])


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
    print("\nThe clips of test_noise, by what was chosen:\n")
    print_heading("chosen")
    samples = of_split(project, "test_noise")
    heard = {id: row["record"] for id, row in stored(project, "denoised", samples).items()}
    for decision in ("original", "denoised", "residual", "any"):
        some = [s for s in samples if decision in ("any", heard[s.id]["decision"])]
        if some:
            print(f"| {decision} | {len(some)} | {' | '.join(rates(some, heard))} |")


def print_kinds(samples: Sequence[Sample], voices: Sequence[Sample], folder: Path) -> None:
    """Print the same for noise of two kinds, added to the clean clips of the split `test`."""
    write_voices(voices, folder / "voices")
    write_noise(folder / "noise")
    kinds = {
        "noise": AddNoise(noise=str(folder / "noise"), snr=SNR, mixture=Mixture(noise=1)),
        "voices": AddNoise(
            voices=str(folder / "voices"), voices_snr=SNR, mixture=Mixture(voices=1)
        ),
    }
    clean = [read_audio(sample.file("video") or "", RATE) for sample in samples]
    denoise = DeepFilterNet(asr=WhisperASR(beam=1)).load("cpu", "float32")
    print(f"\nThe clips of test with noise of {SNR[0]} to {SNR[1]} dB:\n")
    print_heading("kind")
    for kind, component in kinds.items():
        inputs = zip(clean, samples, strict=True)
        noisy = component.load("cpu", "float32")(
            [{"audio": audio, "id": Text(sample.id)} for audio, sample in inputs]
        )
        outputs = denoise([{"audio": o.value if isinstance(o, Noted) else o} for o in noisy])
        heard = {
            sample.id: output.record
            for sample, output in zip(samples, outputs, strict=True)
            if isinstance(output, Noted)
        }
        print(f"| {kind} | {len(samples)} | {' | '.join(rates(samples, heard))} |", flush=True)


def write_voices(samples: Sequence[Sample], folder: Path) -> None:
    """Write what others say as audio files."""
    folder.mkdir()
    for sample in samples:
        write_wav(folder / f"{sample.id}.wav", read_audio(sample.file("video") or "", RATE))


def write_noise(folder: Path) -> None:
    """Write noise whose power falls by 0 to 6 dB an octave, 10 s each."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, slope in enumerate(np.linspace(0, 1, 8)):
        spectrum = np.fft.rfft(random.normal(size=10 * RATE))
        spectrum *= np.arange(1, len(spectrum) + 1) ** -slope
        noise = np.fft.irfft(spectrum).astype(np.float32)
        write_wav(folder / f"{number}.wav", Waveform(0.3 * noise / np.abs(noise).max(), RATE))


def print_heading(first: str) -> None:
    """Print the heading of a table of error rates."""
    names = [first, "clips", "WER noisy", "WER denoised", "WER residual", "WER chosen", "WER best"]
    print(f"| {' | '.join(names)} |")
    print(f"|{'---|' * len(names)}")


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


def stored(project: Project, name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what is stored of the samples of a stream, by id."""
    ids = [sample.id for sample in samples]
    rows = stored_samples(project.pipeline, project.store, name, ids)
    return dict(zip(ids, rows, strict=True))


def of_split(project: Project, split: str) -> list[Sample]:
    """Return the samples of a split."""
    return [sample for sample in project.manifest.samples if sample.split == split]


if __name__ == "__main__":
    main()
