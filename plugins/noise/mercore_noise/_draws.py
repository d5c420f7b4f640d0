"""What is drawn at random for a sample, the same each time."""

from __future__ import annotations

import hashlib

import numpy as np

from mercore.components import Inputs
from mercore.errors import InputError
from mercore.media import Text


def draws_for(sample: Inputs, name: str, seed: int) -> np.random.Generator:
    """Return the generator of the sample whose input ``id`` is given, for the component `name`."""
    identifier = sample["id"]
    if not isinstance(identifier, Text):
        raise InputError(f"the input 'id' holds {identifier!r}, expected the id of the sample")
    key = f"{name}\0{seed}\0{identifier.content}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest()))
