"""HuBERT-base and ViT-B of real size with random weights: clips to encode, and MERTools' loop."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

RATE = 16_000
FPS = 8
SIDE = 112
LAYERS = (-4, -3, -2, -1)


@dataclass(frozen=True)
class Model:
    """A model with its clips, and its loop."""

    uses: str
    inputs: str
    medium: str
    options: str
    prepare: Callable[[Path, int], None]
    loop: Callable[[Path], Callable[[Path], NDArray[np.float32]]]


def prepare_hubert(folder: Path, count: int) -> None:
    """Write the clips, and HuBERT-base with random weights as transformers publishes it."""
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder / "checkpoint")
    preprocessor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True,
                    "sampling_rate": RATE}  # fmt: skip
    (folder / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "clips").mkdir()
    numbers = np.random.default_rng(0)
    seconds = np.linspace(1, 8, count)
    for index in numbers.permutation(count):
        sound = numbers.normal(0, 3000, int(seconds[index] * RATE)).astype(np.int16)
        with wave.open(str(folder / "clips" / f"{index:03}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    (folder / "amount").write_text(f"{seconds.sum():.0f} s of sound")


def loop_hubert(checkpoint: Path) -> Callable[[Path], NDArray[np.float32]]:
    """Return the function that reads and encodes one file."""
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    model: Any = HubertModel.from_pretrained(checkpoint)
    model.eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)

    def encode(clip: Path) -> NDArray[np.float32]:
        with wave.open(str(clip)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        values = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_values
        with torch.no_grad():
            states = model(values.float(), output_hidden_states=True).hidden_states
        features: NDArray[np.float32] = torch.stack(states)[list(LAYERS)].sum(0)[0].numpy()
        return features

    return encode


def prepare_vit(folder: Path, count: int) -> None:
    """Write the clips, and ViT-Base with random weights as timm publishes it."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("vit_base_patch16_224", num_classes=0)
    (folder / "checkpoint").mkdir()
    save_file(model.state_dict(), folder / "checkpoint" / "model.safetensors")
    (folder / "clips").mkdir()
    numbers = np.random.default_rng(0)
    lengths = np.linspace(1, 8, count).astype(int) * FPS
    for index in numbers.permutation(count):
        write_video(folder / "clips" / f"{index:03}.mp4", lengths[index], numbers)
    (folder / "amount").write_text(f"{lengths.sum()} frames")


def write_video(path: Path, frames: int, numbers: np.random.Generator) -> None:
    """Write coarse noise that changes from frame to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for _ in range(frames):
            cells = numbers.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
            picture = np.ascontiguousarray(cells.repeat(8, axis=0).repeat(8, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))


def loop_vit(checkpoint: Path) -> Callable[[Path], NDArray[np.float32]]:
    """Return the function that decodes and encodes one clip, 32 frames at a time."""
    import timm
    from PIL import Image
    from safetensors.torch import load_file

    model: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    model.eval()
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def encode(clip: Path) -> NDArray[np.float32]:
        with av.open(str(clip)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        pictures = []
        for frame in frames:
            image = Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC)
            pictures.append(((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1))
        whole = torch.from_numpy(np.stack(pictures).astype(np.float32))
        batches = [whole[start : start + 32] for start in range(0, len(whole), 32)]
        with torch.no_grad():
            parts = [model.forward_features(batch)[:, 0] for batch in batches]
        features: NDArray[np.float32] = torch.cat(parts).numpy()
        return features

    return encode


MODELS = {
    "hubert": Model(
        "hubert", "{audio: audio}", "audio", "reduce: sum", prepare_hubert, loop_hubert
    ),
    "vit": Model("vit_mae", "{frames: video}", "video", "pool: cls", prepare_vit, loop_vit),
}
