"""From text to token ids, by the checkpoint's own tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer

from mercore.errors import CheckpointError, InputError, RegistryError
from mercore.nn import quiet_transformers
from mercore_transformers._sources import said

WANTED: Final = (("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),)
USEFUL: Final = (
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model"),
)
# A tokenizer without a limit of its own says a number of thirty digits.
_NO_LIMIT: Final = 10**9


@dataclass(frozen=True)
class Piece:
    """What the network reads at once."""

    ids: list[int]
    special: list[bool]
    """Which of them the tokenizer added."""

    @property
    def own(self) -> int:
        """How many of them are of the text."""
        return len(self.ids) - sum(self.special)


class Tokens:
    """Cuts texts into pieces that the network can read."""

    def __init__(
        self, folder: Path, who: str, *, positions: int | None, vocabulary: int, most: int | None
    ) -> None:
        self._tokenizer = _tokenizer(folder)
        if len(self._tokenizer) > vocabulary:
            raise CheckpointError(
                f"{folder}: its tokenizer has {len(self._tokenizer)} tokens, but the network knows "
                f"{vocabulary}; is it the tokenizer of another checkpoint?"
            )
        if most is not None and positions is not None and most > positions:
            raise RegistryError(
                f"{who}: option 'max_tokens' is {most}, but {folder.name!r} reads {positions} at "
                "most"
            )
        own = self._tokenizer.model_max_length
        limits = (most or (own if own < _NO_LIMIT else None), positions)
        self.most = min((limit for limit in limits if limit), default=None)
        """The most tokens of a piece, those that the tokenizer adds included."""

    def pieces(self, prefix: str, text: str) -> list[Piece]:
        """Return the pieces of prefix and text, none for a text without a word."""
        if not text.strip():
            return []
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the text is no valid Unicode: {error}; save it as UTF-8") from error
        cut: dict[str, Any] = (
            {"truncation": True, "max_length": self.most, "return_overflowing_tokens": True}
            if self.most
            else {}
        )
        made = self._tokenizer(
            [prefix + text], return_special_tokens_mask=True, verbose=False, **cut
        )
        found = zip(made["input_ids"], made["special_tokens_mask"], strict=True)
        pieces = [Piece(ids, [bool(each) for each in special]) for ids, special in found]
        return [piece for piece in pieces if piece.own]


def _tokenizer(folder: Path) -> Any:
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # the library's, and plain ones of the tokenizers package
        raise CheckpointError(
            f"{folder}: has no tokenizer that can be used: {said(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{folder}: its {type(tokenizer).__name__} has no fast form (tokenizer.json), which "
            "cutting long texts needs; save one beside it, or it needs a plugin of its own"
        )
    tokenizer.truncation_side = "right"
    return tokenizer
