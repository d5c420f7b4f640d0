"""From text to token ids, by sentencepiece itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from mercore.errors import CheckpointError, InputError, RegistryError
from mercore.nn import read_json
from mercore_baichuan import Baichuan
from mercore_baichuan._layouts import Sizes

# Of the published Chat models; generation_config.json says it too.
_CHAT = {"user_token_id": 195, "assistant_token_id": 196}
# A tokenizer with fewer pieces than this share of the embedding is another model's: Baichuan has
# 64,000, Baichuan2 125,696. Tuned models may have a few rows to spare.
_LEAST = 0.75


@dataclass(frozen=True)
class Line:
    """What the model reads for one text."""

    ids: list[int]
    start: int
    """Where the text begins in it, after the prompt."""
    read: int
    """How many tokens of the text are in it."""
    tokens: int
    """How many tokens the text has."""

    def rows(self, pool: str) -> range:
        """Return the positions whose hidden states are wanted: the text's, or the last of all."""
        if pool == "last":
            return range(len(self.ids) - 1, len(self.ids))
        return range(self.start, self.start + self.read)


class Lines:
    """Makes the lines of texts, with prompt and chat tokens as the options say."""

    def __init__(self, options: Baichuan, folder: Path, sizes: Sizes) -> None:
        self._processor = _processor(folder / "tokenizer.model", sizes)
        prompt = self._ids(options.prompt or "")
        user, assistant = _chat_ids(folder, sizes) if options.chat else ([], [])
        self._before, self._after = [*user, *prompt], assistant
        self._room = sizes.context - len(self._before) - len(self._after)
        if self._room < 1:
            raise RegistryError(
                f"baichuan: option 'prompt' has {len(prompt)} tokens, which leaves none of the "
                f"{sizes.context} that the checkpoint reads for the text; shorten it"
            )

    def line(self, text: str) -> Line:
        """Return what to read for the text, with `read` 0 where it has no tokens."""
        ids = self.plain(text)
        read = ids[: self._room]
        return Line([*self._before, *read, *self._after], len(self._before), len(read), len(ids))

    @property
    def end(self) -> int:
        """The token that a text ends with where the model was trained: 2."""
        number: int = self._processor.eos_id()
        return number

    def plain(self, text: str) -> list[int]:
        """Return the tokens of the text alone, however many."""
        return self._ids(text) if text.strip() else []

    def _ids(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the text is no valid Unicode: {error}; save it as UTF-8") from error
        ids: list[int] = self._processor.encode(text)
        return ids


def _processor(file: Path, sizes: Sizes) -> SentencePieceProcessor:
    try:
        processor = SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}; fetch the file again") from error
    pieces = processor.vocab_size()
    if not _LEAST * sizes.vocab_size <= pieces <= sizes.vocab_size:
        raise CheckpointError(
            f"{file}: has {pieces} word pieces, but the embedding {sizes.vocab_size} rows; is it "
            "the tokenizer of another checkpoint? Baichuan and Baichuan2 have different ones"
        )
    return processor


def _chat_ids(folder: Path, sizes: Sizes) -> tuple[list[int], list[int]]:
    """Return the tokens that a user's turn and the assistant's begin with."""
    file = folder / "generation_config.json"
    given = read_json(file) if file.is_file() else {}
    ids = [given.get(name, usual) for name, usual in _CHAT.items()]
    wrong = [each for each in ids if not isinstance(each, int) or not 0 <= each < sizes.vocab_size]
    if wrong:
        raise CheckpointError(
            f"{file}: {' and '.join(_CHAT)} are {ids!r}, expected numbers of the "
            f"{sizes.vocab_size} tokens; fetch the file again"
        )
    return ids[:1], ids[1:]
