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
        check, why = report.nodeid.rpartition("::")[2], said(report).partition("\n")[0]
        if hasattr(report, "wasxfail"):
            return cls(check, "overridden", why)
        if report.failed and report.when != "call":
            return cls(check, "error", why)
        return cls(check, report.outcome, why)


def said(report: pytest.TestReport) -> str:
    """Return the message of the error, the reason of what was skipped or overridden, or ``""``."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if not report.failed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else report.longrepr
    return str(message).strip().removeprefix("AssertionError: ")


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
