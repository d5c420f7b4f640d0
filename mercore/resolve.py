"""From a registry to a pipeline: components looked up, wired, checked and fingerprinted."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from pydantic import JsonValue

from mercore.components import Component, Encoder, Ensemble, Fusion, MediaComponent, Preprocessor
from mercore.document import Key, Mistake
from mercore.errors import MercoreError, did_you_mean
from mercore.fingerprints import describe, fingerprint
from mercore.media import REVISION, Spec
from mercore.pipeline import ROOTS, BranchNode, Node, Pipeline
from mercore.plugins import Plugins
from mercore.registry import Branch, FeatureUse, Registry, StreamUse, Use

C = TypeVar("C", bound=Component)
_SHOWN = 100  # characters of a path


def resolve(registry: Registry, plugins: Plugins) -> Pipeline:
    """Return the pipeline; raises RegistryError with every mistake and its line."""
    return _Resolver(registry, plugins).resolve()


class _Resolver:
    """Looks up and wires one registry's components, and collects the mistakes."""

    def __init__(self, registry: Registry, plugins: Plugins) -> None:
        self.registry = registry
        self.content = registry.content
        self.plugins = plugins
        self.mistakes: list[Mistake] = []
        self.nodes: dict[str, Node] = {}

    def resolve(self) -> Pipeline:
        preprocessors = self._components("streams", self.content.streams, Preprocessor)
        encoders = self._components("features", self.content.features, Encoder)
        kinds = dict(ROOTS) | {name: type(part.output) for name, part in preprocessors.items()}
        wiring = {
            name: self._wire(("streams", name), self.content.streams[name], part, kinds)
            for name, part in preprocessors.items()
        }
        features = {
            name: self._wire(("features", name), self.content.features[name], part, kinds)
            for name, part in encoders.items()
        }
        branches = {name: self._branch(name, use) for name, use in self.content.branches.items()}
        self._check_warm(branches)
        ensemble = self._build(("ensemble",), self.content.ensemble, Ensemble)
        order = self._order(wiring)
        if self.mistakes or ensemble is None:
            raise self.registry.error(self.mistakes)
        for name in order:
            use = self.content.streams[name]
            self._add_node(("streams", name), preprocessors[name], wiring[name], use)
        streams = dict(self.nodes)
        for name, part in encoders.items():
            self._add_node(("features", name), part, features[name], self.content.features[name])
        if self.mistakes:
            raise self.registry.error(self.mistakes)
        nodes = {name: node for name, node in self.nodes.items() if name not in streams}
        trained = {name: branch for name, branch in branches.items() if branch}
        return Pipeline(self.registry, streams, nodes, trained, ensemble)

    def _add_node(
        self, key: tuple[str, str], part: MediaComponent, wires: dict[str, str], use: StreamUse
    ) -> None:
        if not all(stream in self.nodes or stream in ROOTS for stream in wires.values()):
            return  # what it reads is wrong, and reported
        try:
            self.nodes[key[1]] = self._node(key[1], part, wires, use)
        except MercoreError as error:  # a checkpoint that is not there, most often
            self._add(key, str(error))
        except OSError as error:  # files that may not be read, and names that no file can have
            self._add(key, f"{str(error.filename)[:_SHOWN]!r}: {error.strerror}")

    def _components(
        self, section: str, uses: Mapping[str, StreamUse], base: type[C]
    ) -> dict[str, C]:
        built = {name: self._build((section, name), use, base) for name, use in uses.items()}
        return {name: component for name, component in built.items() if component is not None}

    def _build(self, key: Key, use: Use, base: type[C]) -> C | None:
        try:
            return self.plugins.build(base, use.uses, use.with_)
        except MercoreError as error:
            self._add(key, str(error))
        except OSError as error:  # as below
            self._add(key, f"{str(error.filename)[:_SHOWN]!r}: {error.strerror}")
        return None

    def _branch(self, name: str, branch: Branch) -> BranchNode | None:
        common = self.content.fusion
        # Options of the common fusion hold for a branch that uses it and overrides some.
        same = branch.uses in (None, common.uses)
        options = {**(common.with_ if same else {}), **branch.with_}
        use = Use.model_validate({"uses": branch.uses or common.uses, "with": options})
        fusion = self._build(("branches", name), use, Fusion)
        if fusion is None:
            return None
        if fusion.most_frames is not None:
            self._check_frames(name, branch, fusion)
        return BranchNode(name, branch.features, fusion, self._origin("fusion", fusion))

    def _check_warm(self, branches: Mapping[str, BranchNode | None]) -> None:
        if not self.content.mining or self.content.mining.warm is None:
            return
        for name, branch in branches.items():
            if branch and not branch.fusion.resumes:
                self._add(
                    ("mining", "warm"),
                    f"fusion {branch.fusion.name!r} of branch {name!r} cannot go on from earlier "
                    "weights; leave 'warm' out",
                )

    def _check_frames(self, name: str, branch: Branch, fusion: Fusion) -> None:
        for feature in branch.features:
            use = self.content.features.get(feature)
            if use and not use.frames:
                self._add(
                    ("branches", name),
                    f"fusion {fusion.name!r} reads the frames of {feature!r}, of which vectors "
                    f"alone are kept; add 'frames: true' to the feature",
                )

    def _wire(
        self, key: Key, use: StreamUse, part: MediaComponent, kinds: Mapping[str, type[Spec]]
    ) -> dict[str, str]:
        """Return input name to stream, the implied ones included."""
        wires: dict[str, str] = {}
        for given in use.inputs:
            if given not in part.needs():
                hint = did_you_mean(given, part.needs()) or f"; it reads {', '.join(part.needs())}"
                self._add((*key, "inputs", given), f"{part.name!r} has no such input{hint}")
        for name, spec in part.needs().items():
            stream = use.inputs.get(name, name)
            # An optional column of the manifest is read only when it is asked for by name.
            implied = stream in self.content.streams or (
                stream in ROOTS and name not in part.optional
            )
            if name in use.inputs or implied:
                wires[name] = stream
                self._check_kind((*key, "inputs", name), stream, spec, kinds)
            elif name not in part.optional:
                self._add(key, f"{part.name!r} needs inputs: {{{name}: <a stream>}}")
        return wires

    def _check_kind(
        self, key: Key, stream: str, spec: Spec, kinds: Mapping[str, type[Spec]]
    ) -> None:
        # A stream whose own component is wrong is missing in `kinds` and reported already.
        if stream in kinds and kinds[stream] is not type(spec):
            found, expected = kinds[stream].__name__.lower(), type(spec).__name__.lower()
            self._add(key, f"stream {stream!r} is {found}, expected {expected}")

    def _add(self, key: Key, message: str) -> None:
        self.mistakes.append((key, message))

    def _order(self, wiring: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return the streams so that each comes after those it reads."""
        graph = {
            name: [stream for stream in wires.values() if stream in wiring]
            for name, wires in wiring.items()
        }
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " -> ".join(map(str, error.args[1]))
            self._add(("streams", str(error.args[1][0])), f"reads itself in a circle: {circle}")
            return []

    def _node(
        self, name: str, part: MediaComponent, wires: Mapping[str, str], use: StreamUse
    ) -> Node:
        roots = sorted({root for stream in wires.values() for root in self._roots(stream)})
        sources: dict[str, JsonValue] = {
            given: {
                "stream": self.nodes[stream].fingerprint if stream in self.nodes else stream,
                "spec": repr(part.needs()[given]),
            }
            for given, stream in wires.items()
        }
        decided_by: JsonValue = {
            "media": REVISION,
            "component": describe(part),
            "inputs": sources,
            "dtype": use.dtype,
        }
        kind = "preprocessor" if isinstance(part, Preprocessor) else "encoder"
        origin = self._origin(kind, part)
        frames = isinstance(use, FeatureUse) and use.frames
        return Node(
            name, part, wires, tuple(roots), fingerprint(decided_by), origin, use.dtype, frames
        )

    def _origin(self, kind: str, component: Component) -> str:
        return self.plugins.provided(kind, component.name).origin

    def _roots(self, stream: str) -> tuple[str, ...]:
        return self.nodes[stream].roots if stream in self.nodes else (stream,)
