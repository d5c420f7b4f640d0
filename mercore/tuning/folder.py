"""The folder of one training. What says that it is done is written last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from mercore.components import IntArray
from mercore.errors import RunError
from mercore.folder import replace
from mercore.media import FloatArray
from mercore.metrics import accuracy, bootstrap, waf
from mercore.table import csv_text

LOG = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss", "eval_waf",
       "eval_accuracy")  # fmt: skip


@dataclass(frozen=True)
class TuningFolder:
    """Reads and writes the folder of one training.

    ::

        tuning.json       what is trained, on what, how, and by which versions; written first
        state/            checkpoints to go on from
        tensorboard/      the log for TensorBoard, where it is asked for
        log.csv           loss, learning rate and scores by step
        failed.jsonl      samples that could not be read
        left_out.jsonl    samples that the options of the training leave out
        pictures-*.npy    what was measured of the pictures of a pre-training
        predictions.csv   id, label, predicted class and probabilities of the held-out fold
        checkpoint/       the trained weights in the layout that the encoder reads
        metrics.json      the scores; written last
        probe.json        how well a classifier does on the features, where trainings are compared
    """

    path: Path

    @property
    def state(self) -> Path:
        """Where the checkpoints lie that a training goes on from."""
        return self.path / "state"

    @property
    def failures(self) -> Path:
        """Where the samples are named that could not be read."""
        return self.path / "failed.jsonl"

    @property
    def board(self) -> Path:
        """Where the log for TensorBoard lies."""
        return self.path / "tensorboard"

    @property
    def left_out(self) -> Path:
        """Where the samples are named that are not trained on."""
        return self.path / "left_out.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The trained weights, as the encoder reads them."""
        return self.path / "checkpoint"

    def begin(self, about: Mapping[str, JsonValue]) -> None:
        """Take note of what is trained; raises RunError for a folder of another training."""
        before = self.read("tuning.json")
        if before is None:
            replace(self.path / "tuning.json", json_bytes(about))
        elif other := _different(before, about):
            raise RunError(
                f"{self.path}: holds a training with other {', '.join(other)}; give another --out, "
                "or delete the folder"
            )

    def done(self, about: Mapping[str, JsonValue]) -> dict[str, JsonValue] | None:
        """Return the scores of this training where it came to its end, else None."""
        before, scores = self.read("tuning.json"), self.read("metrics.json")
        same = before is not None and not _different(before, about)
        return scores if same and self.checkpoint.is_dir() else None

    def save_log(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write what was logged, a line a step."""
        steps: dict[int, dict[str, Any]] = {}
        for entry in history:
            steps.setdefault(entry["step"], {}).update(entry)
        rows = [[entry.get(name, "") for name in LOG] for _, entry in sorted(steps.items())]
        replace(self.path / "log.csv", csv_text([LOG, *rows]).encode())

    def save_predictions(
        self, ids: Sequence[str], classes: Sequence[str], labels: IntArray, logits: FloatArray
    ) -> dict[str, JsonValue]:
        """Write what was predicted for each sample; return the scores of those that were read."""
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        predicted = shares.argmax(axis=1)
        known = np.flatnonzero(labels >= 0)
        rows = [
            [ids[row], classes[labels[row]], classes[predicted[row]], *shares[row].tolist()]
            for row in known.tolist()
        ]
        header = ["id", "label", "predicted", *classes]
        replace(self.path / "predictions.csv", csv_text([header, *rows]).encode())
        of = labels[known], predicted[known], len(classes)
        low, high = bootstrap(waf, *of)
        return {"samples": len(known), "waf": waf(*of), "waf_low": low, "waf_high": high,
                "accuracy": accuracy(*of)}  # fmt: skip

    def save_checkpoint(self, write: Callable[[Path], None]) -> None:
        """Have the trained weights written, whole or not at all."""
        new = self.path / ".checkpoint.new"
        for folder in (new, self.checkpoint):
            shutil.rmtree(folder, ignore_errors=True)
        new.mkdir(parents=True)
        try:
            write(new)
        except OSError as error:
            raise RunError(f"cannot write {new}: {error.strerror}; free some space") from error
        new.rename(self.checkpoint)

    def finish(self, scores: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Write the scores, which says that the training is done; return what was written."""
        replace(self.path / "metrics.json", json_bytes(scores))
        return self.read("metrics.json") or {}

    def save_probe(self, probe: Mapping[str, JsonValue]) -> None:
        """Write how well a classifier does on the features of the trained encoder."""
        replace(self.path / "probe.json", json_bytes(probe))

    def read(self, name: str) -> dict[str, JsonValue] | None:
        """Return the content of a JSON file; None where there is none, or it is damaged."""
        try:
            content = json.loads((self.path / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error
        return content if isinstance(content, dict) else None


def _different(before: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> list[str]:
    """Return what differs; other versions are no other training."""
    names = (before.keys() | now.keys()) - {"versions"}
    return sorted(name for name in names if before.get(name) != now.get(name))


def json_bytes(value: Mapping[str, JsonValue]) -> bytes:
    """Return the value as JSON, with null for what is no finite number."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
