"""The types of ablation.json, by which a file that was changed is told from one that was written.

What the keys mean is said in ``mercore.ablation``.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, FiniteFloat, JsonValue, ValidationError, model_validator


class _Score(BaseModel):
    waf: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    accuracy: FiniteFloat


class _Behind(BaseModel):
    waf: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    p: FiniteFloat
    p_holm: FiniteFloat


class _Row(BaseModel):
    features: list[str]
    filled: int
    seconds: FiniteFloat
    key: str
    scores: dict[str, _Score]
    behind: _Behind | None


class _Feature(BaseModel):
    uses: str
    dim: int | None
    reads: list[str]
    upstream: list[str]


class _Ablation(BaseModel):
    format: int
    classes: list[str]
    folds: int
    seed: int
    synthetic: bool
    fusion: str
    options: dict[str, JsonValue]
    features: dict[str, _Feature]
    splits: list[str]
    draws: int
    rows: list[_Row]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for row in self.rows:
            if not self.features.keys() >= set(row.features):
                raise ValueError("a row has a feature of which nothing is said")
            if row.scores.keys() != set(self.splits):
                raise ValueError("a row does not have a score of each split")
        return self


def is_ablation(table: dict[str, Any]) -> bool:
    """Return whether these can be the content of an ablation.json."""
    try:
        _Ablation.model_validate(table, strict=True)
    except ValidationError:
        return False
    return bool(table["rows"])
