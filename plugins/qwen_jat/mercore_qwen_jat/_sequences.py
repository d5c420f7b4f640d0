"""What the model reads of a sample: the audio, the transcript and the prompt as tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from mercore.components import Inputs
from mercore.errors import RegistryError
from mercore.inputs import audio_of, text_of
from mercore.media import FloatArray
from mercore_qwen_jat import QwenJAT
from mercore_qwen_jat._layout import Layout
from mercore_qwen_jat._mel import RATE, SAMPLES
from mercore_qwen_jat._tokens import Tokens

SHORTEST: Final = 480  # samples: 30 ms, which give one row
TOKEN: Final = -1
"""The place of what is a token, not a row of the audio."""
_SYSTEM: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_ANSWER: Final = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class JointSequence:
    """What the model reads of one sample."""

    samples: FloatArray
    frames: int
    """Behind the second convolution; two of them are a row."""
    ids: list[int]
    """The numbers of all tokens; those of the audio stand for its rows."""
    places: list[int]
    """Which row of the audio stands in the place of each token, see ``JointModel.joined``."""
    span: slice
    """The audio span in `ids`, with its two markers."""
    words: slice
    """The transcript in `ids`."""
    record: dict[str, JsonValue] = field(default_factory=dict)

    def pooled(self, options: QwenJAT) -> slice:
        """Return which rows are asked for."""
        whole = slice(0, len(self.ids))
        return {"all": whole, "audio": self.span, "text": self.words}[options.pool]


class Sequences:
    """Makes sequences as the options say, with room for an `answer` of so many tokens behind."""

    def __init__(self, options: QwenJAT, layout: Layout, tokens: Tokens, answer: int = 0) -> None:
        self._layout, self._tokens = layout, tokens
        self._longest = layout.longest - answer
        self._head, self._joint, self._tail = self._fixed(options)

    def of(self, sample: Inputs) -> JointSequence:
        """Return what the model reads of the sample; raises InputError for unfit audio."""
        samples, record = _audio_of(sample)
        frames = self._layout.frames(len(samples))
        before, audio, behind = map(self._number, self._layout.span)
        head = [*self._head, before, *[audio] * (frames // 2), behind]
        start = len(head) + len(self._joint)
        words = self._tokens.plain(text_of(sample).strip())
        room = self._longest - start - len(self._tail)
        if len(words) > room:
            record |= {"tokens": len(words), "read_tokens": room}
            words = words[:room]
        rest = [*self._joint, *words, *self._tail]
        return JointSequence(
            samples,
            frames,
            [*head, *rest],
            places=[
                *[TOKEN] * len(self._head), *self._rows(frames // 2), *[TOKEN] * len(rest)
            ],
            span=slice(len(self._head), len(head)),
            words=slice(start, start + len(words)),
            record=record,
        )  # fmt: skip

    def _rows(self, rows: int) -> list[int]:
        """Return the places of the audio span; markers that are weights come before its rows."""
        if self._layout.markers:
            return [0, *range(2, rows + 2), 1]
        return [TOKEN, *range(rows), TOKEN]

    def _fixed(self, options: QwenJAT) -> tuple[list[int], list[int], list[int]]:
        """Return what stands before the audio span, between it and the transcript, and last."""
        marked = self._tokens.marked
        prompt = self._prompt(options.prompt)
        chat = options.template == "chat"
        head = marked(_SYSTEM + self._layout.heading) if chat else []
        joint = marked("\n") if chat else []
        tail = [*prompt, *(marked(_ANSWER) if chat else [])]
        audio = self._layout.frames(SAMPLES) // 2 + 2
        room = self._longest - len(head) - audio - len(joint) - len(tail)
        if room < 1:
            raise RegistryError(
                f"qwen_jat: option 'prompt' has {len(prompt)} tokens, {1 - room} too many beside "
                f"30 s of audio; the checkpoint reads {self._layout.longest} in all"
            )
        return head, joint, tail

    def _prompt(self, prompt: str) -> list[int]:
        """Return the prompt's tokens; raises RegistryError for special ones that cannot be."""
        for token in (*re.findall(r"<\|[^\s<|>]+\|>", prompt), *self._layout.span):
            if self._tokens.number(token) is None:
                raise RegistryError(
                    f"qwen_jat: option 'prompt' has {token!r}, which is no special token of the "
                    "checkpoint; use one that is, or words"
                )
            if token in self._layout.span and token in prompt:
                raise RegistryError(
                    f"qwen_jat: option 'prompt' has the token {token!r}; the audio stands before "
                    "the transcript by itself, so leave it out"
                )
        return self._tokens.marked(prompt)

    def _number(self, token: str) -> int:
        number = self._tokens.number(token)
        assert number is not None, token  # `tokens_of` has looked
        return number


def _audio_of(sample: Inputs) -> tuple[FloatArray, dict[str, JsonValue]]:
    """Return the first 30 s, and what to note about them."""
    audio = audio_of(sample, rate=RATE, least=SHORTEST)
    if len(audio) > SAMPLES:
        seconds = round(len(audio) / RATE, 3)
        return audio[:SAMPLES], {"seconds": seconds, "read": SAMPLES / RATE}
    return audio, {}
