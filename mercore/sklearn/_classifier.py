"""A fusion as a classifier: features side by side in, classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mercore.branches import CHUNK
from mercore.components import Features, Fusion, IntArray, Labelled
from mercore.errors import InputError, RunError
from mercore.machine import Machine, limited
from mercore.media import FloatArray
from mercore.plugins import Plugins

Groups = Mapping[str, int | Sequence[int]]
Table = Any
"""``(samples, columns)``, or ``(samples, dim)`` by name of the feature."""


class FusionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fusion fitted on one set of samples.

    X is ``(samples, columns)``, the features side by side as `groups` says; ``fit`` and ``predict``
    also take a mapping of name to ``(samples, dim)``, which scikit-learn's own tools cannot cut.

    Parameters
    ----------
    fusion : str
        The name of the fusion; `mer plugins` lists them.
    options : mapping, optional
        Its options, as under ``with:`` in registry.yaml.
    groups : mapping, optional
        Name of a feature to how many columns it has, in their order, or to the numbers of its
        columns. Without it all columns are one feature.
    validation : float
        Share of the samples, stratified, that a network's best epoch is chosen on; 0 for none, and
        none are taken where there are too few samples.
    device : str
        As the option of `mer train`.
    random_state : int
        Seed of the choice and of the training: the same seed gives the same weights.

    Attributes
    ----------
    classes_ : (classes,) array
        The labels, sorted.
    weights_ : dict of arrays
        What the fusion has learnt.

    """

    def __init__(
        self,
        fusion: str = "attention",
        *,
        options: Mapping[str, Any] | None = None,
        groups: Groups | None = None,
        validation: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.fusion = fusion
        self.options = options
        self.groups = groups
        self.validation = validation
        self.device = device
        self.random_state = random_state

    def fit(self, X: Table, y: Any) -> FusionClassifier:
        """Return the classifier, fitted; the errors of scikit-learn, or a MercoreError."""
        fusion = self._fusion()
        features, y = self._checked(X, fusion, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"found one class, {self.classes_[0]!r}; expected two or more")
        data = Labelled(features, labels.astype(np.int64))
        train, valid = self._parts(data.labels)
        with limited(1):  # as `mer train`: the same sums on any number of cores
            self.weights_ = fusion.fit(
                data.at(train),
                data.at(valid),
                classes=len(self.classes_),
                device=Machine(self.device).chosen_device(),
                seed=self.random_state,
            )
        return self

    def predict_proba(self, X: Table) -> FloatArray:
        """Return ``(samples, classes)`` float32; the rows sum to 1."""
        check_is_fitted(self, "weights_")
        fusion = self._fusion()
        features, _ = self._checked(X, fusion)
        predict = fusion.load(self.weights_, Machine(self.device).chosen_device())
        count = len(next(iter(features.values())))
        with limited(1):
            tables = [
                predict({name: x[start : start + CHUNK] for name, x in features.items()})
                for start in range(0, count, CHUNK)
            ]
        return np.concatenate(tables)

    def predict(self, X: Table) -> NDArray[Any]:
        """Return ``(samples,)``: the most probable class of each."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._fusion().masks_missing
        tags.non_deterministic = False
        return tags

    def _fusion(self) -> Fusion:
        fusion = Plugins().build(Fusion, self.fusion, dict(self.options or {}))
        if fusion.most_frames is not None:
            raise RunError(
                f"fusion {self.fusion!r} with these options reads sequences; FusionClassifier has "
                "one vector a sample: leave out its option of frames, or train it by `mer train`"
            )
        return fusion

    def _checked(self, X: Table, fusion: Fusion, y: Any = None) -> tuple[Features, Any]:
        """Return the features by name, and the labels where they are given."""
        names, columns = self._columns(X)
        table = np.hstack([np.asarray(X[name]) for name in names]) if isinstance(X, Mapping) else X
        finite = "allow-nan" if fusion.masks_missing else True
        kinds: dict[str, Any] = {"dtype": np.float32, "ensure_all_finite": finite}
        if y is None:
            table = validate_data(self, table, reset=False, **kinds)
        else:
            table, y = validate_data(self, table, y, **kinds)
        groups = columns or {"features": list(range(table.shape[1]))}
        wrong = [name for name, part in groups.items() if max(part, default=0) >= table.shape[1]]
        if wrong or sum(map(len, groups.values())) != table.shape[1]:
            widths = {name: len(part) for name, part in groups.items()}
            raise InputError(
                f"found {table.shape[1]} columns, expected those of the groups, {widths!r}"
            )
        return {name: np.ascontiguousarray(table[:, part]) for name, part in groups.items()}, y

    def _columns(self, X: Table) -> tuple[list[str], dict[str, list[int]]]:
        """Return the names of a mapping, and the columns of each group."""
        if isinstance(X, Mapping):
            names = sorted(X)
            widths = [np.shape(X[name])[1] for name in names]
            return names, _numbered(dict(zip(names, widths, strict=True)))
        groups = self.groups or {}
        numbered = _numbered({n: part for n, part in groups.items() if isinstance(part, int)})
        if len(numbered) < len(groups):
            return [], {n: list(part) for n, part in groups.items() if not isinstance(part, int)}
        return [], numbered

    def _parts(self, labels: IntArray) -> tuple[IntArray, IntArray]:
        """Return the samples to fit on and those to choose the best state on."""
        rows, counts = np.arange(len(labels)), np.bincount(labels)
        wanted = round(self.validation * len(labels))
        if wanted < len(counts) or counts.min() < 2:
            return rows, rows[:0]
        seed = self.random_state
        train, valid = train_test_split(rows, test_size=wanted, stratify=labels, random_state=seed)
        return np.sort(train), np.sort(valid)


def _numbered(widths: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the numbers of the columns of features side by side."""
    bounds = pairwise([0, *accumulate(widths.values())])
    return {name: list(range(*bound)) for name, bound in zip(widths, bounds, strict=True)}
