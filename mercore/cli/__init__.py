"""``mer``: parse, one library call, print.

Everything but click is imported inside the commands: ``mer --help`` imports no plugin.
"""

from mercore.cli.ablate import ablate
from mercore.cli.corrupt import corrupt
from mercore.cli.diff import diff
from mercore.cli.exchange import export, import_, submit
from mercore.cli.explain import explain
from mercore.cli.exports import EXPORTS
from mercore.cli.init import init
from mercore.cli.lm import lm
from mercore.cli.look import check, prune, schema, show_samples, status
from mercore.cli.main import main
from mercore.cli.new import new
from mercore.cli.plugins import plugins
from mercore.cli.tune import tune
from mercore.cli.work import ensemble, extract, mine, predict, report, run, train

__all__ = ["main"]

for command in (
    init, check, explain, diff, plugins, extract, status, show_samples, prune, tune, train, mine,
    ensemble, ablate, report, run, predict, submit, corrupt, lm, import_, export, schema, new,
):  # fmt: skip
    main.add_command(command)
for command in EXPORTS:
    export.add_command(command)
