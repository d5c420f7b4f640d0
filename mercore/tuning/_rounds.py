"""Rounds of self-training: from a project to a recogniser trained on noise and on itself."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mercore.batches import out_of_memory
from mercore.components import Preprocessor, Transform
from mercore.corrupt import worsening
from mercore.errors import PluginError, RunError
from mercore.fingerprints import describe, fingerprint
from mercore.folder import replace
from mercore.lock import locked
from mercore.machine import Machine
from mercore.packages import needed, versions
from mercore.pipeline import Node
from mercore.reader import Reader
from mercore.tuning._folder import TuningFolder
from mercore.tuning._options import described, reading
from mercore.tuning._recognising import SelfTraining, UnfitError, Utterance
from mercore.tuning._utterances import (
    Gathering,
    Utterances,
    error_rate,
    mixed,
    stored,
    stored_utterances,
    transcribed,
)
from mercore.watch import Silent, Watch

if TYPE_CHECKING:
    from mercore.manifest import Sample
    from mercore.project import Project

Json = dict[str, Any]


def tune(project: Project, node: Node, options: Mapping[str, Any], out: str | Path) -> Json:
    """Return what the training of a stream's recogniser came to; one interrupted goes on.

    Reads the samples of the tuning's splits as the stream does, those with a text and those
    without. ``with`` are the options by which the stream reads what was trained.
    """
    rounds, about = rounds_of(project, node, options, out)
    with locked(rounds.folder.path):
        return rounds.run(about)


def rounds_of(
    project: Project, node: Node, options: Mapping[str, Any], out: str | Path
) -> tuple[Rounds, Json]:
    """Return the training of a stream's recogniser, and all that decides what comes of it."""
    from mercore.tuning._tune import reader_of, tuning_of

    needed("rapidfuzz", "the error rate", "run `pip install 'mercore[speech]'`")
    component, folder = node.component, TuningFolder(Path(out))
    assert isinstance(component, Preprocessor)
    tuning = tuning_of(component, "tune", options)
    if not isinstance(tuning, SelfTraining):
        raise PluginError(f"preprocessor {component.name!r}: its 'tune' is no SelfTraining")
    adding = worsening("add_noise", tuning.adding(folder.path, 0))
    folders = adding.model_copy(update={"voices": tuning.voices}).identity()
    reader, upstream = reader_of(project, node)
    samples = [
        sample
        for sample in project.manifest.samples
        if sample.split in tuning.splits and all(stream.has(sample) for stream in upstream)
    ]
    seed = project.pipeline.registry.content.seed
    about: Json = {
        "aim": "tune",
        "stream": node.name,
        "recogniser": describe(component),
        "options": {**described(tuning), **folders},
        "seed": seed,
        "data": fingerprint([[each.id, each.media.get("text")] for each in samples]),
        "versions": versions({node.origin}),
    }
    rounds = Rounds(
        component, tuning, reader, samples, folder, project.machine, seed, project.watch
    )
    return rounds, about


@dataclass(frozen=True)
class Rounds:
    """The rounds of one training.

    ::

        data/             what is heard of each sample
        rounds/N/         one round: own.json has the transcripts that were kept
    """

    component: Preprocessor
    tuning: SelfTraining
    reader: Reader
    samples: Sequence[Sample]
    folder: TuningFolder
    machine: Machine = field(default_factory=Machine)
    seed: int = 0
    watch: Watch = field(default_factory=Silent)

    def run(self, about: Json) -> Json:
        """Return what the training came to; `about` is all that decides it."""
        if done := self.folder.done(about):
            return done
        self.folder.begin(about)
        before = self._before()
        rounds: list[Json] = []
        component = self.component
        for number in range(1, self.tuning.rounds + 1):
            own = self._own(number, component)
            if number > 1 and not own:
                break
            rounds.append(self._round(number, component, own))
            if _best(rounds) is not rounds[-1]:
                break
            component = reading(self.component, self._place(number).checkpoint)
        return self._finished(before, rounds)

    def _place(self, number: int) -> TuningFolder:
        return TuningFolder(self.folder.path / "rounds" / str(number))

    @cached_property
    def _data(self) -> Json:
        found: Json = stored(self.folder.path / "data" / "data.json", self._gathered)
        return found

    def _utterances(self, part: str) -> list[Utterance]:
        return [Utterance(**each) for each in self._data[part]]

    def _gathered(self) -> Json:
        """Write what is heard of the samples; the held-out ones get their noise here, for good."""
        from mercore.tuning._pictures import parted

        folder = self.folder.path / "data"
        known = [sample for sample in self.samples if sample.media.get("text")]
        others = [sample for sample in self.samples if not sample.media.get("text")]
        recogniser = self.tuning.prepare(self.component)
        gather = Gathering(self.reader, recogniser, self.tuning.longest, self.machine)
        parts = parted(len(known), self.tuning.held_out, self.seed) if len(known) > 1 else ([], [])
        train, held_out = (
            gather([known[row] for row in rows], folder / name)
            for rows, name in zip(parts, ("train", "held_out"), strict=True)
        )
        if not train or not held_out:
            raise RunError(_too_few(known, self.tuning, gather))
        parts = {
            "train": train,
            "held_out": mixed(held_out, self._noise(0), folder / "held_out_noisy"),
            "unlabelled": gather(others, folder / "unlabelled"),
        }
        told = {name: list(map(asdict, part)) for name, part in parts.items()}
        counts = {"left_out": gather.left_out, "unknown": dict(gather.unknown.most_common())}
        return {**told, **counts, "failed": gather.failed}

    def _noise(self, number: int) -> Transform:
        """Return what adds noise in a round: to each utterance another one than before."""
        voices = self.folder.path / "data" / "train"
        options = self.tuning.adding(voices, self.seed + number)
        return worsening("add_noise", options).load("cpu", "float32")

    def _own(self, number: int, component: Preprocessor) -> list[Utterance]:
        """Return the utterances without a transcript of which the component is confident."""
        if number == 1:
            return []
        file = self._place(number).path / "own.json"
        return stored_utterances(file, lambda: list(self._confident(component)))

    def _confident(self, component: Preprocessor) -> Iterator[Utterance]:
        recogniser = self.tuning.prepare(component)
        unlabelled = self._utterances("unlabelled")
        for utterance, text, confidence in transcribed(component, unlabelled, self.machine):
            if text and confidence >= self.tuning.confidence:
                with suppress(UnfitError):  # it does not fit what it was heard in
                    spelt = recogniser.spelt(text, utterance.seconds)
                    yield dataclasses.replace(utterance, text=spelt)

    def _before(self) -> Json:
        """Return the error rates of the checkpoint that the training begins with."""
        file = self._place(0).path / "round.json"
        found: Json = stored(file, lambda: self._rated(self.component))
        return found

    def _round(self, number: int, component: Preprocessor, own: Utterances) -> Json:
        """Return what a round came to, which trains on from the component's checkpoint."""
        place = self._place(number)
        result: Json = stored(
            place.path / "round.json", lambda: self._trained(number, component, own)
        )
        for folder in (place.state, place.path / "audio"):
            shutil.rmtree(folder, ignore_errors=True)
        return result

    def _trained(self, number: int, component: Preprocessor, own: Utterances) -> Json:
        place = self._place(number)
        noisy = stored_utterances(
            place.path / "mixed.json",
            lambda: mixed(self._utterances("train"), self._noise(number), place.path / "audio"),
        )
        if not place.checkpoint.is_dir():
            self._fit(number, component, [*noisy, *own])
        return {
            "round": number,
            **self._rated(reading(self.component, place.checkpoint)),
            "added": Counter(each.condition for each in noisy),
            "kept": len(own),
            "losses": [entry["loss"] for entry in self._log(number)],
        }

    def _fit(self, number: int, component: Preprocessor, train: Utterances) -> None:
        place, name = self._place(number), f"{self.folder.path.name}: round {number}"
        self.watch.start(name, self.tuning.epochs - len(self._log(number)))

        def note(entry: Mapping[str, float]) -> None:
            done = [each for each in self._log(number) if each["epoch"] < entry["epoch"]]
            replace(place.path / "log.json", json.dumps([*done, entry]).encode())
            self.watch.advance(name, 1, 0)

        try:
            save = self.tuning.prepare(component).fit(
                train,
                self._utterances("held_out"),
                place.state,
                device=self.machine.chosen_device(),
                seed=self.seed + number,
                note=note,
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise RunError(f"{name}: out of memory; give a lower `batch`") from error
        place.save_checkpoint(save)

    def _log(self, number: int) -> list[Json]:
        file = self._place(number).path / "log.json"
        return json.loads(file.read_bytes()) if file.exists() else []

    def _rated(self, component: Preprocessor) -> Json:
        """Return the error rate on the held-out utterances, of all and by what was added."""
        pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        held_out = self._utterances("held_out")
        for utterance, text, _ in transcribed(component, held_out, self.machine):
            pairs[utterance.condition].append((utterance.text, text))
        every = [pair for some in pairs.values() for pair in some]
        rates = {name: error_rate(some) for name, some in sorted(pairs.items())}
        return {"error_rate": error_rate(every), "error_rates": rates}

    def _finished(self, before: Json, rounds: list[Json]) -> Json:
        """Save the best round's checkpoint and what the rounds came to; delete the rest."""
        best = _best(rounds)
        source = self._place(best["round"]).checkpoint
        self.folder.save_log(self._whole_log(rounds))
        self.folder.save_checkpoint(lambda new: shutil.copytree(source, new, dirs_exist_ok=True))
        counts = {part: len(self._data[part]) for part in ("train", "held_out", "unlabelled")}
        kept = {name: self._data[name] for name in ("left_out", "unknown", "failed")}
        scores = {
            "error_rate": best["error_rate"],
            "best_round": best["round"],
            "before": before,
            "rounds": rounds,
            **counts,
            **kept,
        }
        self.folder.finish(scores)
        for folder in (self.folder.path / "data", *self.folder.path.glob("rounds/*/checkpoint")):
            shutil.rmtree(folder, ignore_errors=True)
        return scores

    def _whole_log(self, rounds: list[Json]) -> list[Json]:
        """Return the log of all rounds, their steps and epochs counted on."""
        found: list[Json] = []
        for each in rounds:
            step, epoch = (found[-1][name] if found else 0 for name in ("step", "epoch"))
            found += [
                {**entry, "step": step + entry["step"], "epoch": epoch + entry["epoch"]}
                for entry in self._log(each["round"])
            ]
        return found


def _best(rounds: Sequence[Json]) -> Json:
    """Return the first of the rounds with the lowest error rate."""
    return min(rounds, key=lambda each: float(each["error_rate"]))


def _too_few(known: Sequence[Sample], tuning: SelfTraining, gather: Gathering) -> str:
    splits = ", ".join(tuning.splits)
    if not known:
        return (
            f"no sample of the splits {splits} has a text; the manifest's column `text` holds "
            "what is said, and some samples need one"
        )
    reasons = [f"{count} {reason}" for reason, count in gather.left_out.items()]
    reasons += [f"{len(gather.failed)} unreadable"] if gather.failed else []
    lacking = "".join(character for character, _ in gather.unknown.most_common(10))
    return (
        f"{len(known)} samples of the splits {splits} have a text, too few of which can be used "
        f"(left out: {', '.join(reasons) or 'none'}"
        + (f"; the vocabulary lacks {lacking}" if lacking else "")
        + "); expected one or more to train on, and one or more to hold out"
    )
