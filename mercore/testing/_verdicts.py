"""The table of verdicts at the end of a run of pytest: component, check, verdict, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

KEY = "mercore component"
"""The property of a test that names the component, where the test is a check."""


@dataclass(frozen=True)
class Verdict:
    """What a check came to."""

    check: str
    word: str
    """``passed``, ``failed``, ``skipped``, ``overridden`` or ``error``."""
    why: str = ""

    @classmethod
    def of(cls, report: pytest.TestReport) -> Verdict:
        """Return the verdict that a report of pytest holds."""
        check = report.nodeid.rpartition("::")[2]
        if hasattr(report, "wasxfail"):
            return cls(check, "overridden", report.wasxfail.removeprefix("reason: "))
        if report.passed:
            return cls(check, "passed")
        if isinstance(report.longrepr, tuple):
            return cls(check, "skipped", report.longrepr[2].removeprefix("Skipped: "))
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else str(report.longrepr)
        first = said.strip().partition("\n")[0].removeprefix("AssertionError: ")
        return cls(check, "failed" if report.when == "call" else "error", first)


@dataclass
class Verdicts:
    """A plugin of pytest that gathers the verdicts, by component and suite, and writes them."""

    found: dict[str, list[Verdict]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdict of a check."""
        component = dict(report.user_properties).get(KEY)
        if component is not None and (report.when == "call" or not report.passed):
            suite = f"{component} ({report.nodeid.rpartition('::')[0]})"
            self.found.setdefault(suite, []).append(Verdict.of(report))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a block a suite."""
        write = terminalreporter
        write.section("mercore verdicts")
        if not self.found:
            write.write_line("no check of mercore.testing was run")
        for suite, verdicts in self.found.items():
            write.write_line(suite, bold=True)
            width = max(len(verdict.check) for verdict in verdicts)
            for verdict in verdicts:
                bad = verdict.word in ("failed", "error")
                line = f"  {verdict.check:<{width}}  {verdict.word:<10}  {verdict.why}"
                write.write_line(line.rstrip(), red=bad)
            counts = Counter(verdict.word for verdict in verdicts)
            write.write_line(f"  {', '.join(f'{n} {word}' for word, n in counts.items())}")
