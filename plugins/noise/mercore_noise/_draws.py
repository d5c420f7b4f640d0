"""What is drawn at random for a sample, the same each time."""

from __future__ import annotations

import hashlib

import numpy as np

from mercore.components import Inputs
from mercore.inputs import text_of


def draws_for(sample: Inputs, name: str, seed: int) -> np.random.Generator:
    """Return the generator of the sample whose input ``id`` is given, for the component `name`."""
    key = f"{name}\0{seed}\0{text_of(sample, 'id')}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest()))
