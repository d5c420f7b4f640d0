"""`mer plugins test`: the suites of mercore.testing on what is installed.

That those find each fault is tested in tests/test_testing.py; here, what is made of their verdicts.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from plugin_files import install
from pydantic import JsonValue
from toy_clips import write_wav

from mercore.conformance import FAILED, PASSED, SKIPPED, Verdict, run, samples
from mercore.errors import CheckpointError, InputError, PluginError, RegistryError, RunError
from mercore.media import Frames, Text, Waveform
from mercore.plugins import Plugins
from mercore_toys import Either, Letters, Sign

FAULTY = """\
import numpy as np
from mercore import CheckpointError, Encoder, InputError, Words, hookimpl

def refuse(batch):
    raise InputError("no such words")

class Backwards(Encoder):
    name = "backwards"
    inputs = {"text": Words()}
    table: str = "none"

    def load(self, device, dtype):
        if self.table == "refuse":
            return refuse
        if self.table != "none":
            raise CheckpointError(f"no table at {self.table!r}; make one")
        def encode(batch):
            return [np.full((1, 3), len(x["text"].content), np.float32) for x in batch][::-1]
        return encode

@hookimpl
def encoders():
    return [Backwards]
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """The installed plugins, one of which returns its results in the wrong order."""
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "acme-backwards", FAULTY)
    importlib.invalidate_caches()
    return Plugins()


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks}


def test_a_sound_component_passes_all_checks_and_says_what_was_skipped() -> None:
    verdict = run(Plugins(), "encoder", "letters", {"letters": 5}, device="cpu")
    assert verdict.passed
    assert set(outcomes(verdict).values()) == {PASSED, SKIPPED}
    skipped = {check.name: check.message for check in verdict.checks if check.outcome == SKIPPED}
    assert skipped.pop("test_optional_inputs_may_be_absent") == "no optional inputs"
    assert set(skipped) <= {"test_a_batch_is_no_slower_than_its_samples_one_by_one"}  # too quick
    assert outcomes(verdict)["test_order_is_kept"] == PASSED
    assert not [name for name in sys.modules if name.startswith("test_letters_")]


def test_a_fault_fails_its_checks_with_what_was_found_and_how_to_cure_it(faulty: Plugins) -> None:
    verdict = run(faulty, "encoder", "backwards", {}, device="cpu")
    assert not verdict.passed
    found = {check.name: check for check in verdict.checks if check.outcome == FAILED}
    assert list(found) == ["test_order_is_kept"]
    message = found["test_order_is_kept"].message
    assert message.startswith("backwards: result 0 of the batch is that of sample")
    assert "Cure: return the results in the order of the samples" in message
    assert found["test_order_is_kept"].seconds > 0


def test_weights_that_only_load_misses_are_one_error_and_no_list_of_failures(
    faulty: Plugins,
) -> None:
    with pytest.raises(CheckpointError, match="no table at '/nowhere'; make one"):
        run(faulty, "encoder", "backwards", {"table": "/nowhere"}, device="cpu")


def test_samples_that_do_not_suit_it_are_one_error_that_asks_for_clips(
    tmp_path: Path, faulty: Plugins
) -> None:
    refuse: dict[str, JsonValue] = {"table": "refuse"}
    with pytest.raises(InputError) as caught:
        run(faulty, "encoder", "backwards", refuse, device="cpu")
    assert str(caught.value) == (
        "backwards cannot use the made-up samples; give three or more clips (--clip): no such words"
    )
    given = clips(tmp_path, *"abc")
    with pytest.raises(InputError, match="backwards cannot use a clip: no such words"):
        run(faulty, "encoder", "backwards", refuse, clips=given, device="cpu")


def test_weights_that_are_not_here_are_told_before_any_check() -> None:
    with pytest.raises(CheckpointError) as caught:
        run(Plugins(), "encoder", "hubert", {"checkpoint": "acme/no-such-hubert"})
    assert "hubert: the weights 'acme/no-such-hubert' are not here" in str(caught.value)
    assert "hf download acme/no-such-hubert --local-dir no-such-hubert" in str(caught.value)


def test_wrong_options_are_told_as_those_of_a_registry() -> None:
    with pytest.raises(RegistryError, match=r"letters: with\.leters: unknown option; did you mean"):
        run(Plugins(), "encoder", "letters", {"leters": 3})


def test_a_component_that_cannot_be_loaded_says_why_once() -> None:
    options: dict[str, JsonValue] = {"source": "x", "digest": "0123456789abcdef", "width": 3}
    with pytest.raises(RunError, match="feature 'x' was imported and cannot be computed"):
        run(Plugins(), "encoder", "imported", options, device="cpu")


def test_without_pytest_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(RunError, match=r'needs pytest, .*; run `pip install "mercore\[test\]"`'):
        run(Plugins(), "ensemble", "majority", {})


def clips(folder: Path, *texts: str) -> list[str]:
    paths = [folder / f"clip{number}.wav" for number in range(len(texts))]
    for number, (path, text) in enumerate(zip(paths, texts, strict=True)):
        write_wav(path, 0.2 + 0.1 * number)
        path.with_suffix(".txt").write_text(text)
    return [str(path) for path in paths]


def test_clips_are_decoded_as_the_component_asks(tmp_path: Path) -> None:
    first, *_ = samples(Either(), clips(tmp_path, "a b", "c", "d"))
    assert isinstance(first["audio"], Waveform)
    assert first["audio"].rate == 8_000
    assert first["text"] == Text("a b")
    (signed, *_) = samples(Sign(), clips(tmp_path, "a b", "c", "d"))
    assert signed["id"] == Text("clip0")
    assert not isinstance(signed["text"], Frames)


def test_the_checks_run_on_the_given_clips(tmp_path: Path, faulty: Plugins) -> None:
    same = run(faulty, "encoder", "letters", {}, clips=clips(tmp_path, *"aaa"), device="cpu")
    order = next(check for check in same.checks if check.name == "test_order_is_kept")
    assert order.outcome == FAILED
    assert "all samples give the same result" in order.message


def test_two_clips_are_too_few_and_a_clip_without_its_text_is_named(tmp_path: Path) -> None:
    paths = clips(tmp_path, "a", "b", "c")
    with pytest.raises(PluginError, match="clips: found 2, expected 3 or more"):
        samples(Letters(), paths[:2])
    (tmp_path / "clip1.txt").unlink()
    with pytest.raises(InputError, match=r"clip1\.txt': no such file beside the clip, for the inp"):
        samples(Letters(), paths)


def test_clips_are_refused_for_a_component_that_reads_none(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'majority' reads no media; leave the clips out"):
        run(Plugins(), "ensemble", "majority", {}, clips=clips(tmp_path, *"abc"))


def test_a_gpu_that_is_insisted_on_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RunError, match="device 'cuda': torch finds no CUDA device"):
        run(Plugins(), "encoder", "letters", {}, device="cuda")
