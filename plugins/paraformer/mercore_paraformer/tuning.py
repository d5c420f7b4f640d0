"""The options of the training of Paraformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from mercore.tuning import Recogniser, SelfTraining

if TYPE_CHECKING:
    from mercore.components import Preprocessor


class ParaformerTuning(SelfTraining):
    """Fine-tuning by FunASR's own trainer: the whole network, with the losses it was trained with.

    These are the cross entropy of the tokens, which a sampler shows in part, and the error of their
    number. The defaults are those of FunASR's recipe (``examples/industrial_data_pretraining/
    paraformer/finetune.sh`` and the checkpoint's ``config.yaml``): Adam, 2e-4 reached after 30,000
    steps, 50 epochs, batches of a minute. **Few utterances need fewer steps of warm-up.** The epoch
    whose tokens are right most often on the held-out utterances is kept; FunASR takes the average
    of the ten best. A round begins with the best weights so far, and a new optimiser.

    Weights are trained in float32, in one process. SeACo-Paraformer cannot be trained.
    """

    epochs: int = Field(default=50, ge=1)
    """Passes over the utterances in a round."""
    batch: float = Field(default=60.0, gt=0)
    """Seconds of audio of a batch, padding included."""
    accumulate: int = Field(default=1, ge=1)
    """Batches of a step."""
    lr: float = Field(default=2e-4, gt=0)
    """The highest learning rate."""
    warmup: int = Field(default=30_000, ge=1)
    """Steps in which the learning rate rises; then it falls with the root of the steps."""
    clip: float = Field(default=5.0, gt=0)
    """The largest norm of the gradient."""

    @model_validator(mode="after")
    def _batch_holds_the_longest(self) -> ParaformerTuning:
        if self.batch < self.longest:
            raise ValueError(f"batch: {self.batch:g} s is less than longest: {self.longest:g} s")
        return self

    def prepare(self, component: Preprocessor) -> Recogniser:
        """Return Paraformer in training."""
        from mercore_paraformer._tuning import ParaformerRecogniser
        from mercore_paraformer.asr import Paraformer

        assert isinstance(component, Paraformer)
        return ParaformerRecogniser(component, self)
