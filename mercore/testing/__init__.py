"""Conformance suites for the components of a plugin, one a kind; they need pytest.

Subclass the suite of the kind and set ``component``; where the made-up samples do not suit it, set
``samples`` too. A check that cannot hold is overridden with ``xfail(reason=...)``, and only so.
"""

from mercore.testing._encoder import EncoderTests
from mercore.testing._ensemble import EnsembleTests
from mercore.testing._fusion import FusionTests
from mercore.testing._preprocessor import PreprocessorTests
from mercore.testing._suite import xfail

__all__ = ["EncoderTests", "EnsembleTests", "FusionTests", "PreprocessorTests", "xfail"]
