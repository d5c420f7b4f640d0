from __future__ import annotations

import mercore


def test_every_public_name_is_there_and_the_list_is_sorted() -> None:
    assert list(mercore.__all__) == sorted(mercore.__all__)
    assert not [name for name in mercore.__all__ if not hasattr(mercore, name)]


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    assert not hasattr(mercore, "no_such_name")
