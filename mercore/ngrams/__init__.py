"""N-gram language models: read one in the ARPA format and score with it.

Imports nothing heavy.
"""

from mercore.ngrams._arpa import read_arpa
from mercore.ngrams._model import UNKNOWN_FLOOR, BackoffModel, State

__all__ = ["UNKNOWN_FLOOR", "BackoffModel", "State", "read_arpa"]
