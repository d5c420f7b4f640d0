"""Conformance suites for the components of a plugin, one a kind; they need pytest.

``TuningTests`` is beside them for an encoder that can be trained.

Subclass the suite of the kind and set ``component``; where the made-up samples do not suit it, set
``samples`` too. A check that cannot hold is overridden with ``xfail(reason=...)``, and only so.

The suites are imported when they are first used: pytest imports this package in every run, for
``mercore.testing._plugin``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercore.testing._encoder import EncoderTests
    from mercore.testing._ensemble import EnsembleTests
    from mercore.testing._fusion import FusionTests
    from mercore.testing._preprocessor import PreprocessorTests
    from mercore.testing._suite import xfail
    from mercore.testing._tuning import TuningTests

__all__ = [
    "EncoderTests",
    "EnsembleTests",
    "FusionTests",
    "PreprocessorTests",
    "TuningTests",
    "xfail",
]

_MODULES = {
    "EncoderTests": "_encoder",
    "EnsembleTests": "_ensemble",
    "FusionTests": "_fusion",
    "PreprocessorTests": "_preprocessor",
    "TuningTests": "_tuning",
    "xfail": "_suite",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"mercore.testing.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mercore.testing' has no attribute {name!r}")
