from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mercore.machine import cores, limited


def test_the_number_of_threads_is_set_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    with limited(1):
        assert torch.get_num_threads() == 1
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert torch.get_num_threads() == before
    assert "OMP_NUM_THREADS" not in os.environ


def test_torch_that_is_loaded_meanwhile_gets_its_threads_back() -> None:
    code = (
        "from mercore.machine import cores, limited\n"
        "with limited(1):\n"
        "    import torch\n"
        "    assert torch.get_num_threads() == 1\n"
        "assert torch.get_num_threads() == cores()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("0", None), ("many", None)])
def test_the_user_says_how_many_cores(
    given: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    own = cores()
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores() == (expected or own)
