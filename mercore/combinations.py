"""Which combinations of features an ablation is of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from itertools import combinations as choose
from math import comb

from mercore.errors import RegistryError, RunError, did_you_mean, listed
from mercore.pipeline import Pipeline

Combination = tuple[str, ...]
"""Features in the order of the registry."""

MOST = 1000


def all_combinations(
    pipeline: Pipeline, features: Sequence[str] = (), sizes: tuple[int, int] | None = None
) -> list[Combination]:
    """Return every combination of the features, or of all, the smallest first.

    `sizes` are the least and the most features at once. Raises RegistryError for features that the
    registry does not have, RunError where that leaves no combination or more than 1,000.
    """
    _check(pipeline, [features])
    names = [name for name in pipeline.features if name in features or not features]
    low, high = sizes or (1, len(names))
    counts = range(max(low, 1), min(high, len(names)) + 1)
    number = sum(comb(len(names), count) for count in counts)
    if not number:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise RunError(
            f"nothing to combine: {wanted} features at once, but there are {len(names)}: "
            + ", ".join(names)
        )
    if number > MOST:
        raise RunError(
            f"{len(names)} features have {number:,} combinations, more than {MOST:,}; "
            "name fewer features, or say with --size how many at once"
        )
    return list(chain.from_iterable(choose(names, count) for count in counts))


def sums(pipeline: Pipeline, only: Sequence[str]) -> list[Combination]:
    """Return the combinations that are written as sums, such as ``speech + words``, each once.

    Raises RegistryError with every mistake.
    """
    terms = [tuple(term.strip() for term in one.split("+")) for one in only]
    _check(pipeline, terms)
    return list(dict.fromkeys(tuple(n for n in pipeline.features if n in one) for one in terms))


def _check(pipeline: Pipeline, given: Iterable[Sequence[str]]) -> None:
    mistakes = list(dict.fromkeys(chain.from_iterable(_mistakes(pipeline, one) for one in given)))
    if mistakes:
        where = pipeline.registry.document.path
        raise RegistryError(f"{where} has no such combination of features:" + listed(mistakes))


def _mistakes(pipeline: Pipeline, names: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if name not in pipeline.features:
            known = ", ".join(pipeline.features)
            hint = did_you_mean(name, pipeline.features) or f"; there are {known}"
            yield f"no feature is called {name!r}{hint}"
        elif list(names).count(name) > 1:
            yield f"{name!r} is given twice in {' + '.join(names)}"
