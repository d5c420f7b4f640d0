"""A plugin that imports a heavy package when it is found."""

from __future__ import annotations

from typing import ClassVar

import jax  # noqa: F401

from mercore import Encoder, hookimpl
from mercore_misfits.encoders import Level


class Heavy(Level):
    name: ClassVar[str] = "heavy"


@hookimpl
def encoders() -> list[type[Encoder]]:
    return [Heavy]
