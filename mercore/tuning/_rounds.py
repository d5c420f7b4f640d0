"""Rounds of self-training: from a project to a recogniser trained on noise and on itself."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mercore.batches import out_of_memory
from mercore.components import Preprocessor
from mercore.corrupt import worsening
from mercore.errors import PluginError, RunError, did_you_mean
from mercore.fingerprints import describe, fingerprint
from mercore.folder import replace
from mercore.lock import locked
from mercore.machine import Machine
from mercore.manifest import UNLABELLED, Sample
from mercore.packages import needed, versions
from mercore.pipeline import Node
from mercore.reader import Reader
from mercore.tuning._corpus import PARTS, Corpus
from mercore.tuning._folder import TuningFolder
from mercore.tuning._options import described, reading
from mercore.tuning._recognising import SelfTraining, UnfitError, Utterance
from mercore.tuning._utterances import (
    Utterances,
    error_rate,
    stored,
    stored_utterances,
    transcribed,
)
from mercore.watch import Watch

if TYPE_CHECKING:
    from mercore.project import Project

Json = dict[str, Any]


def tune(project: Project, node: Node, options: Mapping[str, Any], out: str | Path) -> Json:
    """Return what the training of a stream's recogniser came to; one interrupted goes on."""
    rounds = rounds_of(project, node, options, out)
    with locked(rounds.folder.path):
        return rounds.run()


def rounds_of(project: Project, node: Node, options: Mapping[str, Any], out: str | Path) -> Rounds:
    """Return the training of a stream's recogniser, with the streams it reads extracted.

    Raises RunError for wrong options, and RegistryError for folders of noise that are not there.
    """
    from mercore.tuning._tune import tuning_of

    needed("rapidfuzz", "the error rate", "run `pip install 'mercore[speech]'`")
    component, folder = node.component, TuningFolder(Path(out))
    assert isinstance(component, Preprocessor)
    tuning = tuning_of(component, "tune", options)
    if not isinstance(tuning, SelfTraining):
        raise PluginError(f"{component.name!r}: its 'tune' is no SelfTraining")
    adding = worsening("add_noise", tuning.adding(folder.path, 0))
    folders = adding.model_copy(update={"voices": tuning.voices}).identity()
    reader, samples = _read(project, node, tuning)
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
    data, recogniser = folder.path / "data", tuning.prepare(component)
    corpus = Corpus(samples, reader, tuning, recogniser, data, project.machine.threads, seed)
    return Rounds(component, tuning, corpus, folder, about, project.machine, seed, project.watch)


def _read(project: Project, node: Node, tuning: SelfTraining) -> tuple[Reader, list[Sample]]:
    from mercore.tuning._tune import reader_of

    for split in tuning.splits:
        if split not in project.manifest.splits and split != UNLABELLED:
            known = project.manifest.splits
            hint = did_you_mean(split, known) or f"; has {', '.join(known)}"
            raise RunError(f"splits: the manifest has no split {split!r}{hint}")
    reader, upstream = reader_of(project, node)
    chosen = [
        sample
        for sample in project.manifest.samples
        if sample.split in tuning.splits and all(stream.has(sample) for stream in upstream)
    ]
    if not any(sample.media.get("text") for sample in chosen):
        raise RunError(
            f"no sample of the splits {', '.join(tuning.splits)} has a text to train on; give "
            "what is said in the manifest's column `text`"
        )
    return reader, chosen


@dataclass(frozen=True)
class Rounds:
    """The rounds of one training: each in a folder, ``rounds/N``, of the training's own.

    ``own.json`` in it has the component's own transcripts that were trained on.
    """

    component: Preprocessor
    tuning: SelfTraining
    corpus: Corpus
    folder: TuningFolder
    about: Json
    """All that decides the result."""
    machine: Machine
    seed: int
    watch: Watch

    def run(self) -> Json:
        """Return what the training came to; raises RunError for a folder of another training."""
        if done := self.folder.done(self.about):
            return done
        self.folder.begin(self.about)
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

    def _own(self, number: int, component: Preprocessor) -> list[Utterance]:
        """Return the utterances without a transcript of which the component is confident."""
        if number == 1:
            return []
        file = self._place(number).path / "own.json"
        return stored_utterances(file, lambda: list(self._confident(component)))

    def _confident(self, component: Preprocessor) -> Iterator[Utterance]:
        recogniser = self.tuning.prepare(component)
        unlabelled = self.corpus["unlabelled"]
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
        noisy = self.corpus.noisy(number, place.path)
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
                self.corpus["held_out"],
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
        held_out = self.corpus["held_out"]
        for utterance, text, _ in transcribed(component, held_out, self.machine):
            pairs[utterance.condition].append((utterance.text, text))
        every = [pair for some in pairs.values() for pair in some]
        rates = {name: error_rate(some) for name, some in sorted(pairs.items())}
        return {"error_rate": error_rate(every), "error_rates": rates}

    def _finished(self, before: Json, rounds: list[Json]) -> Json:
        """Save the best round's checkpoint and what the rounds came to; delete the rest."""
        best = _best(rounds)
        source = self._place(best["round"]).checkpoint

        def copied(new: Path) -> None:
            shutil.copytree(source, new, dirs_exist_ok=True)

        self.folder.save_log(self._whole_log(rounds))
        self.folder.save_checkpoint(copied)
        scores = {
            "error_rate": best["error_rate"],
            "best_round": best["round"],
            "before": before,
            "rounds": rounds,
            **{name: len(found) if name in PARTS else found
               for name, found in self.corpus.gathered.items()},
        }  # fmt: skip
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
