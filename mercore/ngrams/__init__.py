"""N-gram language models: build them from text, read and write ARPA files, score words.

::

    model = build(read_sentences("corpus.txt"), order=3)
    write_arpa(model, Path("lm.arpa"))
    score, state = read_arpa(Path("lm.arpa")).score((), "好")
"""

from mercore.ngrams._corpus import Units, cut, read_sentences, read_tokens
from mercore.ngrams._kneser_ney import FALLBACK, Trained, build
from mercore.ngrams._model import UNKNOWN_FLOOR, BackoffModel, State
from mercore.ngrams._read import read_arpa
from mercore.ngrams._score import TextScore, score_text
from mercore.ngrams._write import arpa, write_arpa

__all__ = [
    "FALLBACK",
    "UNKNOWN_FLOOR",
    "BackoffModel",
    "State",
    "TextScore",
    "Trained",
    "Units",
    "arpa",
    "build",
    "cut",
    "read_arpa",
    "read_sentences",
    "read_tokens",
    "score_text",
    "write_arpa",
]
