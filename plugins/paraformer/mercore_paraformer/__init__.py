"""Paraformer speech recognition, n-gram language models and CT-Transformer punctuation."""

from __future__ import annotations

from mercore import hookimpl
from mercore.components import Preprocessor
from mercore_paraformer.asr import Paraformer

__all__ = ["Paraformer"]

__version__ = "0.1.0"


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    """Return the preprocessors this plugin provides."""
    return [Paraformer]
