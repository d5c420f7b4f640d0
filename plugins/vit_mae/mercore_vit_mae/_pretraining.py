"""Pre-training a masked autoencoder: what an example is, and how the network is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mercore.components import Inputs
from mercore.errors import CheckpointError
from mercore.inputs import frames_of
from mercore.nn import built, normalised
from mercore.tuning import Example, Group, Trainee
from mercore_vit_mae import VitMAE, VitPretraining
from mercore_vit_mae._config import Told
from mercore_vit_mae._layouts import HEADS, Sizes
from mercore_vit_mae._masked import Decoder, MaskedAutoencoder, initialise
from mercore_vit_mae._network import Published, vision_transformer, write
from mercore_vit_mae._pictures import picture

_SIZES: Final = {  # width and blocks
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
_TRIES = 10  # to cut out a part of the area and shape that were drawn
_SHAPES = (3 / 4, 4 / 3)  # width by height


class VitPretrainee(Trainee):
    """A masked autoencoder."""

    module: MaskedAutoencoder

    def __init__(self, encoder: VitMAE, tuning: VitPretraining, *, weights: bool) -> None:
        self._tuning = tuning
        make = self._drawn if tuning.start == "scratch" else self._read
        self._sizes, self._told, self.module = make(encoder, weights)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(not name.endswith("pos_embed"))  # sines and cosines

    def _drawn(self, encoder: VitMAE, weights: bool) -> tuple[Sizes, Told, MaskedAutoencoder]:
        sizes = sizes_of(self._tuning)

        def make() -> MaskedAutoencoder:
            vit = vision_transformer(sizes, sizes.depth)
            return MaskedAutoencoder(vit, Decoder(sizes, self._tuning), self._tuning)

        module = make() if weights else built(make)
        if weights:
            initialise(module)
        return sizes, Told(), module

    def _read(self, encoder: VitMAE, weights: bool) -> tuple[Sizes, Told, MaskedAutoencoder]:
        published = Published(encoder.model_copy(update={"checkpoint": self._tuning.start}))
        sizes = published.sizes
        if sizes.mean_norm:
            raise CheckpointError(
                f"{published.checkpoint.path}: was fine-tuned on the mean of its patches; expected "
                "a pre-trained checkpoint to go on from"
            )
        vit = (published.network if weights else published.empty)(sizes.depth)
        decoder = built(lambda: Decoder(sizes, self._tuning))
        if weights:
            decoder = self._decoder(published, decoder)
        return sizes, published.told, MaskedAutoencoder(vit, decoder, self._tuning)

    def _decoder(self, published: Published, empty: Decoder) -> Decoder:
        """Return the checkpoint's decoder; a new one where it has none."""
        try:
            found = published.decoder(empty)
        except CheckpointError as error:
            raise CheckpointError(
                f"the decoder is not as decoder_dim and decoder_depth say: {error}"
            ) from error
        if found is None:
            found = Decoder(published.sizes, self._tuning)
            initialise(found)
        return found

    def example(self, inputs: Inputs, random: np.random.Generator, *, training: bool) -> Example:
        """Return one picture ``(side, side, 3)`` uint8, and noise ``(patches,)`` that hides some.

        Of several frames a random one is taken, or in an evaluation the one in the middle.
        """
        frames, tuning = frames_of(inputs).pixels, self._tuning
        frame = frames[random.integers(len(frames)) if training else len(frames) // 2]
        if training:
            drawn = part_of(frame, self._sizes.side, tuning.area, random)
            drawn = drawn[:, ::-1] if random.random() < tuning.flip else drawn
        else:
            drawn = picture(frame[None], self._sizes.side, 1.0)
        return {"picture": drawn, "noise": random.random(self._sizes.tokens - 1, np.float32)}

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return normalised pictures ``(n, 3, side, side)`` and noise ``(n, patches)``, float32."""
        pixels, noise = (
            torch.from_numpy(np.stack([example[name] for example in examples]))
            for name in ("picture", "noise")
        )
        pictures = normalised(pixels, torch.float32, self._told.mean, self._told.std)
        return {"pictures": pictures, "noise": noise}

    def groups(self) -> list[Group]:
        """Return the parameters, with the rate that the batch makes of `lr`."""
        tuning = self._tuning
        rate = tuning.batch / tuning.lr_batch if tuning.lr_batch else 1.0
        return [replace(group, rate=rate) for group in super().groups()]

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the layout of the authors of MAE: that of timm, with the decoder beside it."""
        named = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        write(folder, named, self._sizes, self._told, global_pool="token")


def sizes_of(tuning: VitPretraining) -> Sizes:
    """Return the sizes of a network from scratch."""
    dim, depth = _SIZES[tuning.size]
    return Sizes(
        dim=dim,
        depth=tuning.depth or depth,
        heads=HEADS[dim, depth],
        hidden=4 * dim,
        patch=tuning.patch,
        side=tuning.side,
        mean_norm=False,
    )


def part_of(
    pixels: NDArray[np.uint8], side: int, area: tuple[float, float], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a random part of a picture, resized bicubically to ``(side, side, 3)``.

    Its share of the picture is drawn from `area`, its shape from 3:4 to 4:3; the centre square is
    taken where ten draws do not fit (Szegedy et al. 2015, arXiv:1409.4842, section 6).
    """
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        share = height * width * random.uniform(*area)
        shape = math.exp(random.uniform(*np.log(_SHAPES)))
        wide, high = round(math.sqrt(share * shape)), round(math.sqrt(share / shape))
        if 0 < wide <= width and 0 < high <= height:
            left, top = random.integers(width - wide + 1), random.integers(height - high + 1)
            break
    else:
        wide = high = min(height, width)
        left, top = (width - wide) // 2, (height - high) // 2
    image = Image.fromarray(pixels[top : top + high, left : left + wide])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
