"""The command line, run in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from mercore.cli import main


def mer(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def mer_json(*arguments: str) -> Any:
    """Return what the command prints with --json; it succeeds."""
    result = mer(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
