"""Finds the installed plugins and looks up what they provide."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import isroutine
from types import ModuleType
from typing import Any, TypeVar, get_args

import pluggy
from pydantic import BaseModel, JsonValue, ValidationError

from mercore import hookspecs
from mercore.components import Component, Encoder, Ensemble, Fusion, Preprocessor
from mercore.errors import PluginError, RegistryError, did_you_mean, listed

GROUP = "mercore"
KINDS: Mapping[str, type[Component]] = {
    "preprocessor": Preprocessor,
    "encoder": Encoder,
    "fusion": Fusion,
    "ensemble": Ensemble,
}
HOOKS = tuple(f"{kind}s" for kind in KINDS)
_NAME = re.compile(r"[a-z][a-z0-9_]*")

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Provided:
    """One component class and where it comes from."""

    component: type[Component]
    kind: str
    plugin: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that was set aside, and why."""

    plugin: str
    distribution: str
    reason: str
    frame: str = ""
    """The last place of the traceback, as ``file:line in function``; empty where there is none."""

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} was set aside: {self.reason}"


class Plugins:
    """What the installed plugins provide.

    A plugin that cannot be imported or breaks the rules is set aside in ``broken``; the others
    work. Two plugins that provide one name are an error for whoever asks for that name.
    """

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self.broken: list[Broken] = []
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._origins: dict[str, tuple[str, str]] = {}
        self._provided: dict[tuple[str, str], list[Provided]] = {}
        for entry_point in entry_points(group=GROUP) if found is None else found:
            self._add(entry_point)

    def _add(self, entry_point: EntryPoint) -> None:
        origin = _origin(entry_point)
        self._origins[entry_point.name] = origin
        try:
            module: ModuleType = entry_point.load()
            self._register(module, entry_point.name)
            for provided in list(self._offered(entry_point.name)):
                self._provided.setdefault((provided.kind, provided.component.name), []).append(
                    provided
                )
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.broken.append(Broken(entry_point.name, origin[0], reason, _frame(error)))

    def _register(self, module: ModuleType, name: str) -> None:
        for function, value in vars(module).items():
            if function not in HOOKS and _is_hook(value):
                hint = did_you_mean(function, HOOKS) or f"; expected one of {', '.join(HOOKS)}"
                raise PluginError(f"unknown hook {function!r}{hint}")
        self._manager.register(module, name=name)

    def _offered(self, plugin: str) -> Iterator[Provided]:
        for kind, base in KINDS.items():
            for implementation in getattr(self._manager.hook, kind + "s").get_hookimpls():
                if implementation.plugin_name == plugin:
                    for component in implementation.function():
                        _check_class(component, kind, base)
                        yield Provided(component, kind, plugin, *self._origins[plugin])

    def __iter__(self) -> Iterator[Provided]:
        """Iterate over all that is provided, by kind and name; conflicting ones included."""
        for kind in KINDS:
            for key in sorted(self._provided):
                if key[0] == kind:
                    yield from self._provided[key]

    def conflicts(self) -> list[str]:
        """Return one message for each name that two plugins provide."""
        return [_conflict(rivals) for rivals in self._provided.values() if len(rivals) > 1]

    def provided(self, kind: str, name: str) -> Provided:
        """Return who provides the component; raises PluginError with the nearest name."""
        rivals = self._provided.get((kind, name), [])
        if len(rivals) > 1:
            raise PluginError(_conflict(rivals))
        if rivals:
            return rivals[0]
        known = [key[1] for key in self._provided if key[0] == kind]
        other = [key[0] for key in self._provided if key[1] == name]
        hint = f"; {name!r} is {_article(other[0])}" if other else did_you_mean(name, known)
        aside = "; " + "; ".join(map(str, self.broken)) if self.broken else ""
        raise PluginError(
            f"no {kind} is called {name!r}{hint}{aside}"
            + ("" if hint else "; `mer plugins` lists what is installed")
        )

    def build(self, base: type[C], uses: str, options: Mapping[str, JsonValue]) -> C:
        """Return the component `uses` of kind `base` with its options.

        Raises PluginError for an unknown name and RegistryError with all mistakes in the options.
        """
        kind = next(kind for kind, known in KINDS.items() if known is base)
        component = self.provided(kind, uses).component
        values: dict[str, Any] = dict(options)
        for field, nested in _component_fields(component).items():
            if isinstance(values.get(field), Mapping):
                values[field] = self._build_option(nested, f"{uses}: with.{field}", values[field])
        try:
            built = component(**values)
        except ValidationError as error:
            raise RegistryError(_option_mistakes(uses, component, error)) from error
        assert isinstance(built, base)  # checked when it was registered
        return built

    def _build_option(self, base: type[Component], where: str, given: Mapping[str, Any]) -> Any:
        if problem := _unfit(given):
            raise RegistryError(f"{where}: {problem}")
        return self.build(base, given["uses"], given.get("with") or {})


def _unfit(given: Mapping[str, Any]) -> str:
    """Return what is wrong with ``{uses: NAME, with: {...}}``, or ``""``."""
    for key in given:
        if key not in ("uses", "with"):
            return f"unknown key {key!r}{did_you_mean(key, ('uses', 'with'))}"
    if not isinstance(given.get("uses"), str):
        return "expected {uses: NAME, with: {...}}"
    return "" if isinstance(given.get("with") or {}, Mapping) else "with: expected a mapping"


def _is_hook(value: object) -> bool:
    """Return whether `hookimpl` has marked it."""
    return isroutine(value) and hasattr(value, f"{GROUP}_impl")


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """Return the distribution that has the entry point, and its version."""
    if entry_point.dist is None:
        return "unknown", "0"
    metadata = entry_point.dist.metadata  # each look at it reads the file
    return metadata["Name"], metadata["Version"]


def _frame(error: Exception) -> str:
    """Return where in the plugin's own code the error was raised, or ``""``."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if any(part in last.filename for part in (__file__, "importlib", *pluggy.__path__)):
        return ""  # a check of mercore or pluggy, or the import machinery
    return f"{last.filename}:{last.lineno} in {last.name}"


def _check_class(component: object, kind: str, base: type[Component]) -> None:
    if not (isinstance(component, type) and issubclass(component, base)):
        raise PluginError(f"hook {kind}s returned {component!r}, expected {base.__name__} classes")
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"{component.__qualname__}.name is {name!r}, expected lower-case letters, digits, '_'"
        )


def _conflict(rivals: list[Provided]) -> str:
    names = " and ".join(sorted(rival.origin for rival in rivals))
    return (
        f"{names} both provide {_article(rivals[0].kind)} called {rivals[0].component.name!r}; "
        "uninstall one of them"
    )


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _component_fields(component: type[Component]) -> dict[str, type[Component]]:
    """Return the options that are themselves components, with their kind."""
    found = {}
    for name, info in component.model_fields.items():
        for candidate in (info.annotation, *get_args(info.annotation)):
            if candidate in KINDS.values():
                found[name] = candidate
    return found


def _options(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the names of the options of the model that lies at `path` in `model`."""
    names = [part for part in path if part in model.model_fields]
    if not names:
        return list(model.model_fields)
    below = list(models_in(model.model_fields[str(names[0])].annotation))
    rest = path[path.index(names[0]) + 1 :]
    return [option for nested in below for option in _options(nested, rest)]


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, such as ``tuple[Band, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def _option_mistakes(uses: str, component: type[Component], error: ValidationError) -> str:
    mistakes = []
    wrong = [detail["loc"] for detail in error.errors()]
    for detail in error.errors():
        *above, name = detail["loc"] or ("",)
        option = ".".join(map(str, detail["loc"]))
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "too_short" and any(loc[:-1] == detail["loc"] for loc in wrong):
            continue  # what is wrong itself does not count as given
        if detail["type"] == "extra_forbidden":
            known = _options(component, above)
            message = "unknown option" + (
                did_you_mean(str(name), known) or f"; expected one of {', '.join(known) or 'none'}"
            )
        mistakes.append(f"{'.'.join(filter(None, ('with', option)))}: {message}")
    return f"{uses}: {mistakes[0]}" if len(mistakes) == 1 else f"{uses}:{listed(mistakes)}"
