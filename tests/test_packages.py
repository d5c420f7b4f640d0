from __future__ import annotations

import json
import sys

import pytest

from mercore.errors import RunError
from mercore.packages import needed


def test_a_package_that_is_there_is_returned() -> None:
    assert needed("json", "reading") is json


def test_one_that_is_not_is_an_error_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    said = r"^`lm: a` needs kenlm, which is not installed; run `pip install kenlm`$"
    with pytest.raises(RunError, match=said):
        needed("kenlm", "`lm: a`")
    with pytest.raises(RunError, match="which is not installed; give the ARPA file"):
        needed("kenlm", "`lm: a`", "give the ARPA file")
