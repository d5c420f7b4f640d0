"""What is installed, component by component: what it reads and gives, and how to use it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from mercore.components import Component, Encoder, Fusion, MediaComponent, Preprocessor
from mercore.errors import MercoreError, PluginError, did_you_mean
from mercore.media import Spec
from mercore.plugins import KINDS, Plugins, Provided


@dataclass(frozen=True)
class Installed:
    """One component as `mer plugins` shows it: with the default options, or its `example`."""

    provided: Provided
    component: Component
    """Not checked where the defaults alone make no component, so some options may be missing."""
    problem: str
    """Why the defaults and its `example` make no component, or ``""``."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """What it reads; empty for a fusion and an ensemble."""
        if not isinstance(self.component, MediaComponent):
            return {}
        try:
            return self.component.needs()
        except Exception:  # an option that it looks at is missing
            return self.component.inputs

    @property
    def optional(self) -> frozenset[str]:
        """The inputs that may be left unwired."""
        media = self.component if isinstance(self.component, MediaComponent) else None
        return media.optional if media else frozenset()

    @property
    def output(self) -> Spec | None:
        """What a preprocessor derives."""
        return self.component.output if isinstance(self.component, Preprocessor) else None

    @property
    def dim(self) -> int | None:
        """The width of a feature by default, where it is known before the weights are loaded."""
        if self.component.example:
            return None  # that of an example says nothing
        try:
            return self.component.dim if isinstance(self.component, Encoder) else None
        except Exception:  # an option that it looks at is missing
            return None

    @property
    def paragraphs(self) -> list[str]:
        """Its docstring, as plain text; the first says what comes back."""
        text = inspect.cleandoc(type(self.component).__doc__ or "").replace("``", "`")
        return [part for part in text.split("\n\n") if part]

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return next(iter(self.paragraphs), "").partition("\n")[0].replace("`", "")

    @property
    def source(self) -> str:
        """The paragraph of its docstring that says where it comes from, or ``""``."""
        found = (part for part in self.paragraphs if part.startswith("Source:"))
        return " ".join(next(found, "").removeprefix("Source:").split())

    @property
    def yaml(self) -> str:
        """What to paste into registry.yaml."""
        from mercore.writing import flow  # YAML, which the table of what is installed does without

        name, options = self.component.name, self.component.example
        shown = f", with: {flow(dict(options))}" if options else ""
        if not isinstance(self.component, MediaComponent):
            used = f"{{uses: {name}{shown}}}" if options else name
            return f"{self.provided.kind}: {used}{self._hint}"
        section = "streams" if isinstance(self.component, Preprocessor) else "features"
        wires = ", ".join(
            f"{given}: {_root(given, spec)}"
            for given, spec in self.inputs.items()
            if given not in self.optional
        )
        return f"{section}:\n  {_free(name)}: {{uses: {name}, inputs: {{{wires}}}{shown}}}"

    @property
    def _hint(self) -> str:
        """What a fusion wants of the features, as a comment."""
        if isinstance(self.component, Fusion) and self.component.most_frames is not None:
            return "  # of features with frames: true"
        return ""


def installed(plugins: Plugins, provided: Provided) -> Installed:
    """Return the component with its default options, those of its `example` where it has some."""
    component = provided.component
    try:
        built = plugins.build(KINDS[provided.kind], component.name, component.example)
        return Installed(provided, built, "")
    except MercoreError as error:
        # Two plugins with one name, or options that must be given: what is said of it holds still.
        problem = str(error)
    except Exception as error:  # of a plugin: the others are listed all the same
        problem = f"{type(error).__name__}: {error}"
    return Installed(provided, component.model_construct(), problem)


def find(plugins: Plugins, name: str, kind: str | None = None) -> Provided:
    """Return who provides the component, of whatever kind; raises PluginError with a near name."""
    kinds = [
        provided.kind
        for provided in plugins
        if provided.component.name == name and kind in (None, provided.kind)
    ]
    if len(set(kinds)) > 1:
        raise PluginError(f"{name!r} is {' and '.join(kinds)}; say which by --kind")
    if kinds or kind:
        return plugins.provided(kind or kinds[0], name)
    hint = did_you_mean(name, [provided.component.name for provided in plugins])
    aside = "".join(f"; {broken}" for broken in plugins.broken)
    raise PluginError(
        f"no component is called {name!r}{hint or '; `mer plugins` lists what is installed'}{aside}"
    )


def _free(name: str) -> str:
    """Return a name for a stream or feature that is no column of the manifest."""
    from mercore.pipeline import ROOTS

    return f"my_{name}" if name in ROOTS else name


def _root(given: str, spec: Spec) -> str:
    """Return a column of the manifest that an input can read."""
    from mercore.pipeline import ROOTS

    if ROOTS.get(given) is type(spec):
        return given
    return next(root for root, kind in ROOTS.items() if kind is type(spec))
