"""What all suites share: the checks of a component's options, and how a check is overridden."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn, TypeVar

import pytest
from pydantic import ValidationError

from mercore.components import Component
from mercore.errors import MercoreError
from mercore.fingerprints import describe
from mercore.plugins import KINDS, Plugins
from mercore.testing._copies import through_bytes
from mercore.testing._light import heavy_imports, loaded_from

Check = TypeVar("Check", bound=Callable[..., None])


def xfail(*, reason: str) -> Callable[[Check], Check]:
    """Return the decorator for a check that is overridden because it cannot hold.

    The check must then fail: the day it holds, the test says that the override can go. Raises
    ValueError for an empty reason.
    """
    if not reason.strip():
        raise ValueError("xfail(reason=...): found no reason, expected why the check cannot hold")
    mark: Callable[[Check], Check] = pytest.mark.xfail(reason=reason, strict=True)
    return mark


def _ours(suite: type) -> bool:
    return suite.__module__.startswith("mercore.testing.")


def _replaced(suite: type) -> Iterator[str]:
    """Yield the checks of mercore.testing that the suite does not take from there."""
    for name in dir(suite):
        owners = [base for base in suite.__mro__ if name in vars(base)]
        if name.startswith("test_") and _ours(owners[-1]) and not _ours(owners[0]):
            yield name


def _excused(check: object) -> bool:
    marks = getattr(check, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


class Suite:
    """What all suites share. Set ``component`` in a subclass."""

    component: Component
    """The component under test, with the options that its results depend on."""

    _kind: ClassVar[type[Component]] = Component
    _advice: str = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in _replaced(cls):
            if not _excused(getattr(cls, name)):
                raise TypeError(
                    f"{cls.__qualname__}.{name} overrides a check of mercore.testing; mark it "
                    '@xfail(reason="why it cannot hold") from mercore.testing, and call '
                    f"super().{name}() in it"
                )

    @classmethod
    def setup_class(cls) -> None:
        """Refuse a suite whose component is missing or of another kind."""
        found = getattr(cls, "component", None)
        if not isinstance(found, cls._kind):
            raise TypeError(
                f"{cls.__qualname__}.component is {found!r}, expected one of kind "
                f"{cls._kind.__name__}; set `component = YourClass(...)`"
            )

    @pytest.fixture(autouse=True)
    def _advised(self, request: pytest.FixtureRequest) -> None:
        self._advice = inspect.getdoc(request.function) or ""

    def require(self, holds: object, found: str) -> None:
        """Fail the running check unless `holds`; say what was found and how to cure it."""
        __tracebackhide__ = True  # pytest then shows the check, not this
        if not holds:
            self.fail(found)

    def fail(self, found: str, cause: BaseException | None = None) -> NoReturn:
        """Fail the running check; say what was found and how to cure it."""
        __tracebackhide__ = True
        advice = "\n".join(f"  {line}" for line in self._advice.splitlines())
        raise AssertionError(f"{self.component.name}: {found}\n{advice}") from cause


class ComponentTests(Suite):
    """The checks of every kind of component. Set ``component`` in a subclass."""

    def test_importing_is_light(self) -> None:
        """Finding the plugin imports no heavy package, such as torch.

        Why: every `mer` command finds all plugins, also those that it does not use.

        Cure: import torch and the like in a module of its own (`_model.py`), and that module
        inside `load` or `fit`, not at the top of the module with the component.
        """
        value = loaded_from(type(self.component))
        try:
            heavy = heavy_imports(value)
        except RuntimeError as error:
            self.fail(f"{value!r} cannot be loaded in a fresh process: {error}", error)
        brought = ", ".join(f"{name} (imported by {by})" for name, by in heavy.items())
        self.require(not heavy, f"loading {value!r} in a fresh process imports {brought}")

    def test_it_is_registered(self) -> None:
        """The component is found under its name, through an entry point and a hook.

        Why: registry.yaml knows a component by its name alone.

        Cure: return the class from the hook of its kind, marked `@hookimpl`; name the module
        under `[project.entry-points.mercore]`; install the plugin again (`pip install -e .`).
        """
        kind = next(kind for kind, base in KINDS.items() if base is self._kind)
        try:
            found = Plugins().provided(kind, self.component.name).component
        except MercoreError as error:
            self.fail(str(error), error)
        self.require(found is type(self.component), f"the name belongs to {found!r}")

    def test_options_round_trip(self) -> None:
        """Options written as JSON, as a run folder keeps them, give the same component again.

        Why: a trained pipeline is read again from its run folder.

        Cure: let the fields be plain types (numbers, text, tuples, Literal); leave none out with
        `exclude`; give a serializer the validator that reads what it writes.
        """
        try:
            again = rebuilt(self.component)
        except (TypeError, ValueError) as error:
            self.fail(f"its options do not survive JSON: {error}", error)
        self.require(again == self.component, f"found {again!r}, expected {self.component!r}")

    def test_an_unknown_option_is_refused(self) -> None:
        """A misspelt option is an error, never ignored.

        Why: with a misspelt option an experiment would run with the default, and nobody would know.

        Cure: keep `extra="forbid"` of the base class in `model_config`.
        """
        given = _fields(self.component) | {"no_such_option": 1}
        try:
            type(self.component)(**given)
        except ValidationError:
            return
        self.fail("the option 'no_such_option' was accepted")

    def test_it_is_frozen_and_hashable(self) -> None:
        """A component does not change, and can be a key.

        Why: the options are part of the fingerprint, which must stay true.

        Cure: keep `frozen=True` of the base class; use tuples, not lists or dicts, as options.
        """
        self.require(self.component.model_config.get("frozen"), "it is not frozen")
        try:
            hash(self.component)
        except TypeError as error:
            self.fail(f"it has no hash: {error}", error)

    def test_its_identity_is_json_and_stable(self) -> None:
        """What goes into the fingerprint is JSON, and the same for equal components.

        Why: a fingerprint that changes by itself would have everything extracted again.

        Cure: return text, numbers, lists and mappings from `identity`, such as a hash of the
        files' content; never a time, an address in memory or a `Path`.
        """
        twin = type(self.component)(**_fields(self.component))
        try:
            texts = [json.dumps(describe(c), allow_nan=False) for c in (self.component, twin)]
        except (TypeError, ValueError) as error:
            self.fail(f"identity() is {self.component.identity()!r}, no JSON: {error}", error)
        self.require(texts[0] == texts[1], f"two equal components are {texts[0]} and {texts[1]}")

    def test_it_can_be_pickled(self) -> None:
        """Copies made of bytes are equal, by multiprocessing and, where installed, cloudpickle.

        Why: other processes get a component so, those of Ray too; they load the weights there.

        Cure: keep nothing but the options on `self`: no lock, no open file, no loaded model; open
        them in `load`. Define the class at the top of a module.
        """
        try:
            copies = list(through_bytes(self.component))
        except Exception as error:
            self.fail(f"it cannot be pickled: {type(error).__name__}: {error}", error)
        for how, copy in copies:
            alike = copy == self.component
            self.require(alike, f"the copy of {how} is {copy!r}, expected {self.component!r}")


def rebuilt(component: Component) -> Component:
    """Return the component built again from its options as JSON; so are those that are options."""
    options: dict[str, Any] = json.loads(json.dumps(component.model_dump(mode="json")))
    for name, value in _fields(component).items():
        if isinstance(value, Component):
            options[name] = rebuilt(value)
    return type(component)(**options)


def _fields(component: Component) -> dict[str, Any]:
    return {name: getattr(component, name) for name in type(component).model_fields}
