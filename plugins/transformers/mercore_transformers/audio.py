"""Speech and sound, by any audio encoder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mercore.components import Encode
from mercore.media import Audio, Spec
from mercore_transformers.options import Layered

RATE = 16_000


class TransformersAudio(Layered):
    """Hidden states of an audio encoder that transformers has: ``(frames, width)``.

    Wav2vec 2.0, HuBERT, WavLM, data2vec, UniSpeech-SAT, SEW, Whisper (its encoder), W2v-BERT, AST,
    CLAP (its audio tower), and any other whose ``AutoModel`` reads audio. The checkpoint's own
    feature extractor prepares the audio. Where it fills audio up to a fixed length (Whisper: 30 s),
    the rows of the filling are cut off, and longer audio is encoded in equal pieces that do not
    see each other. The rows of AST and CLAP are patches of time and frequency, not frames, those
    of the filling among them: take their ``pool: mean`` or ``pool: pooler``.

    No sample depends on its batch. On a CPU each runs alone. On a GPU those of equal length run
    together, and of the families where masks make padding exact (wav2vec 2.0, HuBERT, WavLM and
    UniSpeech with layer norms in their convolutions) also those of like length.

    Source: Wolf et al. 2020, "Transformers: State-of-the-art natural language processing"; the
    network is the library's own, in its default precision for the ``dtype`` asked for.

    Raises ``CheckpointError`` for weights that are missing, too many, or of a network that the
    library lacks or that is none of audio; ``RegistryError`` for another sampling rate than `rate`
    and for `layers` or `pool` that the network does not have; ``InputError`` for audio that is too
    short for a frame.
    """

    name = "transformers_audio"
    example: ClassVar = {"checkpoint": "microsoft/wavlm-large"}
    inputs: ClassVar[Mapping[str, Spec]] = {"audio": Audio(rate=RATE)}

    rate: int = Field(default=RATE, ge=1)
    """Samples a second (Hz) that the checkpoint was trained on: 16,000 for nearly all, 48,000 for
    CLAP. Another than the checkpoint says is an error that names the right one."""
    pool: Literal["frames", "mean", "pooler"] = "frames"
    """What to return: a row a frame, their mean as one row, or what the network's own pooler makes
    of them, where it has one (AST, CLAP): a row a piece."""
    chunk: float | None = Field(default=None, ge=1)
    """Encode audio longer than this many seconds in equal pieces that do not see each other, for
    memory: that of attention grows with the square of the length. Null for as much as the network
    reads."""

    def needs(self) -> Mapping[str, Spec]:
        """Return the audio to read, at `rate`."""
        return {"audio": Audio(rate=self.rate)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_transformers._audio import AudioEncoder

        return AudioEncoder(self, device, dtype)
