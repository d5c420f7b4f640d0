"""What `encoders.py` needs to know of ViT-B: a checkpoint, clips, and a loop over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from mercore.media import FloatArray

COLUMN: Final = "video"
REGISTRY: Final = "{{uses: vit_mae, inputs: {{frames: video}}, dtype: {dtype}, with: {options}}}"
OPTIONS: Final = {"pool": "cls"}
SIDE, RATE = 112, 8  # of face crops in pixels, and Hz
SHORTEST, LONGEST = 1.0, 4.0  # seconds
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AT_ONCE: Final = 32


def checkpoint(folder: Path) -> None:
    """Write ViT-B with random weights, as timm publishes it."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    model: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    save_file(model.state_dict(), folder / "model.safetensors")


def clip(path: Path, number: int, count: int) -> Path:
    """Write an mp4 of coarse noise, another in each frame, one of `count` lengths."""
    numbers = np.random.default_rng(number)
    share = number * 7 % count / max(1, count - 1)
    target = path.with_suffix(".mp4")
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for _ in range(round(RATE * (SHORTEST + share * (LONGEST - SHORTEST)))):
            cells = numbers.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
            picture = np.ascontiguousarray(cells.repeat(8, axis=0).repeat(8, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return target


def loop(folder: Path) -> Callable[[str], FloatArray]:
    """Return what MERTools does with a clip, rewritten: 32 frames a pass, one clip at a time."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import load_file

    model: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()

    def prepared(frame: av.VideoFrame) -> FloatArray:
        image = Image.fromarray(frame.to_ndarray(format="rgb24"))
        pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)) / 255
        return ((pixels - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)

    def features(path: str) -> FloatArray:
        with av.open(path) as container:
            pictures = np.stack([prepared(frame) for frame in container.decode(video=0)])
        parts = [pictures[start : start + AT_ONCE] for start in range(0, len(pictures), AT_ONCE)]
        with torch.no_grad():
            rows = [model.forward_features(torch.from_numpy(part))[:, 0].numpy() for part in parts]
        pooled: FloatArray = np.concatenate(rows).mean(0)
        return pooled

    return features
