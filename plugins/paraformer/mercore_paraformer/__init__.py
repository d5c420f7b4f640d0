"""Speech recognition with Paraformer, n-gram language models, and punctuation."""

from __future__ import annotations

from mercore import hookimpl
from mercore.components import Preprocessor
from mercore_paraformer.asr import Paraformer
from mercore_paraformer.punctuation import CTTransformer

__all__ = ["CTTransformer", "Paraformer"]

__version__ = "0.1.0"


@hookimpl
def preprocessors() -> list[type[Preprocessor]]:
    """Return the preprocessors this plugin provides."""
    return [Paraformer, CTTransformer]
