"""Rounds of self-training: a recogniser learns from transcripts with noise, and from itself."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mercore.batches import out_of_memory
from mercore.components import Preprocessor
from mercore.errors import RunError
from mercore.folder import replace
from mercore.machine import Machine
from mercore.tuning._corpus import PARTS, Corpus
from mercore.tuning._options import reading
from mercore.tuning._recognising import SelfTraining, UnfitError, Utterance
from mercore.tuning._utterances import (
    Utterances,
    error_rate,
    stored,
    stored_utterances,
    transcribed,
)
from mercore.tuning.folder import TuningFolder
from mercore.watch import Watch

Json = dict[str, Any]


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
        ended = "all rounds were done"
        for number in range(1, self.tuning.rounds + 1):
            own = self._own(number, component)
            if number > 1 and not own:
                ended = "it was confident of none of its own transcripts"
                break
            rounds.append(self._round(number, component, own))
            if _best(rounds) is not rounds[-1]:
                ended = "the error rate did not fall"
                break
            component = reading(self.component, self._place(number).checkpoint)
        return self._finished(rounds, {"before": before, "ended": ended})

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

    def _finished(self, rounds: list[Json], about: Json) -> Json:
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
            **about,
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
