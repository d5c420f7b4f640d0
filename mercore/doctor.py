"""What is wrong with the installed plugins, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec

from mercore.citations import cited
from mercore.errors import PluginError, few
from mercore.imports import SLOW, Cost, import_cost
from mercore.plugins import GROUP, HOOKS, Broken, Plugins
from mercore.requirements import Unmet, unmet, unmet_extras

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be, and its cure."""

    severity: str
    """``error``: something does not work; ``warning``: it costs; ``note``: it may be missed."""
    subject: str
    """The plugin, component or distribution that it is about."""
    message: str
    cure: str


@dataclass(frozen=True)
class Checkup:
    """What the doctor found."""

    costs: Mapping[str, Cost]
    """Module of a plugin to what importing it costs."""
    findings: Sequence[Finding]
    """Errors first, then warnings and notes."""

    @property
    def healthy(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != ERROR for finding in self.findings)


def examine(found: Sequence[EntryPoint] | None = None) -> Checkup:
    """Return what is wrong with the plugins of these entry points; of all that are installed."""
    points = list(entry_points(group=GROUP)) if found is None else list(found)
    plugins = Plugins(points)
    costs = {module: import_cost(module) for module in _modules(points, plugins)}
    findings = [
        *(_broken(broken, points) for broken in plugins.broken),
        *_conflicts(plugins),
        *_requirements(points),
        *_idle(plugins, points),
        *_citations(plugins),
        *_costly(costs),
    ]
    order = (ERROR, WARNING, NOTE)
    return Checkup(costs, sorted(findings, key=lambda finding: order.index(finding.severity)))


def _modules(points: Sequence[EntryPoint], plugins: Plugins) -> list[str]:
    """Return the modules of the plugins that work, each once."""
    broken = {broken.plugin for broken in plugins.broken}
    return list(dict.fromkeys(point.module for point in points if point.name not in broken))


def _broken(broken: Broken, points: Sequence[EntryPoint]) -> Finding:
    subject = f"plugin {broken.plugin!r} of {broken.distribution}"
    module = next(point.module for point in points if point.name == broken.plugin)
    if not _exists(module):
        return Finding(
            ERROR,
            subject,
            f"its entry point names the module {module!r}, which is not there",
            f"pip install --force-reinstall {broken.distribution}",
        )
    place = f" ({broken.frame})" if broken.frame else ""
    return Finding(
        ERROR,
        subject,
        f"set aside: {broken.reason}{place}",
        f"mend it, or pip uninstall {broken.distribution}",
    )


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # a package above it is missing, or fails
        return find_spec(module.partition(".")[0]) is not None and "." not in module
    except ValueError:
        return True


def _conflicts(plugins: Plugins) -> Iterator[Finding]:
    for conflict in plugins.conflicts():
        message, _, cure = conflict.partition("; ")
        yield Finding(ERROR, "names", message, cure)


def _requirements(points: Sequence[EntryPoint]) -> Iterator[Finding]:
    for asking in _distributions(points):
        for lack in unmet(asking):
            found = f"{lack.found} is installed" if lack.found else "it is not installed"
            message = f"{lack.distribution} needs {lack.requirement}; {found}"
            yield Finding(ERROR, asking.name, message, lack.cure)
        extras: dict[str, list[Unmet]] = {}
        for lack in unmet_extras(asking):
            extras.setdefault(lack.extra, []).append(lack)
        for extra, lacking in extras.items():
            wanted = few([lack.requirement for lack in lacking])
            message = f"the extra {extra!r} is not installed, for what needs {wanted}"
            yield Finding(NOTE, asking.name, message, lacking[0].cure)


def _distributions(points: Sequence[EntryPoint]) -> list[Distribution]:
    found = {point.dist.name: point.dist for point in points if point.dist is not None}
    return [found[name] for name in sorted(found)]


def _idle(plugins: Plugins, points: Sequence[EntryPoint]) -> Iterator[Finding]:
    working = {provided.plugin for provided in plugins} | {b.plugin for b in plugins.broken}
    for point in points:
        if point.name not in working:
            yield Finding(
                WARNING,
                f"plugin {point.name!r} of {point.dist.name if point.dist else 'unknown'}",
                "it provides nothing",
                f"mark a function called one of {', '.join(HOOKS)} with @hookimpl",
            )


def _citations(plugins: Plugins) -> Iterator[Finding]:
    for provided in plugins:
        try:
            cited(provided.component)
        except PluginError as error:
            cure = (
                "write it as @article{name2024word, author = {...}, title = {...}, year = {2024}}"
            )
            yield Finding(WARNING, provided.origin, str(error), cure)


def _costly(costs: Mapping[str, Cost]) -> Iterator[Finding]:
    cure = "import it inside `load` or `fit`, in a module of its own"
    for module, cost in costs.items():
        if cost.heavy:
            yield Finding(WARNING, module, f"importing it imports {', '.join(cost.heavy)}", cure)
        elif cost.seconds is not None and cost.seconds > SLOW:
            slow = f"importing it takes {cost.seconds:.2f} s, more than {SLOW} s"
            yield Finding(
                WARNING, module, slow, f"see where: python -X importtime -c 'import {module}'"
            )
        elif cost.seconds is None:
            yield Finding(
                ERROR,
                module,
                "it can be imported here, but not in a fresh interpreter",
                f"run python -c 'import {module}'",
            )
