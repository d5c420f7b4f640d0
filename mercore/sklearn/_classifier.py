"""A fusion as a classifier: features side by side in, classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
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
    groups_ : dict
        The numbers of the columns of each feature.
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
        groups = _widths(X) if _is_named(X) else self.groups or {}
        columns = _numbered(groups)
        table = _side_by_side(X, columns) if _is_named(X) else X
        table, y = validate_data(self, table, y, **_kinds(fusion))
        self.groups_ = columns or {"features": list(range(table.shape[1]))}
        _check_groups(self.groups_, table.shape[1])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"found one class, {self.classes_[0]!r}; expected two or more")
        data = Labelled(self._features(table), labels.astype(np.int64))
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
        table = _side_by_side(X, self.groups_) if _is_named(X) else X
        table = validate_data(self, table, reset=False, **_kinds(fusion))
        predict = fusion.load(self.weights_, Machine(self.device).chosen_device())
        with limited(1):
            tables = [
                predict(self._features(table[start : start + CHUNK]))
                for start in range(0, len(table), CHUNK)
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
        fusion = _plugins().build(Fusion, self.fusion, dict(self.options or {}))
        if fusion.most_frames is not None:
            raise RunError(
                f"fusion {self.fusion!r} with these options reads sequences; FusionClassifier has "
                "one vector a sample: leave out its option of frames, or train it by `mer train`"
            )
        return fusion

    def _features(self, table: FloatArray) -> Features:
        return {name: np.ascontiguousarray(table[:, part]) for name, part in self.groups_.items()}

    def _parts(self, labels: IntArray) -> tuple[IntArray, IntArray]:
        """Return the samples to fit on and those to choose the best state on."""
        rows, counts = np.arange(len(labels)), np.bincount(labels)
        wanted = round(self.validation * len(labels))
        if wanted < len(counts) or counts.min() < 2:
            return rows, rows[:0]
        seed = self.random_state
        train, valid = train_test_split(rows, test_size=wanted, stratify=labels, random_state=seed)
        return np.sort(train), np.sort(valid)


@cache
def _plugins() -> Plugins:
    """Return what is installed: scikit-learn asks for the tags, and so for the fusion, often."""
    return Plugins()


def _is_named(X: Table) -> bool:
    """Return whether it is a matrix by name; a sparse matrix of keys is a mapping too."""
    return isinstance(X, Mapping) and not hasattr(X, "shape")


def _widths(X: Mapping[str, Any]) -> dict[str, int]:
    """Return how many columns each matrix has, in the order of their names."""
    if not X:
        raise InputError("found no features, expected a matrix by the name of each")
    for name, matrix in X.items():
        if np.ndim(matrix) != 2:
            raise InputError(f"feature {name!r}: shape {np.shape(matrix)}, expected (samples, dim)")
    return {name: int(np.shape(X[name])[1]) for name in sorted(X)}


def _side_by_side(X: Mapping[str, Any], groups: Mapping[str, Sequence[int]]) -> FloatArray:
    found = _widths(X)
    expected = {name: len(part) for name, part in groups.items()}
    if found != expected:
        raise InputError(f"found features of dimensions {found!r}, expected {expected!r}")
    if len(counts := {len(matrix) for matrix in X.values()}) != 1:
        raise InputError(f"found features of {sorted(counts)} samples, expected as many each")
    table = np.empty((counts.pop(), sum(expected.values())), np.float32)
    for name, part in groups.items():
        table[:, part] = X[name]
    return table


def _numbered(groups: Groups) -> dict[str, list[int]]:
    """Return the numbers of the columns of each group; one that is a count follows the others."""
    columns: dict[str, list[int]] = {}
    after = 0
    for name, part in groups.items():
        columns[name] = list(range(after, after + part)) if isinstance(part, int) else list(part)
        after = max([after - 1, *columns[name]]) + 1
    return columns


def _check_groups(groups: Mapping[str, Sequence[int]], width: int) -> None:
    """Raise InputError unless the groups have every column once."""
    if sorted(column for part in groups.values() for column in part) != list(range(width)):
        found = {name: len(part) for name, part in groups.items()}
        raise InputError(f"found {width} columns, expected each once in the groups, {found!r}")


def _kinds(fusion: Fusion) -> dict[str, Any]:
    """Return what a table must be: NaN is a sample that lacks a feature, for some fusions."""
    return {"dtype": np.float32, "ensure_all_finite": "allow-nan" if fusion.masks_missing else True}
