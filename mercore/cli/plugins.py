"""`mer plugins`: what is installed, how it is used and cited, and whether it is sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mercore.cli.main import print_json
from mercore.cli.options import JSON, with_options

_LIST = [
    JSON,
    click.option(
        "--times",
        is_flag=True,
        help="Also measure what importing each plugin costs, each in a fresh interpreter: slow.",
    ),
]
_KIND = click.option(
    "--kind",
    type=click.Choice(["preprocessor", "encoder", "fusion", "ensemble"]),
    help="Which one, where two kinds have a component of that name.",
)


@click.group(invoke_without_command=True)
@with_options(_LIST)
@click.pass_context
def plugins(context: click.Context, times: bool, as_json: bool) -> None:
    """List the installed components, or tell more of one.

    Without a subcommand: all components, what they read and give, and whether the weights of their
    default options are here. Plugins that could not be used are listed with the reason.
    """
    if context.invoked_subcommand is None:
        _list(None, times, as_json)
    elif times or as_json:
        raise click.UsageError(f"put options behind {context.invoked_subcommand!r}")


def _list(kind: str | None, times: bool, as_json: bool) -> None:
    from mercore.cli import installed
    from mercore.plugins import Plugins

    about = installed.listed(Plugins(), kind, times=times)
    print_json(about) if as_json else installed.print_listed(about)


def _add_kind(kind: str) -> None:
    @plugins.command(kind, help=f"List the installed {kind}s.")
    @with_options(_LIST)
    def command(times: bool, as_json: bool) -> None:
        _list(kind, times, as_json)


for _kind in ("preprocessor", "encoder", "fusion", "ensemble"):
    _add_kind(_kind)


@plugins.command("show")
@click.argument("name")
@_KIND
@JSON
@click.option("--bibtex", is_flag=True, help="Print what to cite, and nothing else.")
def show_plugin(name: str, kind: str | None, as_json: bool, bibtex: bool) -> None:
    """Tell all about a component.

    Its inputs, its options, where it comes from, the licence of its weights, what to cite, and the
    YAML to paste into registry.yaml.
    """
    from mercore.catalogue import find
    from mercore.cli import installed
    from mercore.plugins import Plugins

    found = Plugins()
    about = installed.shown(found, find(found, name, kind))
    if bibtex:
        click.echo(about["citation"] or f"{name} asks for no citation", err=not about["citation"])
        return
    print_json(about) if as_json else installed.print_shown(about)


@plugins.command()
@click.option("--registry", default="registry.yaml", metavar="FILE", help="The experiment.")
@JSON
def cite(registry: str, as_json: bool) -> None:
    """Print the BibTeX of all that a registry uses.

    Each work once, mercore's reference paper first. Loads no weights, and needs none.
    """
    from mercore.bibliography import bibliography
    from mercore.plugins import Plugins
    from mercore.registry import Registry

    works = bibliography(Registry.read(registry), Plugins())
    if as_json:
        rows = [{"key": work.key, "used_by": used, "bibtex": str(work)} for work, used in works]
        print_json(rows)
        return
    click.echo("\n\n".join(str(work) for work, _ in works))


@plugins.command()
@JSON
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Find what is wrong with the installed plugins.

    Plugins that cannot be used, misspelt hooks, two of one name, versions that do not fit, extras
    that are not installed, and what importing each plugin costs. Exit status 1 where something does
    not work.
    """
    from mercore.cli import verdicts
    from mercore.doctor import examine

    checkup = examine()
    about = verdicts.examined(checkup)
    print_json(about) if as_json else verdicts.print_examined(about)
    if not checkup.healthy:
        context.exit(1)


@plugins.command("test")
@click.argument("name")
@_KIND
@click.option(
    "--with",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the component, its value as in YAML; or a YAML file with several.",
)
@click.option(
    "--clip",
    "clips",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A clip to test with, three or more; its text is in a .txt beside it. Else made up.",
)
@click.option(
    "--device",
    default="auto",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="cpu: leave out the checks of a GPU; cuda: fail without one.",
)
@JSON
@click.pass_context
def test_plugin(
    context: click.Context,
    name: str,
    kind: str | None,
    given: tuple[str, ...],
    clips: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Run the conformance suite on a component.

    The checks of mercore.testing, which a plugin's own tests run too. Needs pytest:
    pip install "mercore[test]". Exit status 1 where a check failed.
    """
    from mercore import conformance
    from mercore.catalogue import find
    from mercore.cli import verdicts
    from mercore.plugins import Plugins

    found = Plugins()
    provided = find(found, name, kind)
    options: Mapping[str, Any] = _options(given) if given else provided.component.example
    verdict = conformance.run(found, provided.kind, name, options, clips=clips, device=device)
    about = verdicts.judged(verdict)
    print_json(about) if as_json else verdicts.print_judged(about)
    if not verdict.passed:
        context.exit(1)


def _options(given: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of ``KEY=VALUE`` words and of files; the last word counts."""
    from pathlib import Path

    import yaml

    from mercore.document import Document

    options: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            if not Path(word).is_file():
                raise click.UsageError(f"--with {word}: expected KEY=VALUE, or a YAML file")
            document = Document.read(Path(word))
            if document.duplicates:
                raise document.error(document.duplicates)
            options |= document.data
            continue
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"--with {word}: the value is not YAML: {error}") from error
    return options
