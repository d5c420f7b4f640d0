from __future__ import annotations

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from plugin_files import install

from mercore.doctor import ERROR, NOTE, WARNING, Checkup, Finding, examine
from mercore.imports import costs_of, import_cost
from mercore.requirements import unmet, unmet_extras

LENGTH = """\
import numpy as np
from mercore import Encoder, Words, hookimpl

class Length(Encoder):
    name = "{name}"
    inputs = {{"text": Words()}}

    def load(self, device, dtype):
        return lambda batch: [np.zeros((1, 1), np.float32) for _ in batch]

@hookimpl
def encoders():
    return [Length]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def only(checkup: Checkup) -> Finding:
    (finding,) = checkup.findings
    return finding


def test_a_sound_plugin_has_a_cost_and_no_finding(folder: Path) -> None:
    checkup = examine([install(folder, "acme-sound", LENGTH.format(name="sound"))])
    assert checkup.healthy
    assert list(checkup.findings) == []
    assert 0 < (checkup.costs["acme_sound"].seconds or 0) < 0.3


def test_a_plugin_that_imports_something_heavy_is_warned_of(folder: Path) -> None:
    (folder / "timm.py").write_text("")  # a light one of that name: no model needs it here
    code = "import timm\n" + LENGTH.format(name="heavy")
    checkup = examine([install(folder, "acme-heavy", code)])
    finding = only(checkup)
    assert (finding.severity, finding.subject) == (WARNING, "acme_heavy")
    assert finding.message == "importing it imports timm"
    assert checkup.healthy


def test_a_slow_plugin_is_warned_of_with_how_long_it_takes(folder: Path) -> None:
    code = "import time\ntime.sleep(0.35)\n" + LENGTH.format(name="slow")
    finding = only(examine([install(folder, "acme-slow", code)]))
    assert finding.severity == WARNING
    assert finding.message.startswith("importing it takes 0.")
    assert finding.cure == "see where: python -X importtime -c 'import acme_slow'"


def test_a_broken_plugin_is_an_error_with_the_last_frame(folder: Path) -> None:
    code = "def table():\n    return {}['no']\n\ntable()\n"
    checkup = examine([install(folder, "acme-broken", code)])
    assert not checkup.healthy
    finding = only(checkup)
    assert finding.subject == "plugin 'acme_broken' of acme-broken"
    place = folder / "acme_broken.py"
    assert finding.message == f"set aside: KeyError: 'no' ({place}:2 in table)"
    assert finding.cure == "mend it, or pip uninstall acme-broken"


def test_a_missing_package_of_a_plugin_is_not_taken_for_a_missing_plugin(folder: Path) -> None:
    finding = only(examine([install(folder, "acme-lacks", "import no_such_thing\n")]))
    assert "No module named 'no_such_thing'" in finding.message
    assert f"({folder / 'acme_lacks.py'}:1 in <module>)" in finding.message


def test_an_entry_point_whose_module_is_missing_is_told_as_such(folder: Path) -> None:
    finding = only(examine([install(folder, "acme-gone", None)]))
    assert finding.message == "its entry point names the module 'acme_gone', which is not there"
    assert finding.cure == "pip install --force-reinstall acme-gone"


def test_a_misspelt_hook_gets_the_right_name(folder: Path) -> None:
    code = LENGTH.format(name="typo").replace("def encoders", "def encoder")
    finding = only(examine([install(folder, "acme-typo", code)]))
    assert finding.severity == ERROR
    assert "unknown hook 'encoder'; did you mean 'encoders'?" in finding.message


def test_a_plugin_without_a_hook_provides_nothing_and_is_warned_of(folder: Path) -> None:
    code = LENGTH.format(name="unmarked").replace("@hookimpl\n", "")
    finding = only(examine([install(folder, "acme-unmarked", code)]))
    assert (finding.severity, finding.message) == (WARNING, "it provides nothing")
    assert "@hookimpl" in finding.cure


def test_a_citation_that_is_no_bibtex_is_warned_of(folder: Path) -> None:
    code = LENGTH.format(name="vague").replace("inputs =", 'citation = "Me, 2024"\n    inputs =')
    finding = only(examine([install(folder, "acme-vague", code)]))
    assert (finding.severity, finding.subject) == (WARNING, "acme-vague 1.2")
    assert finding.message.startswith("component 'vague': no BibTeX to cite: found 'Me, 2024'")


def test_two_plugins_with_one_name_are_an_error_naming_both(folder: Path) -> None:
    points = [install(folder, name, LENGTH.format(name="twin")) for name in ("acme-a", "acme-b")]
    finding = only(examine(points))
    assert finding.severity == ERROR
    assert finding.message == "acme-a 1.2 and acme-b 1.2 both provide an encoder called 'twin'"
    assert finding.cure == "uninstall one of them"


def test_versions_and_extras_are_told_with_the_command_that_cures_them(folder: Path) -> None:
    point = install(
        folder,
        "acme-needs",
        LENGTH.format(name="needs"),
        "Requires-Dist: numpy>=99",
        "Requires-Dist: pydantic>=2",
        "Requires-Dist: acme-nowhere>=1.5",
        "Requires-Dist: acme-elsewhere; sys_platform == 'amiga'",
        "Requires-Dist: acme-extra; extra == 'fast'",
        "Provides-Extra: fast",
    )
    found = {finding.message: finding for finding in examine([point]).findings}
    conflict, missing, extra = found.values()
    assert "acme-needs needs numpy>=99; 2" in conflict.message
    assert conflict.message.endswith(" is installed")
    assert (conflict.severity, conflict.cure) == (ERROR, 'pip install "numpy>=99"')
    assert missing.message == "acme-needs needs acme-nowhere>=1.5; it is not installed"
    assert missing.cure == 'pip install "acme-nowhere>=1.5"'
    assert (extra.severity, extra.cure) == (NOTE, 'pip install "acme-needs[fast]"')
    assert extra.message == "the extra 'fast' is not installed, for what needs acme-extra"


def written(folder: Path, name: str, *about: str) -> Distribution:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *about, ""]
    (info / "METADATA").write_text("\n".join(lines))
    return PathDistribution(info)


def test_the_extra_of_a_requirement_is_looked_into(folder: Path) -> None:
    written(
        folder,
        "acme_core",
        "Requires-Dist: acme-nowhere; extra == 'nn'",
        "Requires-Dist: acme-ring[loop]; extra == 'loop'",
        "Provides-Extra: nn",
    )
    asking = written(folder, "acme_plugin", "Requires-Dist: acme_core[nn]")
    (lack,) = unmet(asking)
    assert (lack.distribution, lack.extra, lack.requirement) == ("acme_core", "nn", "acme-nowhere")
    assert lack.cure == 'pip install "acme_core[nn]"'


def test_extras_that_name_each_other_come_to_an_end(folder: Path) -> None:
    about = "Requires-Dist: acme_ring[all]; extra == 'all'"
    ring = written(folder, "acme_ring", about, "Provides-Extra: all")
    assert unmet_extras(ring) == []


def test_what_pip_could_not_read_is_left_alone(folder: Path) -> None:
    assert unmet(written(folder, "acme_odd", "Requires-Dist: ???")) == []


def test_the_cost_of_a_module_that_cannot_be_imported_is_unknown() -> None:
    assert import_cost("no_such_module_anywhere").seconds is None


def test_costs_are_found_by_the_name_of_the_entry_point() -> None:
    costs = costs_of(["mercore_toys", "mercore_toys"])
    assert list(costs) == ["mercore_toys"]
    assert costs["mercore_toys"].heavy == ()
