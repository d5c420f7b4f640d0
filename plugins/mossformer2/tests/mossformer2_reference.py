"""ModelScope's own module, without the rest of its package, which takes a quarter of a minute."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch


class TorchModel(torch.nn.Module):
    """What the module needs of the base class."""

    def __init__(self, model_dir: str) -> None:
        super().__init__()


def reference(width: int, blocks: int) -> Any:
    """Return the untrained network, ``(1, samples)`` in, ``(1, samples, 2)`` out."""
    spec = find_spec("modelscope")
    assert spec is not None
    assert spec.origin is not None
    own = Path(spec.origin).parent / "models" / "audio" / "separation" / "m2"
    package = ModuleType("m2")
    package.__path__ = [str(own)]
    registry = SimpleNamespace(register_module=lambda *_, **__: lambda kind: kind)
    models = ModuleType("modelscope.models")
    models.__dict__.update(MODELS=registry, TorchModel=TorchModel)
    with patch.dict(sys.modules, {"m2": package, "modelscope.models": models}):
        kind = import_module("m2.mossformer").MossFormer2
    return kind(".", in_channels=width, out_channels=width, num_blocks=blocks).eval()
