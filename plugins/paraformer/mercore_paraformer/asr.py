"""Speech recognition by Paraformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from mercore import checkpoints
from mercore.components import Preprocessor, Transform
from mercore.media import Audio, Words
from mercore.tuning import Training
from mercore_paraformer.decoding import Decoding
from mercore_paraformer.tuning import ParaformerTuning

Hotword = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Paraformer(Decoding, Preprocessor):
    """What is said, in the words of Paraformer: one text a clip, empty where nothing is said.

    Chinese characters are joined, words of letters stand apart; there is no punctuation. The record
    is ``{"confidence": geometric mean probability of the tokens, "tokens": what was said, token by
    token, "token_confidences": the probability of each, "score": what the decoder ranks by, a
    natural logarithm}``; probabilities are in [0, 1]. They are those of the acoustic network alone,
    and special tokens (the end of the sentence) do not count. Where nothing is said the confidence
    is 0. With `nbest` above 1 there is ``"nbest": [{"text": ..., "score": ...}, ...]`` too.

    Clips longer than `longest` seconds are cut where they are quietest, and the pieces recognised
    on their own. Clips below 25 ms, and of zeros alone, have no text. A clip's result does not
    depend on its batch.
    Raises ``InputError`` for audio that is not finite.

    Source: Gao et al. 2022, "Paraformer: fast and accurate parallel transformer for
    non-autoregressive end-to-end speech recognition", arXiv:2206.08317; Shi et al. 2023,
    "SeACo-Paraformer", arXiv:2308.03266. The networks are FunASR's own (MIT); the weights on
    ModelScope are under Apache-2.0 or the FunASR model licence, see their cards.

    Deviations from FunASR: no dither, so that the text is always the same (FunASR adds noise to the
    audio unless the checkpoint's config says otherwise); SeACo's text has no spaces between Chinese
    characters; batches are made of clips of like length.

    Raises ``CheckpointError`` for weights that are missing, cut or of another network, and for a
    frontend that is not at 16 kHz; ``RegistryError`` for hotwords that it cannot use.
    """

    name = "paraformer"
    licence = "Apache-2.0 or the FunASR model licence; see the model card"
    citation = """
        @inproceedings{gao2022paraformer,
          author = {Gao, Zhifu and Zhang, Shiliang and McLoughlin, Ian and Yan, Zhijie},
          title = {{Paraformer}: Fast and Accurate Parallel Transformer for Non-autoregressive
            End-to-End Speech Recognition},
          booktitle = {Proceedings of Interspeech},
          pages = {2063--2067},
          year = {2022},
          doi = {10.21437/Interspeech.2022-9996},
        }
        @article{shi2023seaco,
          author = {Shi, Xian and Yang, Yexin and Li, Zerui and Chen, Yanni and Gao, Zhifu and
            Zhang, Shiliang},
          title = {{SeACo-Paraformer}: A Non-Autoregressive {ASR} System with Flexible and Effective
            Hotword Customization Ability},
          journal = {arXiv preprint arXiv:2308.03266},
          year = {2023},
        }
    """
    inputs: ClassVar = {"audio": Audio(rate=16_000)}
    output = Words()
    tunings: ClassVar[Mapping[str, type[Training]]] = {"tune": ParaformerTuning}

    checkpoint: str = (
        "modelscope:iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"
    )
    """A hub id or a folder of Paraformer or SeACo-Paraformer, as ModelScope lays it out."""
    hotwords: tuple[Hotword, ...] = ()
    """Words to listen for, names for example: only SeACo-Paraformer does."""
    longest: float = Field(default=60.0, ge=1.0)
    """Clips longer than this many seconds are recognised in pieces."""
    backend: Literal["torch", "onnx"] = "torch"
    """What computes: torch (`model.pt`), or ONNX Runtime the `model.onnx` that FunASR exports."""
    int8: bool = False
    """With `backend: onnx`: take `model_quant.onnx`, whose weights have 8 bits."""

    @model_validator(mode="after")
    def _fits_the_backend(self) -> Paraformer:
        if self.int8 and self.backend != "onnx":
            raise ValueError("int8: true needs backend: onnx")
        if self.hotwords and self.backend == "onnx":
            raise ValueError("hotwords need backend: torch")
        return self

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint), **self.lm_identity()}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that transcribes; raises ``CheckpointError`` for other weights."""
        from mercore_paraformer._asr import Transcriber

        return Transcriber(self, device, dtype)
