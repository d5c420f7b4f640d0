"""From text to token numbers, by the file that each checkpoint brings."""

from __future__ import annotations

import base64
import unicodedata
from pathlib import Path
from typing import Final, Protocol

import tiktoken
from tokenizers import Tokenizer

from mercore.errors import CheckpointError

# How Qwen's first tokenizer cuts text into words before it merges bytes.
WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TIKTOKEN: Final = "qwen.tiktoken"
FAST: Final = "tokenizer.json"

_TASKS_AND_LANGUAGES: Final = """
startoftranscript startofanalysis translate transcribe caption keyword
unknown en zh de es ko fr ja it zh_tr notimestamps sil timestamps
"""
_INSTRUCTIONS: Final = """
caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn
startofentityvalue endofentityvalue startofentitytype endofentitytype named_entity_recognition
audio_grounding startofword endofword delim emotion_recognition music_description note_analysis
"""
_DESCRIPTIONS: Final = """
sonic instrument speaker_meta song_meta question answer choice scene event vocal_classification
speech_understanding scenario action entities speech_edit
"""


class Tokens(Protocol):
    """Turns text into token numbers."""

    size: int
    """One more than the greatest number."""

    def plain(self, text: str) -> list[int]:
        """Return the numbers of the text, in which nothing is special."""

    def marked(self, text: str) -> list[int]:
        """Return the numbers of the text, in which special tokens such as <|im_end|> count."""

    def number(self, token: str) -> int | None:
        """Return the number of a special token."""


class TiktokenTokens:
    """Qwen-Audio's: ``qwen.tiktoken`` has the ranks, the special tokens follow them in order."""

    def __init__(self, file: Path) -> None:
        ranks = _ranks(file)
        self._special = {token: len(ranks) + i for i, token in enumerate(special_tokens())}
        self._encoding = tiktoken.Encoding(
            "qwen", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=self._special
        )
        self.size = len(ranks) + len(self._special)

    def plain(self, text: str) -> list[int]:
        return self._encoding.encode_ordinary(unicodedata.normalize("NFC", text))

    def marked(self, text: str) -> list[int]:
        return self._encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")

    def number(self, token: str) -> int | None:
        return self._special.get(token)


class FastTokens:
    """Qwen2-Audio's: ``tokenizer.json`` has it all."""

    def __init__(self, file: Path) -> None:
        self._marked, self._plain = _tokenizer(file), _tokenizer(file)
        self._plain.encode_special_tokens = True  # as the text that they are
        self.size = 1 + max(self._marked.get_vocab(with_added_tokens=True).values(), default=-1)

    def plain(self, text: str) -> list[int]:
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def marked(self, text: str) -> list[int]:
        return list(self._marked.encode(text, add_special_tokens=False).ids)

    def number(self, token: str) -> int | None:
        found: int | None = self._marked.token_to_id(token)
        return found


def special_tokens() -> list[str]:
    """Return Qwen-Audio's special tokens in the order of their numbers."""
    return [
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        *(f"<|extra_{i}|>" for i in range(205)),
        "[[[AUDIO:modality]]]",
        *(f"<|{tag}|>" for tag in _tags()),
        *("<audio>", "</audio>"),
    ]


def _tags() -> list[str]:
    """Return the tags of Qwen-Audio's tasks; times are in seconds."""
    return [
        *_TASKS_AND_LANGUAGES.split(),
        *(f"{i / 100:.2f}" for i in range(3001)),
        *_INSTRUCTIONS.split(),
        *("pitch", *(f"midi_pitch_{i}" for i in range(128))),
        *("velocity", *(f"midi_velocity_{i}" for i in range(128))),
        *_DESCRIPTIONS.split(),
    ]


def _ranks(file: Path) -> dict[bytes, int]:
    """Return the number of each piece: a line has a piece in base64 and its number."""
    try:
        lines = [line.split() for line in file.read_bytes().splitlines() if line]
        ranks = {base64.b64decode(piece, validate=True): int(rank) for piece, rank in lines}
    except ValueError as error:
        raise CheckpointError(f"{file}: is no tiktoken file: {error}; fetch it again") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
        raise CheckpointError(
            f"{file}: its {len(ranks)} pieces are not numbered 0 to {len(ranks) - 1}, or are too "
            "few; was it cut? fetch it again"
        )
    return ranks


def _tokenizer(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise CheckpointError(f"{file}: cannot be read: {error}; fetch it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
