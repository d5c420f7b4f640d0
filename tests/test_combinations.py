from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mercore.combinations import all_combinations, sums
from mercore.errors import RegistryError, RunError
from mercore.pipeline import Pipeline
from mercore.plugins import Plugins
from mercore.registry import Registry
from mercore.resolve import resolve

Write = Callable[[str, str], Path]


def pipeline(write: Write, *names: str) -> Pipeline:
    uses = "".join(f"  {name}: {{uses: letters, inputs: {{text: text}}}}\n" for name in names)
    path = write("registry.yaml", f"classes: [sad, happy]\nfeatures:\n{uses}")
    return resolve(Registry.read(path), Plugins())


@pytest.fixture
def three(write: Write) -> Pipeline:
    return pipeline(write, "c", "a", "b")


def test_all_combinations_come_the_smallest_first_in_the_order_of_the_registry(
    three: Pipeline,
) -> None:
    found = ["+".join(one) for one in all_combinations(three)]
    assert found == ["c", "a", "b", "c+a", "c+b", "a+b", "c+a+b"]


def test_some_features_have_fewer(three: Pipeline) -> None:
    assert all_combinations(three, ["b", "c"]) == [("c",), ("b",), ("c", "b")]


@pytest.mark.parametrize(
    ("sizes", "count"), [((1, 1), 3), ((2, 2), 3), ((2, 3), 4), ((3, 9), 1), ((1, 3), 7)]
)
def test_sizes_say_how_many_at_once(three: Pipeline, sizes: tuple[int, int], count: int) -> None:
    found = all_combinations(three, sizes=sizes)
    assert len(set(found)) == len(found) == count
    assert all(sizes[0] <= len(one) <= sizes[1] for one in found)


def test_no_combination_at_all_is_said(three: Pipeline) -> None:
    with pytest.raises(RunError, match="4 features at once, but there are 3: c, a, b"):
        all_combinations(three, sizes=(4, 4))
    with pytest.raises(RunError, match="nothing to combine: 2 to 3 features at once, but"):
        all_combinations(three, ["a"], (2, 3))


def test_too_many_combinations_are_refused_before_they_are_made(write: Write) -> None:
    many = pipeline(write, *(f"f{number}" for number in range(40)))
    with pytest.raises(RunError, match="40 features have 1,099,511,627,775 combinations"):
        all_combinations(many)
    assert len(all_combinations(many, sizes=(1, 2))) == 820


def test_sums_are_read_in_any_order_and_each_once(three: Pipeline) -> None:
    assert sums(three, ["a + c", "b", "c+a"]) == [("c", "a"), ("b",)]


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    two = pipeline(write, "speech", "words")
    with pytest.raises(RegistryError) as caught:
        sums(two, ["speach + words", "words + words", "x"])
    where, *mistakes = str(caught.value).splitlines()
    assert where.endswith("registry.yaml has no such combination of features:")
    assert [mistake.strip() for mistake in mistakes] == [
        "no feature is called 'speach'; did you mean 'speech'?",
        "'words' is given twice in words + words",
        "no feature is called 'x'; there are speech, words",
    ]
    with pytest.raises(RegistryError, match="'wrods'; did you mean 'words'"):
        all_combinations(two, ["wrods"])
