"""How good the features of a trained encoder are: a linear classifier on them.

Trainings that learnt other classes, or none, are comparable by it: the classifier learns the
classes of the registry from the training samples, and is scored on the held-out fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mercore.batches import apply, in_batches
from mercore.components import Encoder, IntArray, Noted
from mercore.machine import Machine
from mercore.manifest import Sample
from mercore.media import FloatArray
from mercore.metrics import bootstrap, waf
from mercore.reader import Reader


def encoded(
    encoder: Encoder, reader: Reader, samples: Sequence[Sample], machine: Machine
) -> tuple[FloatArray, IntArray]:
    """Return the mean over frames of each sample that can be used, ``(n, dim)``, and which."""
    function = encoder.load(machine.chosen_device(), "float32")
    place = {sample.id: row for row, sample in enumerate(samples)}
    found: dict[int, FloatArray] = {}
    with reader.ahead(samples, machine.threads) as items:
        for batch in in_batches(items, encoder.budget * machine.batch):
            readable = [item for item in batch if item.error is None]
            outputs = apply(function, [item.inputs for item in readable])
            found |= {
                place[item.sample.id]: mean
                for item, output in zip(readable, outputs, strict=True)
                for mean in _mean(output)
            }
    rows = np.array(sorted(found), np.int64)
    return np.stack([found[row] for row in rows.tolist()]), rows


def _mean(output: object) -> Iterator[FloatArray]:
    matrix = output.value if isinstance(output, Noted) else output
    if isinstance(matrix, np.ndarray) and len(matrix):
        yield matrix.mean(axis=0, dtype=np.float64).astype(np.float32)


def probe(
    train: FloatArray, labels: IntArray, valid: FloatArray, truth: IntArray, classes: int
) -> dict[str, float]:
    """Return the WAF, with its interval, of logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    predicted = model.fit(train, labels).predict(valid)
    low, high = bootstrap(waf, truth, predicted, classes)
    return {"waf": waf(truth, predicted, classes), "low": low, "high": high}
