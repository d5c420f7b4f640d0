"""Which parameters of a network are trained: all, those of some blocks, or what LoRA adds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from mercore.errors import RunError

_FORM = re.compile(r"all|head|lora|last-(?P<last>[1-9]\d*)|(?P<first>\d+)-(?P<final>\d+)")


def trains(*more: str) -> Callable[[str], str]:
    """Return what checks a value of `train`, which may also be one of `more`."""
    words = ", ".join((*more, "all", "head", "lora"))

    def checked(given: str) -> str:
        if given not in more and not _FORM.fullmatch(given):
            blocks = "last-N (the last N blocks) or A-B (blocks A to B, from 0)"
            raise ValueError(f"expected {words}, {blocks}")
        return given

    return checked


Train = Annotated[str, AfterValidator(trains())]
"""``all``, ``head``, ``lora``, ``last-4`` or ``25-47``."""


class Policy(BaseModel):
    """Options of what is trained; mixed into a Tuning: ``class MyTuning(Policy, Classifying)``.

    ``mercore.nn`` has what does as they say: ``freed``, ``rated``, ``merged``, ``save_adapter``,
    ``frozen_dtype``. A plugin with more choices declares the field anew, such as
    ``train: Annotated[str, AfterValidator(trains("projector"))]``.
    """

    train: Train = "all"
    """What is trained beside the head: ``all``; ``last-4``, the last four blocks and the norm after
    them; ``0-11``, these blocks, counted from 0; ``lora``, low-rank matrices that are added to
    those of the blocks and saved as part of them; ``head``, nothing else."""
    pretrained_rate: float = Field(default=0.1, gt=0)
    """The learning rate of weights that were trained before, in terms of `lr`: that is the rate of
    what is new, the head and what LoRA adds."""
    lora_rank: int = Field(default=8, ge=1)
    """The rank of what LoRA adds (Hu et al. 2021, arXiv:2106.09685; this default and that of
    `lora_alpha` are those of their scripts for RoBERTa large)."""
    lora_alpha: float = Field(default=16, gt=0)
    """What LoRA adds counts `lora_alpha` / `lora_rank` times."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of its inputs that LoRA drops in training."""
    lora_layers: Literal["attention", "all"] = "attention"
    """What LoRA adds to: queries and values, as in Hu et al. 2021; or all linear layers of the
    blocks, as in Dettmers et al. 2023, arXiv:2305.14314."""


def trained_blocks(train: str, depth: int) -> range:
    """Return which of `depth` blocks are trained themselves; RunError for those it lacks."""
    found = _FORM.fullmatch(train)
    if found is None or train in ("head", "lora"):
        return range(0)
    if train == "all":
        return range(depth)
    if found["last"]:
        first, final = depth - int(found["last"]), depth - 1
    else:
        first, final = int(found["first"]), int(found["final"])
    if not 0 <= first <= final < depth:
        raise RunError(f"train: {train}: the network has {depth} blocks, 0 to {depth - 1}")
    return range(first, final + 1)
