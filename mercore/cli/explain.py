"""The command that says where something comes from: explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mercore.cli.main import duration, manifest_there, print_json, size
from mercore.cli.options import FILES, JSON, with_options
from mercore.cli.reasons import shown, why

if TYPE_CHECKING:
    from rich.tree import Tree

Json = dict[str, Any]


@click.command()
@click.argument("name")
@click.argument("sample", required=False)
@with_options([*FILES, JSON])
def explain(name: str, sample: str | None, as_json: bool, manifest: str, **files: Any) -> None:
    """Say where a stream, a feature, a branch or the ensemble comes from.

    Its components with their options, down to the columns of the manifest; what the store and the
    run folder have of it, whether that is up to date, and what it took. With SAMPLE, what there is
    of that one. It works before anything is extracted.
    """
    from mercore import explanation

    there = manifest_there(manifest)
    known = explanation.known_of(manifest=there, **files)
    known = explanation.of_sample(known, sample) if sample else known
    found = explanation.explain(name, known)
    if as_json:
        print_json(found)
        return
    for about in found:
        _print(_tree(about, files["registry"]))
    if known.manifest is None:
        click.echo("no manifest.csv here: which samples there are is not known")
    if known.store is None:
        click.echo(f"no store at {files['store']}: nothing is extracted yet")


def _print(tree: Tree) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # what reads it wants a fact in one line
    console.print(tree)


def _tree(about: Json, registry: str) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    title = about["kind"] if about["kind"] == about["name"] else f"{about['kind']} {about['name']}"
    place = f" ({registry}:{about['line']})" if about["line"] else ""
    tree = Tree(Text(title + place))
    seen: set[str] = set()
    _fill(tree, about, seen)
    return tree


def _fill(tree: Tree, about: Json, seen: set[str]) -> None:
    """Add the facts of one part, then those of what it is made from."""
    for line in _facts(about):
        _add(tree, line)
    for name, read in about.get("inputs", {}).items():
        _fill_input(tree, name, read, seen)
    for feature in about.get("features", []):
        _fill_node(tree, f"feature {feature['name']}", feature, seen)


def _fill_input(tree: Tree, name: str, read: Json, seen: set[str]) -> None:
    if "from" in read:
        _fill_node(tree, f"{name}: stream {read['stream']} as {read['needs']}", read["from"], seen)
        return
    counted = "" if read["samples"] is None else f", given by {read['samples']} samples"
    at = _add(tree, f"{name}: column {read['column']} as {read['needs']}{counted}")
    if given := read.get("file") or read.get("given"):
        _add(at, shown(given))


def _fill_node(tree: Tree, title: str, about: Json, seen: set[str]) -> None:
    """Add a stream or feature; one that was shown before only by its name."""
    key = f"{about['kind']} {about['name']}"
    at = _add(tree, f"{title}, see above" if key in seen else title)
    if key not in seen:
        seen.add(key)
        _fill(at, about, seen)


def _add(tree: Tree, line: str) -> Tree:
    from rich.text import Text

    return tree.add(Text(line))


def _facts(about: Json) -> Iterator[str]:
    licence = f", weights or program under {about['licence']}" if about["licence"] else ""
    yield f"{about['uses']} of {about['distribution']}{licence}: {about['about']}"
    yield from _options(about)
    for name, value in about["identity"].items():
        yield f"identified by {name} {shown(value)}"
    if "fingerprint" in about:
        frames = ", frames kept" if about["frames"] else ""
        made = f"revision {about['revision']}, computed in {about['dtype']}{frames}"
        yield f"fingerprint {about['fingerprint']} ({made})"
        yield from _stored(about)
        yield from _used(about["used_by"])
    if about["kind"] == "branch":
        classes = ", ".join(about["classes"])
        yield f"trained in {about['folds']} folds, seed {about['seed']}: {classes}"
        yield from _run(about["run"])
    if about["kind"] == "ensemble":
        yield from _voting(about)
    if "sample" in about:
        yield _sample(about["sample"])


def _options(about: Json) -> Iterator[str]:
    """Yield one line for the options of each origin."""
    titles = {"registry": "given", "search": "found by search", "default": "by default"}
    for by, title in titles.items():
        options = [
            f"{name} {_value(option['value'])}"
            for name, option in about["options"].items()
            if option["by"] == by
        ]
        if options:
            yield f"{title}: {', '.join(options)}"


def _value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"uses", "with"}:
        return f"{value['uses']} {shown(value['with'])}"
    return shown(value)


def _stored(about: Json) -> Iterator[str]:
    for row in about["store"] or []:
        parts = [f"{row['done']} samples"]
        parts += [f"{row[what]} {what}" for what in ("failed", "absent", "missing") if row[what]]
        parts += [f"dim {row['dim']}"] if row["dim"] else []
        when = row["extracted"] or row["created"]
        yield f"{row['path']}: {', '.join(parts)}, {size(row['bytes'])}, {when[:16]}Z"
        if row["distribution"] not in (None, about["distribution"]):
            yield f"computed by {row['distribution']}"
    if about["store"] == []:
        yield "not extracted yet"
    if found := about["rate"]:
        each, load = duration(found["each"]), duration(found["load"])
        yield f"took {each} a sample and {load} to load, by {found['source']}"
    for other in about["others"]:
        yield f"superseded: {other['path']}, {other['samples']} samples; {_whys(other['why'])}"


def _whys(found: Sequence[Json]) -> str:
    return "; ".join(map(why, found))


def _used(used: Json) -> Iterator[str]:
    parts = [f"{kind} {', '.join(names)}" for kind, names in used.items() if names]
    yield f"used by {'; '.join(parts)}" if parts else "used by nothing"


def _run(run: Json) -> Iterator[str]:
    reasons = f": {_whys(run['why'])}" if run["why"] else ""
    yield f"{run['folder']}: {run['state']}{reasons}"
    if run["waf"] is None:
        return
    folds = " ".join("-" if score is None else f"{score:.3f}" for score in run["fold_waf"])
    filled = f"; {run['filled']} samples lacked a feature" if run["filled"] else ""
    yield f"WAF {run['waf']:.4f} (folds {folds}), trained in {duration(run['seconds'])}{filled}"
    if made := run["versions"]:
        yield f"trained with {', '.join(f'{name} {version}' for name, version in made.items())}"
        newer = [
            f"{name} {run['now'].get(name) or 'none'}"
            for name in made
            if run["now"].get(name) != made[name]
        ]
        yield from [f"installed since: {', '.join(newer)}"] if newer else []
    if run["rounds"]:
        yield f"WAF after each round of mining: {' '.join(f'{waf:.4f}' for waf in run['rounds'])}"


def _voting(about: Json) -> Iterator[str]:
    for row in about["branches"]:
        score = "" if row["waf"] is None else f", WAF {row['waf']:.4f}"
        yield f"branch {row['name']}: {row['state']}{score}"
    run = about["run"]
    yield f"predictions: {run['predictions'] or 'none yet'}"
    if run["scores"]:
        scores = ", ".join(f"{split} {waf:.4f}" for split, waf in run["scores"].items())
        yield f"WAF in the report: {scores}"


def _sample(sample: Json | None) -> str:
    if sample is None:
        return "sample: not in the store"
    if sample["failed"]:
        return f"sample: failed: {sample['failed']}"
    said = f" {shown(sample['text'])}" if sample.get("text") else ""
    noted = f", {shown(sample['record'])}" if sample["record"] else ""
    state = "" if sample["unchanged"] else ", its file changed since"
    return f"sample:{said} {sample['rows']} rows{noted}{state}"
