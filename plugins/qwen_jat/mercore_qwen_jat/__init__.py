"""Audio and text read together: Qwen-Audio and Qwen2-Audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from mercore import checkpoints
from mercore.citations import REFERENCE
from mercore.components import Encode, Encoder
from mercore.hookspecs import hookimpl
from mercore.media import Audio, Words

PROMPT = "\nRecognize the emotion of the speaker from the audio and the text above."


class QwenJAT(Encoder):
    """Hidden states of a language model that hears and reads the clip: ``(tokens, 4096)``.

    The model reads one sequence: the audio span, the transcript, the prompt. The audio span is a
    start marker, 25 rows a second of audio, and an end marker: ``n // 160`` samples (rounded up by
    Qwen2-Audio) are spectrogram frames, each four of which are a row. `pool` says which rows come
    back: ``audio`` the audio span with its markers, ``text`` the transcript, ``all`` the whole
    sequence, prompt and template too. Attention is causal, so the rows of the audio know nothing of
    the transcript; those of the transcript know the audio, those of the prompt both. The rows are
    combined over the last four decoder layers unless `layers` says otherwise; the last one is
    taken behind the final norm.

    Space at the ends of a transcript is dropped. Text without a word: the sequence has no
    transcript, and ``pool: text`` gives one row of zeros. Audio longer than 30 s is cut, and the
    record says so: ``{"seconds": given, "read": 30.0}``. A transcript that does not fit loses its
    end: ``{"tokens": counted, "read_tokens": encoded}``. Qwen-Audio reads 2048 tokens (its
    `seq_length`), Qwen2-Audio the `max_position_embeddings` of its config.json, the audio and the
    prompt among them. Silence is encoded like any audio.

    Source: Ge et al. 2024, "Early Joint Learning of Emotion Information Makes MultiModal Model
    Understand You Better", section 2.3, on Chu et al. 2023, "Qwen-Audio: advancing universal audio
    understanding via unified large-scale audio-language models". Checkpoints, from Hugging Face or
    ModelScope: Qwen/Qwen-Audio and Qwen/Qwen-Audio-Chat (Tongyi Qianwen licence),
    Qwen/Qwen2-Audio-7B and Qwen/Qwen2-Audio-7B-Instruct (Apache-2.0; licences by their cards, not
    verified here). The paper names "QwenAudio" and its reference is to the first of them, not to
    the chat model, so that is the default. Its weights, tuned on MER2023, are not published.

    The paper does not print its prompt, so the default one is ours. It does not say either
    which rows are pooled; ``all`` is what its ``N_at x 4096`` suggests.

    Deviations from the published code: none of it is run. The language model and the layers of the
    audio encoder are transformers' own, with torch's scaled dot product attention. The published
    Qwen-Audio code gives slightly other numbers for a batch than for single clips (the last
    spectrogram frames differ); here all are those of single clips. Beyond 2048 tokens that code
    scales attention and positions (logn, NTK); here the transcript is cut instead. Transcript and
    prompt are split into tokens one by one, so that none spans both, and what looks like a special
    token in a transcript is plain text. Qwen2-Audio's encoder reads the clip's own spectrogram
    frames, not 30 s of which the rest is masked: the same numbers, sooner.

    Raises CheckpointError for weights that are missing, too many or of another shape or model, and
    for a missing tokenizer file; RegistryError for options that do not fit the checkpoint;
    InputError for audio shorter than 30 ms and for values that are not finite.
    """

    name = "qwen_jat"
    licence = "Tongyi Qianwen licence"
    citation = (
        REFERENCE
        + """
        @article{chu2023qwenaudio,
          author = {Chu, Yunfei and Xu, Jin and Zhou, Xiaohuan and Yang, Qian and Zhang, Shiliang
            and Yan, Zhijie and Zhou, Chang and Zhou, Jingren},
          title = {{Qwen-Audio}: Advancing Universal Audio Understanding via Unified Large-Scale
            Audio-Language Models},
          journal = {arXiv preprint arXiv:2311.07919},
          year = {2023},
        }
    """
    )
    inputs: ClassVar = {"audio": Audio(rate=16_000), "text": Words()}

    checkpoint: str = "Qwen/Qwen-Audio"
    """A folder, or a hub id: ``owner/name[@revision]``, also after ``modelscope:``."""
    layers: tuple[int, ...] = Field(default=(-4, -3, -2, -1), min_length=1)
    """Which hidden states of the language model to combine: 0 is what its first layer reads, -1 the
    last layer behind the final norm. No layer behind the last one named is loaded."""
    reduce: Literal["mean", "sum"] = "mean"
    """How to combine the layers."""
    pool: Literal["all", "audio", "text"] = "all"
    """Which rows to return: of the whole sequence, the audio span or the transcript."""
    prompt: str = PROMPT
    """What stands behind the transcript, begin with a line break to set it off; special tokens such
    as Qwen-Audio's ``<|emotion_recognition|>`` count as such. Empty: no prompt."""
    template: Literal["plain", "chat"] = "plain"
    """``chat``: all of it is the first turn of a user, in the form that the chat models were tuned
    with; the answer is about to begin."""

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for unfit weights."""
        from mercore_qwen_jat._model import QwenJATModel

        return QwenJATModel(self, device, dtype)


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoder of this plugin."""
    return [QwenJAT]
