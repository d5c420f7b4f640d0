"""Speech, as the networks of ``torchaudio.pipelines`` hear it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue

from mercore import checkpoints, hookimpl
from mercore.components import Encode, Encoder
from mercore.errors import CheckpointError
from mercore.media import Audio
from mercore_torchaudio._bundles import FILES, URL, WIDTHS, BundleName

__version__ = "0.1.0"

RATE: Final = 16_000
STRIDE: Final = 320
"""Samples from one frame to the next, the same in every bundle."""


class TorchaudioBundle(Encoder):
    """Hidden states of a speech network of torchaudio, 50 a second: ``(frames, dim)``.

    `bundle` is its name in ``torchaudio.pipelines``: wav2vec 2.0, XLS-R, HuBERT, WavLM, those
    fine-tuned for recognition, and MMS_FA. `dim` is 768 for base ones, 1024 for large, 1280 and
    1920 above. A row is the mean (or the sum) of some `layers`: k is what ``extract_features`` of
    torchaudio gives as item k - 1, so the output of block k, and 0 is what the first block reads.
    Networks that norm before each block (large ones with layer norms in their convolutions) have a
    final norm behind the last block, which is not part of it, as in ``extract_features``. Blocks
    behind the last of `layers` and heads for recognition are not loaded. n samples of audio give
    ``(n - 400) // 320 + 1`` frames; with ``pool: mean`` there is one row.

    The audio of networks trained on it so is brought to mean 0 and variance 1 over the clip, as
    the bundle says. Each clip runs alone: torchaudio's WavLM takes no mask for padding, and a
    group norm in the convolutions takes its statistics over time, with the padding.

    Source: the networks are torchaudio's own (BSD-2-Clause), with the weights that it publishes.
    Baevski et al. 2020, arXiv:2006.11477 (wav2vec 2.0); Conneau et al. 2020, arXiv:2006.13979
    (XLSR-53); Babu et al. 2021, arXiv:2111.09296 (XLS-R); Hsu et al. 2021, arXiv:2106.07447
    (HuBERT); Chen et al. 2021, arXiv:2110.13900 (WavLM); Wang et al. 2021, arXiv:2101.00390
    (VoxPopuli); Pratap et al. 2023, arXiv:2305.13516 (MMS).

    Deviations: none in float32. In half precision the weight norm of the positional convolution is
    multiplied out in float32 first.

    Raises ``CheckpointError`` for weights that are missing, cut or of another bundle,
    ``RegistryError`` for layers that it does not have, ``InputError`` for audio below 400 samples
    (25 ms), which gives no frame.
    """

    name = "torchaudio_bundle"
    example: ClassVar = {"bundle": "WAVLM_BASE_PLUS"}
    inputs: ClassVar = {"audio": Audio(rate=RATE)}
    licence = "MIT by torchaudio's documentation; CC-BY-NC-4.0 for the VOXPOPULI bundles and MMS_FA"
    citation = """\
@misc{hwang2023torchaudio,
  title = {{TorchAudio} 2.1: Advancing speech recognition, self-supervised learning, and audio
           processing components for {PyTorch}},
  author = {Hwang, Jeff and Hira, Moto and Chen, Caroline and others},
  year = {2023},
  eprint = {2310.17864},
  archiveprefix = {arXiv},
}

@article{yang2021torchaudio,
  title = {{TorchAudio}: Building Blocks for Audio and Speech Processing},
  author = {Yang, Yao-Yuan and Hira, Moto and Ni, Zhaoheng and others},
  journal = {arXiv preprint arXiv:2110.15018},
  year = {2021},
}"""

    bundle: BundleName = Field(description="The name of the network in `torchaudio.pipelines`.")
    checkpoint: str | None = Field(
        default=None,
        description="The bundle's file of weights, a folder that holds it under its own name, or "
        "the hub id of a repository that does. Null: where torchaudio itself keeps it once it was "
        "downloaded, `$TORCH_HOME/hub/checkpoints`. Nothing is downloaded from elsewhere.",
    )
    layers: tuple[int, ...] = Field(
        default=(-4, -3, -2, -1),
        min_length=1,
        description="Which hidden states to combine: 0 is what the first block reads, -1 the last.",
    )
    reduce: Literal["mean", "sum"] = Field(default="mean", description="How to combine the layers.")
    pool: Literal["frames", "mean"] = Field(
        default="frames", description="What to return: a row a frame, or their mean as one row."
    )

    @property
    def dim(self) -> int:
        """The width of the bundle's blocks."""
        return WIDTHS[self.bundle]

    @property
    def frame_rate(self) -> float | None:
        """50: a frame every 320 samples; None for their mean."""
        return RATE / STRIDE if self.pool == "frames" else None

    @property
    def weights(self) -> str:
        """Where the weights are: a file, or a hub id; raises ``CheckpointError`` for neither."""
        file = FILES[self.bundle]
        if self.checkpoint is None:
            kept = _kept(file)
            if not kept.is_file():
                raise CheckpointError(
                    f"torchaudio_bundle: the weights of {self.bundle} are not at {str(kept)!r}, "
                    f"where torchaudio keeps them; fetch {_address(file)} into that folder, or "
                    "give option 'checkpoint'"
                )
            return str(kept)
        folder = Path(os.path.expanduser(self.checkpoint))
        return str(_inside(folder, file)) if folder.is_dir() else self.checkpoint

    def identity(self) -> Mapping[str, JsonValue]:
        """Return what identifies the weights wherever they lie: until they do, their name."""
        file = FILES[self.bundle]
        if self.checkpoint is None and not _kept(file).is_file():
            return {"checkpoint": file}
        return {"checkpoint": checkpoints.identity(self.weights)}

    def load(self, device: str, dtype: str) -> Encode:
        """Return the function that encodes; raises ``CheckpointError`` for weights that differ."""
        from mercore_torchaudio._model import BundleModel

        return BundleModel(self, device, dtype)


def _kept(file: str) -> Path:
    """Return where torchaudio keeps the weights of that name."""
    return _torch_home() / "hub" / "checkpoints" / Path(file).name


def _torch_home() -> Path:
    """Return the folder of torch's own downloads, as ``torch.hub`` finds it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser()


def _address(file: str) -> str:
    return file if file.startswith("https:") else URL + file


def _inside(folder: Path, file: str) -> Path:
    """Return the bundle's file in the folder, or the same weights as safetensors."""
    names = alternatives(file)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"torchaudio_bundle: {str(folder)!r} has no file {' or '.join(map(repr, names))}; give the "
        "path of the file itself if it has another name"
    )


def alternatives(file: str) -> tuple[str, str]:
    """Return the names under which a folder or repository may hold the file, best first."""
    name = Path(file).name
    return f"{Path(name).stem}.safetensors", name


@hookimpl
def encoders() -> list[type[Encoder]]:
    """Return the encoders this plugin provides."""
    return [TorchaudioBundle]
