"""The words of the classes as tokens that are to follow a prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from mercore.errors import CheckpointError
from mercore_qwen_jat._tokens import Tokens


@dataclass(frozen=True)
class Answers:
    """The tokens of each class's word, with the end token behind."""

    words: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, words: Iterable[str], tokens: Tokens, end: str) -> Answers:
        """Return the answers; `end` is the special token that ends each.

        Raises CheckpointError for a tokenizer without it.
        """
        last = tokens.number(end)
        if last is None:
            raise CheckpointError(
                f"the tokenizer has no token {end}, which ends an answer; fetch the file that was "
                "published with the checkpoint"
            )
        return cls(tuple((*tokens.plain(word), last) for word in words))

    @property
    def longest(self) -> int:
        """How many tokens are read behind the prompt at most: the end token is not."""
        return max(len(word) for word in self.words) - 1

    @cached_property
    def ids(self) -> list[int]:
        """What is read behind the prompt: all words one after another, without their ends."""
        return [token for word in self.words for token in word[:-1]]

    @cached_property
    def groups(self) -> list[int]:
        """Which word each of `ids` is of, from 1: the prompt is 0."""
        return [n for n, word in enumerate(self.words, 1) for _ in word[:-1]]

    def positions(self, length: int) -> list[int]:
        """Return the position of each of `ids` behind a prompt of `length` tokens."""
        return [length + place for word in self.words for place in range(len(word) - 1)]

    def predicted(self) -> dict[str, list[int]]:
        """Return for each token of each answer where it is predicted, what it is, and its class.

        It is predicted at ``where``: 0 is the end of the prompt, k the k-th of `ids`.
        """
        where: list[int] = []
        for n, word in enumerate(self.words):
            before = len(where) - n  # each word so far has an end, which is not read
            where += [0, *range(before + 1, before + len(word))]
        tokens = [token for word in self.words for token in word]
        classes = [n for n, word in enumerate(self.words) for _ in word]
        return {"where": where, "tokens": tokens, "classes": classes}
