"""What the networks share beside their training: what becomes of features that samples lack."""

from __future__ import annotations

from pydantic import Field

from mercore import NetworkFusion


class MaskingFusion(NetworkFusion):
    """A network that can leave a feature out for the samples that lack it."""

    mask: bool = Field(
        default=False,
        description="Train on samples that lack a feature too, and leave it out; else the training "
        "mean stands in its place.",
    )

    @property
    def masks_missing(self) -> bool:
        """The option `mask`."""
        return self.mask
