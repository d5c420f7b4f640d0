"""The options of a training: what is common to all encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from mercore.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from mercore.components import Encoder, Inputs, MediaComponent
    from mercore.tuning._trainee import Trainee

C = TypeVar("C", bound="MediaComponent")


class Training(BaseModel, ABC):
    """A way to train a component; its fields are the options of ``--with``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tuning(Training):
    """A way to train an encoder."""

    epochs: float = Field(default=50, gt=0)
    """Passes over the training samples."""
    batch: int = Field(default=64, ge=1)
    """Samples of a step: on all devices, and over all batches that are accumulated."""
    at_once: int = Field(default=16, ge=1)
    """The most samples on a device at once; the rest of the batch is accumulated."""
    lr: float = Field(default=1e-4, gt=0)
    """The highest learning rate."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of matrices; biases and norms have none."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after that."""
    clip: float | None = Field(default=1.0, gt=0)
    """The largest norm of the gradient; null for any."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What is multiplied in; ``auto`` is bfloat16 on a GPU that has it, else float32."""
    recompute: bool = False
    """Compute activations again in the backward pass instead of keeping them: slower, smaller."""
    compile: bool = False
    """Compile the network with ``torch.compile``."""
    evaluate: int | None = Field(default=None, ge=1)
    """Steps between two evaluations, each with a checkpoint; null for one an epoch."""
    patience: int | None = Field(default=None, ge=1)
    """End after so many evaluations without a better one; null to go on."""
    tensorboard: bool = False
    """Write the log for TensorBoard too: ``tensorboard --logdir`` of the folder of the training."""

    @abstractmethod
    def prepare(self, encoder: Encoder, classes: int, *, weights: bool = True) -> Trainee:
        """Return the network of `encoder`, with its weights, as it is to be trained.

        Parameters that are not to be trained have ``requires_grad`` False. `classes` is how many
        outputs a head has, 0 for none. What is drawn at random comes from torch's own generator,
        which is seeded. Without `weights` nothing is read but the sizes, and the parameters may
        lie on the device ``meta``: for a plan of the memory. Raises as ``Encoder.load`` does.
        """

    def trunk(self, encoder: Encoder) -> Encoder | None:
        """Return what gives the rows that the trained part of the network reads, if there is such.

        `mer tune` extracts it once, for all epochs and all trainings with the same trunk: what
        `prepare` returns is without it, and reads the store by ``Trainee.from_trunk``. It has a
        `dim`, is built for the inputs of `encoder`, and says by its options and `identity` all that
        decides its rows. None, the default: the whole network runs on the media. Raises as
        `prepare` does.
        """
        return None

    def trained(self, encoder: Encoder, checkpoint: Path) -> Encoder:
        """Return the encoder that reads what was trained, with options that suit it."""
        return reading(encoder, checkpoint)


class Classifying(Tuning):
    """A training on labels, by the cross entropy of the classes."""

    label_map: Mapping[str, str] = {}
    """Which class a label is taken for: ``{worried: negative}``; a label it lacks stays itself."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Against rare classes: weigh the loss by ``samples / (classes * samples of the class)``, or
    draw the samples of an epoch so that every class is as frequent."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7)."""

    def targets(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the classes that are learnt, in order; RunError for a map that does not fit."""
        for label in self.label_map:
            if label not in classes:
                hint = did_you_mean(label, classes) or f"; has {', '.join(classes)}"
                raise RunError(f"label_map: no class {label!r}{hint}")
        found = tuple(dict.fromkeys(self.label_map.get(label, label) for label in classes))
        if len(found) < 2:
            raise RunError(f"label_map: leaves one class, {found[0]!r}; expected two or more")
        return found

    def learning(self, classes: Sequence[str]) -> Self:
        """Return the options as they are for these classes, which a network may need to know.

        `classes` are those of `targets`. Raises RunError for options that do not fit them.
        """
        return self

    def leaves_out(self) -> Callable[[Inputs], str | None] | None:
        """Return what says why a sample is not to be trained on, in a word: None for a good one.

        None where all are trained on. Held-out samples stay, so that scores can be compared.
        """
        return None


class Unlabelled(Tuning):
    """A training without labels, by a loss of the network's own."""

    held_out: float = Field(default=0.01, gt=0, lt=1)
    """The share of the samples, or pictures, whose loss is watched and which are not trained on."""


class PicturePretraining(Unlabelled):
    """A training on pictures without labels."""

    sharpness: float | None = Field(default=None, gt=0)
    """Leave out blurred pictures: those in which the Laplacian varies less. It is taken of the grey
    centre square at 224 pixels (Pech-Pacheco et al. 2000, ICPR, "Diatom autofocusing in brightfield
    microscopy"); ``--measure`` shows what is usual."""
    smallest: int | None = Field(default=None, ge=1)
    """Leave out pictures whose shorter side has fewer pixels."""
    longest: float | None = Field(default=None, ge=1)
    """Leave out pictures whose longer side is more than so many times the shorter one."""
    detector: str | None = None
    """A preprocessor that finds faces, such as ``mtcnn``: leave out pictures without one."""
    turned: float | None = Field(default=None, gt=0)
    """Leave out profiles: by the ``turn`` of the detector, of mtcnn 0 from the front."""
    outside: float | None = Field(default=None, ge=0, lt=1)
    """Leave out incomplete faces, of which more than this share lies outside of the picture."""

    @model_validator(mode="after")
    def _faces_are_found(self) -> PicturePretraining:
        if self.detector is None and (self.turned is not None or self.outside is not None):
            raise ValueError("turned and outside need a detector, such as detector: mtcnn")
        return self

    @property
    def demands(self) -> bool:
        """Whether some pictures may be left out."""
        limits = (self.sharpness, self.smallest, self.longest, self.detector)
        return any(limit is not None for limit in limits)


def described(tuning: Training) -> dict[str, JsonValue]:
    """Return all options that may change a training, as JSON values."""
    described: dict[str, JsonValue] = tuning.model_dump(mode="json", exclude={"tensorboard"})
    return described


def reading(component: C, checkpoint: Path) -> C:
    """Return the component with another checkpoint."""
    options = component.model_dump(exclude_unset=True) | {"checkpoint": str(checkpoint)}
    return type(component).model_validate(options)
