"""What distributions ask for against what is installed: versions that do not fit, and extras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mercore.packages import installed


@dataclass(frozen=True)
class Unmet:
    """A requirement of a distribution that what is installed does not meet."""

    distribution: str
    """Whose requirement it is."""
    requirement: str
    """As its metadata have it, without markers: ``numpy>=2.0``."""
    found: str | None
    """The installed version; None where it is not installed."""
    extra: str = ""
    """The extra that asks for it; empty where the distribution itself does."""

    @property
    def cure(self) -> str:
        """The command that installs it."""
        wanted = f"{self.distribution}[{self.extra}]" if self.extra else self.requirement
        return f'pip install "{wanted}"'


def unmet(asking: Distribution) -> list[Unmet]:
    """Return what the distribution itself asks for and is not met, extras of others included."""
    return list(_unmet(asking, "", {canonicalize_name(asking.name)}))


def unmet_extras(asking: Distribution) -> list[Unmet]:
    """Return what the extras of the distribution ask for and is not met."""
    own = canonicalize_name(asking.name)
    extras: Sequence[str] = asking.metadata.get_all("Provides-Extra") or ()
    return [found for extra in extras for found in _unmet(asking, extra, {own})]


def _unmet(asking: Distribution, extra: str, seen: set[str]) -> Iterator[Unmet]:
    for requirement in _requirements(asking, extra):
        plain = f"{requirement.name}{requirement.specifier}"
        found = installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            yield Unmet(asking.name, plain, found, extra)
            continue
        # `mercore[nn]` asks for what the extra of another distribution asks for.
        for wanted in sorted(requirement.extras):
            key = f"{canonicalize_name(requirement.name)}[{wanted}]"
            if key not in seen:
                seen.add(key)
                yield from _unmet(distribution(requirement.name), wanted, seen)


def _requirements(asking: Distribution, extra: str) -> Iterator[Requirement]:
    """Yield the requirements that apply here: those of the extra alone, or those without one."""
    for line in asking.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # nothing that pip could install either
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        wanted = marker is None or marker.evaluate({"extra": extra})
        if wanted and (not extra or not always):
            yield requirement
