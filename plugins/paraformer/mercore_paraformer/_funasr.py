"""FunASR's networks, with its weights checked, and without what else it does to a process."""

from __future__ import annotations

import io
import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import nn

from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, fill
from mercore_paraformer._published import CMVN, SEGMENTS, Published, tokens_in


def network(found: Published, device: str) -> nn.Module:
    """Return the network as FunASR builds and loads it, on `device` in float32.

    Raises CheckpointError for weights that are missing, not expected or of another shape, which
    FunASR passes over, and for a file that holds more than weights.
    """
    model: nn.Module = auto_model(found, device).model
    return model


def auto_model(found: Published, device: str) -> Any:
    """Return FunASR's AutoModel, whose ``model`` is the network; raises as ``network`` does."""
    weights = Checkpoint(found.network)  # refuses what could run code
    with undisturbed():
        from funasr import AutoModel

        try:
            auto = AutoModel(**_settings(found))
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"{found.config}: FunASR cannot build this network: {reason}; fetch the folder "
                "again, or give another checkpoint"
            ) from error
    auto.model = fill(auto.model, weights, dtype=torch.float32, device=device)
    return auto


def _settings(found: Published) -> dict[str, Any]:
    """Return what to tell AutoModel: which files, and to leave the network and our code alone."""
    told = {name: dict(found.told.get(name) or {}) for name in ("tokenizer_conf", "frontend_conf")}
    told["tokenizer_conf"]["token_list"] = str(tokens_in(found.files))
    told["frontend_conf"] |= {"cmvn_file": str(found.files[CMVN]), "dither": 0.0}
    if SEGMENTS in found.files:
        told["tokenizer_conf"]["seg_dict"] = str(found.files[SEGMENTS])
    return {
        # A name that is no path may be an alias of a hub's.
        "model": str(found.folder.resolve()),
        "init_param": str(found.network),
        "device": "cpu",
        "disable_update": True,
        "check_latest": False,
        "disable_pbar": True,
        "trust_remote_code": False,
        "ncpu": torch.get_num_threads(),
        **told,
    }


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep FunASR's prints from stdout, and the process as it was: random numbers and logging."""
    root, silent = logging.getLogger(), logging.NullHandler()
    state, numbers = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.callback(random.setstate, state)
        stack.callback(np.random.set_state, numbers)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # With a handler there, FunASR adds none of its own.
        root.addHandler(silent)
        stack.callback(root.removeHandler, silent)
        yield
