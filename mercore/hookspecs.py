"""The four hooks of a mercore plugin.

Each returns classes, never instances: what a plugin provides can be listed and checked without
loading a weight.
"""

from __future__ import annotations

import pluggy

from mercore.components import Encoder, Ensemble, Fusion, Preprocessor

hookspec = pluggy.HookspecMarker("mercore")
hookimpl = pluggy.HookimplMarker("mercore")


@hookspec
def preprocessors() -> list[type[Preprocessor]]:  # type: ignore[empty-body]
    """Return the preprocessors this plugin provides."""


@hookspec
def encoders() -> list[type[Encoder]]:  # type: ignore[empty-body]
    """Return the encoders this plugin provides."""


@hookspec
def fusions() -> list[type[Fusion]]:  # type: ignore[empty-body]
    """Return the fusions this plugin provides."""


@hookspec
def ensembles() -> list[type[Ensemble]]:  # type: ignore[empty-body]
    """Return the ensembles this plugin provides."""
