"""Blur, as of a bad camera."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mercore.citations import MER2024
from mercore.components import Preprocessor, Transform
from mercore.media import Spec, Video, Words


class Blur(Preprocessor):
    """The frames, blurred: one factor for all frames of a clip, drawn for each sample.

    A factor of 2 halves the frame once with a Gaussian pyramid and doubles it again, 4 twice, 8
    three times; 1 leaves it as it is. Size and times stay. The factor depends on the sample's id
    and `seed` alone. The record is ``{"blur": factor}``. Runs on the CPU whatever `device` and
    `dtype` are. Raises ``InputError`` for a clip without frames.

    Source: the video of MER2024-NOISE (Lian et al. 2024): 1, 2 and 4, each as often. The pyramid is
    that of Burt and Adelson 1983, to the bit what OpenCV's ``pyrDown`` and ``pyrUp`` give.
    Deviation: the size stays also where it is no multiple of the factor.
    """

    name = "blur"
    citation = (
        MER2024
        + """
        @article{burt1983laplacian,
          author = {Burt, Peter J. and Adelson, Edward H.},
          title = {The {Laplacian} Pyramid as a Compact Image Code},
          journal = {IEEE Transactions on Communications},
          volume = {31},
          number = {4},
          pages = {532--540},
          year = {1983},
          doi = {10.1109/TCOM.1983.1095851},
        }
    """
    )
    inputs: ClassVar[Mapping[str, Spec]] = {"video": Video(), "id": Words()}
    output = Video()

    factors: tuple[Literal[1, 2, 4, 8], ...] = Field(
        default=(1, 2, 4),
        min_length=1,
        description="What to draw from: by how much the picture is made smaller in between.",
    )
    count: int | None = Field(
        default=None, ge=1, description="Frames to read, spread evenly; null for all of them."
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        description="Frames to read a second (Hz); used instead of `count` when given.",
    )
    seed: int = Field(default=0, description="Another seed draws anew for every sample.")

    def needs(self) -> Mapping[str, Spec]:
        """Return the frames to read, as `rate` or `count` say, and the id."""
        video = Video(rate=self.rate) if self.rate is not None else Video(count=self.count)
        return {"video": video, "id": Words()}

    def load(self, device: str, dtype: str) -> Transform:
        """Return the function that blurs."""
        from mercore_noise._pyramid import Blurrer

        return Blurrer(self)
