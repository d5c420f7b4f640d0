from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

import mercore.testing
from mercore.testing import EncoderTests, EnsembleTests, xfail
from mercore.voting import Majority

ROOT = Path(__file__).parent.parent
MISFITS = Path(__file__).parent / "misfits"
NAMES = ("writing-a-plugin.md", "testing.md", "reference/checks.md")
PAGES = {name: (ROOT / "docs" / name).read_text() for name in NAMES}

CAUGHT_BY = {
    "Heavy": {"test_importing_is_light"},
    "Unregistered": {"test_it_is_registered"},
    "Level": set(),
    "Forgetful": {"test_options_round_trip"},
    "Lax": {"test_an_unknown_option_is_refused"},
    "Unhashable": {"test_it_is_frozen_and_hashable"},
    "Restless": {"test_its_identity_is_json_and_stable"},
    "Backwards": {"test_order_is_kept"},
    "BatchMean": {"test_batching_does_not_change_results"},
    "Padded": {"test_batching_does_not_change_results"},
    "Noisy": {"test_the_same_input_gives_the_same_result_twice"},
    "Remembers": {"test_the_same_input_gives_the_same_result_twice"},
    "RandomWeights": {"test_a_second_load_gives_the_same_results"},
    "InPlace": {"test_the_input_is_not_modified"},
    "CrashesOnNothing": {"test_empty_input_is_encoded_or_refused"},
    "NanOfNothing": {"test_empty_input_is_encoded_or_refused"},
    "Spoils": {"test_empty_input_is_encoded_or_refused"},
    "CrashesOnShort": {"test_very_short_input_is_encoded_or_refused"},
    "CrashesOnLong": {"test_very_long_input_is_encoded_or_refused"},
    "NeedsOptional": {"test_optional_inputs_may_be_absent"},
    "NumpyRecord": {"test_records_are_json"},
    "Double": {"test_results_are_finite_float32_matrices"},
    "Overflows": {"test_results_are_finite_float32_matrices"},
    "WrongDim": {"test_dim_is_as_declared"},
    "HalfOut": {"test_dtypes_are_honoured"},
    "NoHalf": {"test_dtypes_are_honoured"},
    "AnyDevice": {"test_an_unknown_device_or_dtype_is_refused"},
    "Unpicklable": {"test_it_can_be_pickled"},
    "SharedBuffer": {"test_two_loads_work_side_by_side"},
    "OneThread": {"test_two_loads_work_side_by_side"},
    "Hoards": {"test_a_dropped_function_leaves_nothing"},
    "SlowBatch": {"test_a_batch_is_no_slower_than_its_samples_one_by_one"},
    "Gain": set(),
    "WrongRate": {"test_the_output_is_as_declared"},
    "Stereo": {"test_the_output_is_as_declared"},
    "Sorts": {"test_order_is_kept"},
    "Centroid": set(),
    "Unseeded": {"test_the_same_seed_gives_the_same_weights"},
    "Doubled": {"test_probabilities_are_float32_and_sum_to_1"},
    "Ignorant": {"test_it_learns"},
    "BatchCentred": {"test_batching_does_not_change_results"},
    "MonteCarlo": {"test_the_same_features_give_the_same_result_twice"},
    "ByPosition": {"test_features_are_found_by_name"},
    "CentresInPlace": {"test_the_input_is_not_modified"},
    "Narrow": {"test_a_class_may_be_absent_from_training"},
    "Pairs": {"test_one_feature_is_enough"},
    "NeedsValid": {"test_validation_samples_may_be_absent"},
    "Unstorable": {"test_weights_survive_a_file"},
    "KeepsAll": {"test_a_dropped_function_leaves_nothing"},
    "TwoDevices": {"test_an_unknown_device_is_refused"},
    "Shares": {"test_fitting_parts_together_is_fitting_each_alone"},
    "Blind": {"test_what_a_sample_lacks_may_be_nan"},
    "Mean": set(),
    "FirstBranch": {
        "test_the_order_of_the_branches_does_not_matter",
        "test_ties_are_decided_and_always_alike",
    },
    "TieByPosition": {"test_ties_are_decided_and_always_alike"},
    "TieByChance": {"test_ties_are_decided_and_always_alike"},
    "Summed": {"test_probabilities_sum_to_1"},
    "Counted": {"test_support_is_the_share_of_branches_that_agree"},
    "ShortLabels": {"test_a_decision_has_its_shapes_and_types"},
    "Drifting": {  # no two calls agree, whatever the order
        "test_the_order_of_the_branches_does_not_matter",
        "test_ties_are_decided_and_always_alike",
        "test_the_same_votes_give_the_same_decision_twice",
    },
    "SecondBest": {"test_one_branch_is_enough"},
    "ScalesInPlace": {"test_the_votes_are_not_modified"},
    "Excused": set(),
    "ExcusedInVain": {"test_order_is_kept"},
    "SlowForAReason": set(),
    "Length": set(),  # the plugin of the documentation
}

Reports = Mapping[str, Mapping[str, str]]
"""Suite to check to the message of its failure, ``""`` where it held."""


def block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)
    assert found
    return found[1]


def install_length(folder: Path) -> Path:
    """Write the plugin of the documentation as if installed; return the test of its author."""
    (folder / "mercore_length.py").write_text(block("writing-a-plugin.md", "python"))
    info = folder / "mercore_length-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mercore-length\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[mercore]\nmercore_length = mercore_length\n")
    (folder / "test_mercore_length.py").write_text(block("testing.md", "python"))
    return folder / "test_mercore_length.py"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """One run of pytest over all misfits, in a process that has them installed."""
    folder = tmp_path_factory.mktemp("misfits")
    tests = [str(MISFITS / "misfit_suites.py"), str(install_length(folder))]
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(folder)]
    xml = folder / "report.xml"
    path = os.pathsep.join([str(MISFITS), str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--junitxml={xml}", *tests],
        # The plugins of others take seconds to import.
        env=os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(xml).iter("testcase"):
        suite = case.attrib["classname"].rpartition(".Test")[2]
        problems = [p for p in case if p.tag in ("failure", "error")]
        # Not the attribute "message", which is cut: the lines that pytest shows of it.
        lines = "\n".join(p.text or "" for p in problems).splitlines()
        shown = [line for line in lines if line.startswith(("E ", "[XPASS"))]
        found[suite][case.attrib["name"]] = "\n".join(shown)
    return found


@pytest.mark.parametrize("misfit", CAUGHT_BY)
def test_a_misfit_is_caught_by_the_check_meant_for_it_and_no_other(
    reports: Reports, misfit: str
) -> None:
    assert {name for name, message in reports[misfit].items() if message} == CAUGHT_BY[misfit]
    assert len(reports[misfit]) > 12


def test_every_check_has_caught_a_misfit_or_needs_a_gpu(reports: Reports) -> None:
    checks = {name for suite in reports.values() for name in suite}
    caught = set().union(*CAUGHT_BY.values())
    assert checks - caught == {"test_devices_are_honoured"}
    assert set(reports) == set(CAUGHT_BY)


def test_a_failure_says_what_was_found_and_how_to_cure_it(reports: Reports) -> None:
    for suite in reports.values():
        for message in filter(None, suite.values()):
            assert "Cure: " in message or "XPASS(strict)" in message
    heavy = reports["Heavy"]["test_importing_is_light"]
    assert "'mercore_heavy_misfit' in a fresh process imports jax" in heavy
    assert "(imported by mercore_heavy_misfit)" in heavy
    assert "result 0 of the batch is that of sample 3" in reports["Backwards"]["test_order_is_kept"]
    left = reports["Hoards"]["test_a_dropped_function_leaves_nothing"]
    assert "ndarray (2,), held through mercore_misfits.encoders.HOARD" in left
    slow = reports["SlowBatch"]["test_a_batch_is_no_slower_than_its_samples_one_by_one"]
    assert re.search(r"a batch of 4 equal samples takes [\d.]+ ms, the same .* one [\d.]+ ms", slow)
    lock = reports["Unpicklable"]["test_it_can_be_pickled"]
    assert "TypeError: cannot pickle '_thread.lock' object" in lock


def test_an_override_without_a_reason_is_refused() -> None:
    message = r"Silent\.test_order_is_kept overrides a check of mercore\.testing; mark it @xfail"
    with pytest.raises(TypeError, match=message):

        class Silent(EncoderTests):
            def test_order_is_kept(self) -> None:
                pass

    class Slack:
        @pytest.mark.skip(reason="slow")
        def test_one_branch_is_enough(self) -> None:
            pass

    with pytest.raises(TypeError, match="test_one_branch_is_enough overrides a check"):
        type("Mixed", (Slack, EnsembleTests), {})
    with pytest.raises(ValueError, match="found no reason, expected why the check cannot hold"):
        xfail(reason=" ")


def test_checks_of_the_author_are_no_overrides() -> None:
    class Own(EnsembleTests):
        component = Majority()

        def test_something_else(self) -> None:
            pass

    Own.setup_class()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: EncoderTests.setup_class(), r"EncoderTests\.component is None, expected one of"),
        (
            lambda: type("Wrong", (EncoderTests,), {"component": Majority()}).setup_class(),  # type: ignore[attr-defined]
            r"Wrong\.component is Majority\(\), expected one of kind Encoder",
        ),
    ],
)
def test_a_suite_without_a_component_of_its_kind_is_refused(
    prepare: Callable[[], None], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        prepare()


def test_only_mercore_testing_needs_pytest() -> None:
    code = "import sys, mercore.cli, mercore.extract, mercore.branches, mercore.voting; " + (
        "sys.exit('pytest' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_says_of_every_check_what_it_does_why_and_how_to_cure_it(
    reports: Reports,
) -> None:
    page = PAGES["reference/checks.md"]
    entries = re.findall(r"^### (test_\w+)\n\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in entries} == {name for checks in reports.values() for name in checks}
    for name, text in entries:
        paragraphs = text.strip().split("\n\n")
        assert paragraphs[0].endswith("."), name
        assert paragraphs[-2].startswith("**Why:** "), name
        assert paragraphs[-1].startswith("**Cure:** "), name


def test_the_suites_are_imported_when_they_are_first_used() -> None:
    assert sorted(mercore.testing.__all__) == list(mercore.testing.__all__)
    assert [name for name in mercore.testing.__all__ if not hasattr(mercore.testing, name)] == []
    with pytest.raises(AttributeError, match=r"'mercore\.testing' has no attribute 'EncoderTest'"):
        _ = mercore.testing.EncoderTest
