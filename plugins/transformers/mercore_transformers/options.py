"""What the encoders of this plugin share: the checkpoint, and which hidden states to combine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, JsonValue

from mercore import checkpoints
from mercore.components import Encoder

WOLF: Final = """\
@inproceedings{wolf2020transformers,
  title = {Transformers: State-of-the-Art Natural Language Processing},
  author = {Wolf, Thomas and Debut, Lysandre and Sanh, Victor and Chaumond, Julien and
    Delangue, Clement and Moi, Anthony and Cistac, Pierric and Rault, Tim and Louf, Remi and
    Funtowicz, Morgan and Davison, Joe and Shleifer, Sam and von Platen, Patrick and Ma, Clara and
    Jernite, Yacine and Plu, Julien and Xu, Canwen and Le Scao, Teven and Gugger, Sylvain and
    Drame, Mariama and Lhoest, Quentin and Rush, Alexander},
  booktitle = {Proceedings of the 2020 Conference on Empirical Methods in Natural Language
    Processing: System Demonstrations},
  year = {2020},
  pages = {38--45},
  doi = {10.18653/v1/2020.emnlp-demos.6}
}"""


class Pretrained(Encoder):
    """An encoder of somebody's weights in the layout of transformers."""

    citation = WOLF

    checkpoint: str = Field(
        min_length=1,
        description="A folder, or a hub id `owner/name[@revision]`, also after `modelscope:`. Its "
        "code is never run, and it needs none where transformers has the network.",
    )

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights, wherever they lie."""
        return {"checkpoint": checkpoints.identity(self.checkpoint)}


class Layered(Pretrained):
    """One that gives hidden states."""

    layers: tuple[int, ...] = Field(
        default=(-1,),
        min_length=1,
        description="Which hidden states to combine: 0 is what the first block reads, -1 the "
        "output of the network, behind its final norm where it has one.",
    )
    reduce: Literal["mean", "sum", "concat"] = Field(
        default="mean",
        description="How to combine the layers; `concat` puts them side by side, the lowest first.",
    )
