"""Audio and text read together: Qwen-Audio and Qwen2-Audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from mercore import checkpoints
from mercore.citations import REFERENCE
from mercore.components import Encode, Encoder, Inputs
from mercore.errors import RunError, did_you_mean
from mercore.hookspecs import hookimpl
from mercore.inputs import audio_of
from mercore.media import Audio, Words
from mercore.tuning import Classifying, Policy, Trainee, Tuning

PROMPT = "\nRecognize the emotion of the speaker from the audio and the text above."


class QwenTuning(Policy, Classifying):
    """Joint training on audio, transcript and prompt: the model learns to answer with the emotion.

    The answer is the word of the class and the end token, ``<|endoftext|>``, or ``<|im_end|>`` with
    ``template: chat``. It follows the sequence that the encoder reads, and only its tokens count in
    the loss, of each sample their mean. An evaluation takes the class whose whole word is the most
    probable; the probabilities in ``predictions.csv`` are those among the words. With ``objective:
    head`` a linear head learns on the mean of the rows that `mer extract` keeps.

    Section 2.3 of the paper trains all parameters on the next token, on 5,000 clips of MER2023 less
    those without sound, and finds that better than LoRA. It gives no prompt, words, rates or
    epochs. The defaults are those of Qwen's own fine-tuning of Qwen-7B (github.com/QwenLM/Qwen:
    ``finetune.py``, ``finetune_ds.sh``, ``finetune_lora_ds.sh``): 5 epochs, batches of 16 (there on
    each device), AdamW (.9, .95), weight decay .1, 1e-5 for all parameters, 3e-4 for LoRA of rank
    64 in all linear layers, activations computed again. For models that are no chat models it also
    trains embeddings and output layer beside LoRA, for new tokens, of which there are none here.

    What is trained is float32; what is not is kept in the type it is multiplied in. The layout that
    was published is saved, output layer included, in the types of its weights, with what LoRA added
    made part of them: another training can begin from it, with either objective.
    """

    epochs: float = Field(default=5, gt=0)
    batch: int = Field(default=16, ge=1)
    at_once: int = Field(default=4, ge=1)
    lr: float = Field(default=3e-4, gt=0)
    pretrained_rate: float = Field(default=1 / 30, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.01, ge=0, lt=1)
    recompute: bool = True
    lora_rank: int = Field(default=64, ge=1)
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    lora_layers: Literal["attention", "all"] = "all"
    objective: Literal["word", "head"] = "word"
    """What is learnt: the word of the class as the answer, or a class by a head."""
    words: Mapping[str, str] = {}
    """The words to answer with: ``{angry: 生气}``; a class it lacks answers with its own name. With
    `label_map` the classes are those that labels are taken for."""
    audio: bool = True
    """Whether ``train: all`` has the audio encoder and its projection too: the paper says "full
    parameter". Qwen-Audio's own supervised fine-tuning trains the language model alone (Chu et al.
    2023). Any other `train` leaves them as they are."""
    silent: float | None = Field(default=-60.0, le=0)
    """Leave out training samples whose audio is quieter, in dB: the root mean square over the clip,
    where a full-scale square wave is 0; null for none."""

    @model_validator(mode="after")
    def _fits_the_objective(self) -> QwenTuning:
        if self.objective == "word" and self.train == "head":
            raise ValueError("train: head needs objective: head, as a word is answered without one")
        if self.objective == "word" and self.smoothing:
            raise ValueError("smoothing needs objective: head, as the answer is one of all words")
        if self.objective == "head" and self.words:
            raise ValueError("words needs objective: word, as a head has none")
        return self

    def learning(self, classes: Sequence[str]) -> Self:
        """Return the options with the words of all classes, in order."""
        if self.objective == "head":
            return self
        for name, word in self.words.items():
            if name not in classes:
                hint = did_you_mean(name, classes) or f"; has {', '.join(classes)}"
                raise RunError(f"words: no class {name!r}{hint}")
            if not word.strip():
                raise RunError(f"words: {name!r} has no word; give one, or leave the class out")
        words = {name: self.words.get(name, name) for name in classes}
        owners = {word: name for name, word in words.items()}
        for name, word in words.items():
            if owners[word] != name:
                raise RunError(
                    f"words: {name!r} and {owners[word]!r} have the same word, {word!r}; give each "
                    "class its own"
                )
        return self.model_copy(update={"words": words})

    def leaves_out(self) -> Callable[[Inputs], str | None] | None:
        """Return what finds silent clips."""
        if self.silent is None:
            return None
        power = 10 ** (self.silent / 10)

        def silent(inputs: Inputs) -> str | None:
            audio = audio_of(inputs)
            return "silent" if float(audio @ audio) / len(audio) < power else None

        return silent

    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network, with its output layer or a head."""
        from mercore_qwen_jat._tuning import HeadTrainee, WordTrainee

        assert isinstance(encoder, QwenJAT)
        kind = WordTrainee if self.objective == "word" else HeadTrainee
        return kind(encoder, self, classes, weights=weights)


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
    tunings: ClassVar[Mapping[str, type[Tuning]]] = {"tune": QwenTuning}

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
