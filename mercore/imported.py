"""The encoder of features that were computed elsewhere: it names them, and computes none."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mercore.components import Encode, Encoder
from mercore.errors import RunError
from mercore.hookspecs import hookimpl
from mercore.media import Words


class Imported(Encoder):
    """Vectors that another program computed; ``mer import`` puts them into the store.

    It reads nothing but the id of a sample, so that a clip need not be there. Files with other
    values have another digest, so they are another feature.
    """

    name: ClassVar[str] = "imported"
    example: ClassVar = {"source": "hubert", "digest": "0123456789abcdef", "width": 1024}
    inputs: ClassVar = {"id": Words()}
    source: str = Field(
        pattern=r"^[^/.\x00][^/\x00]*$", description="What the program that computed it calls it."
    )
    digest: str = Field(pattern=r"^[0-9a-f]{16}$", description="A hash of the values.")
    width: int = Field(ge=1, description="Numbers in a vector.")

    @property
    def dim(self) -> int:
        """The width of the feature."""
        return self.width

    def load(self, device: str, dtype: str) -> Encode:
        """Raise RunError: nobody can compute them here."""
        raise RunError(
            f"feature {self.source!r} was imported and cannot be computed for other samples; "
            "import it anew with files of all samples (`mer import`), or let an encoder take its "
            "place in the registry"
        )


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoder of imported features."""
    return [Imported]
