"""Write the weights of `mtcnn` and `face_expression` from the packages that publish them.

Run once, from this folder, with mercore and mercore-starter importable; the results are kept in
``mercore_starter/weights``. It needs two files, fetched by hand::

    npm pack @vladmandic/face-api@1.7.15
    pip download --no-deps facenet-pytorch==2.6.0
    python convert_weights.py vladmandic-face-api-1.7.15.tgz facenet_pytorch-2.6.0-*.whl

Prints the SHA-256 of what it wrote, for ``NOTICE.md``.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mercore_starter.faces import EXPRESSION_WEIGHTS, MTCNN_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn

FACE_API = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
FACENET = "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca"
MODEL = "package/model/face_expression_model"


def main(face_api: Path, facenet: Path) -> None:
    """Convert both packages, refusing other versions of them."""
    for path, expected in ((face_api, FACE_API), (facenet, FACENET)):
        if (found := digest(path)) != expected:
            sys.exit(f"{path}: SHA-256 is {found}, expected {expected}")
    convert_expression(face_api)
    convert_mtcnn(facenet)
    for path in (EXPRESSION_WEIGHTS, MTCNN_WEIGHTS):
        path.chmod(0o644)  # safetensors leaves it readable by the owner only
        print(digest(path), path.name, path.stat().st_size)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def convert_expression(archive: Path) -> None:
    """Keep the uint8 values as they are; scale and min go to the file's metadata."""
    with tarfile.open(archive) as package:
        manifest = json.loads(member(package, f"{MODEL}-weights_manifest.json"))[0]["weights"]
        tensors = dict(split(member(package, f"{MODEL}.bin"), manifest))
    steps = {
        spec["name"]: {key: spec["quantization"][key] for key in ("scale", "min")}
        for spec in manifest
        if "quantization" in spec
    }
    save_file(tensors, EXPRESSION_WEIGHTS, metadata={"quantization": json.dumps(steps)})


def member(package: tarfile.TarFile, name: str) -> bytes:
    """Return the content of one file of the package."""
    file = package.extractfile(name)
    if file is None:
        sys.exit(f"{name} is no file")
    return file.read()


def split(data: bytes, manifest: list[dict[str, Any]]) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield the tensors, which lie one after the other in the order of the manifest."""
    start = 0
    for spec in manifest:
        dtype = np.dtype(spec.get("quantization", spec)["dtype"])
        count = int(np.prod(spec["shape"]))
        yield spec["name"], np.frombuffer(data, dtype, count, start).reshape(spec["shape"])
        start += count * dtype.itemsize
    if start != len(data):
        sys.exit(f"the manifest describes {start} of {len(data)} bytes")


def convert_mtcnn(wheel: Path) -> None:
    """Round to float16, and turn the first dense layer to rows before columns."""
    import torch

    from mercore_starter._mtcnn import OutputNet, ProposalNet, RefineNet

    nets: dict[str, nn.Module] = {"pnet": ProposalNet(), "rnet": RefineNet(), "onet": OutputNet()}
    sides = {"pnet": 0, "rnet": 3, "onet": 3}  # of the map that the first dense layer reads
    tensors: dict[str, NDArray[np.generic]] = {}
    with zipfile.ZipFile(wheel) as package:
        for name, net in nets.items():
            data = io.BytesIO(package.read(f"facenet_pytorch/data/{name}.pt"))
            source = torch.load(data, weights_only=True)
            for key, value in renamed(source, net, sides[name]).items():
                tensors[f"{name}.{key}"] = value.to(torch.float16).numpy()
    save_file(tensors, MTCNN_WEIGHTS)


def renamed(source: dict[str, Tensor], net: nn.Module, side: int) -> dict[str, Tensor]:
    """Return the weights under the names of `net`, whose layers come in the same order."""
    result = {}
    for (key, own), value in zip(net.state_dict().items(), source.values(), strict=True):
        if key.startswith("body") and value.dim() == 2:
            # Published for a map flattened as (columns, rows, channels); torch has the reverse.
            value = value.view(len(value), side, side, -1).permute(0, 3, 2, 1).reshape(own.shape)
        if value.shape != own.shape:
            sys.exit(f"{key}: found {tuple(value.shape)}, expected {tuple(own.shape)}")
        result[key] = value.contiguous()
    return result


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
