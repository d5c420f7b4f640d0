"""Utterances in files: kept as JSON, mixed with noise, transcribed, and how right that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mercore.batches import apply, in_batches
from mercore.components import Noted, Preprocessor, Transform
from mercore.decode import read_track
from mercore.encode import write_wav
from mercore.errors import PluginError, RunError
from mercore.folder import replace as write
from mercore.inputs import text_of
from mercore.limits import NO_LIMITS
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.media import Text, Waveform
from mercore.reader import Item
from mercore.tuning._recognising import RATE, Utterance

Utterances = Sequence[Utterance]


def stored(file: Path, make: Callable[[], Any]) -> Any:
    """Return what the file holds; where there is none, what `make` returns, kept in it."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        made = make()
        write(file, json.dumps(made, ensure_ascii=False).encode())
        return made


def stored_utterances(file: Path, make: Callable[[], Utterances]) -> list[Utterance]:
    """Return the utterances that the file holds, or those of `make`, kept in it."""
    return [Utterance(**each) for each in stored(file, lambda: list(map(asdict, make())))]


def mixed(utterances: Utterances, noise: Transform, folder: Path) -> list[Utterance]:
    """Return the utterances with what was drawn for each added, in files of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, utterance in enumerate(utterances):
        (noisy,) = noise([{"audio": _heard(utterance), "id": Text(utterance.id)}])
        assert isinstance(noisy, Noted)
        assert isinstance(noisy.value, Waveform)
        file = folder / f"{number:06}.wav"
        write_wav(file, noisy.value)
        condition = str(noisy.record["condition"])
        found.append(replace(utterance, audio=str(file.absolute()), condition=condition))
    return found


def transcribed(
    component: Preprocessor, utterances: Utterances, machine: Machine
) -> Iterator[tuple[Utterance, str, float]]:
    """Yield each utterance with what the component makes of it, and its confidence in that."""
    function = component.load(machine.chosen_device(), "float32")
    places = {utterance.id: utterance for utterance in utterances}
    items = (Item(Sample(each.id, "", None, {}), {"audio": _heard(each)}) for each in utterances)
    for batch in in_batches(items, component.budget * machine.batch):
        outputs = apply(function, [item.inputs for item in batch])
        for item, output in zip(batch, outputs, strict=True):
            if isinstance(output, Exception):  # our own files can be read: it is no bad sample
                raise RunError(f"{component.name}: {item.sample.id}: {output}") from output
            yield places[item.sample.id], *_said(component, output)


def _said(component: Preprocessor, output: object) -> tuple[str, float]:
    record: Mapping[str, Any] = output.record if isinstance(output, Noted) else {}
    if not isinstance(record.get("confidence"), float):
        raise PluginError(f"{component.name!r} does not record a confidence, which tuning needs")
    assert isinstance(output, Noted)
    return text_of({"text": output.value}), record["confidence"]


def _heard(utterance: Utterance) -> Waveform:
    return read_track(utterance.audio, RATE, limits=NO_LIMITS)


def error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the character error rate of ``(said, understood)``: edits over characters said.

    Letters and digits count, whatever their case or width.
    """
    from rapidfuzz.distance import Levenshtein

    from mercore.denoising import units

    texts = [(units(said, "characters"), units(heard, "characters")) for said, heard in pairs]
    edits = sum(Levenshtein.distance(said, heard) for said, heard in texts)
    return edits / sum(len(said) for said, _ in texts)
