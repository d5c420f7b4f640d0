"""The most that the media of one clip may be: what keeps a clip from filling the memory."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from mercore.errors import InputError, RunError

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What decoding refuses; none of it changes a number, so none is part of the experiment.

    A clip beyond a limit fails alone, with an InputError that says which, by how much and with
    what option it is raised.
    """

    max_seconds: float = 3600.0
    """Duration of a clip."""
    max_pixels: int = 7680 * 4320
    """Width times height of a frame; 8K."""
    max_frames: int = 500_000
    """Frames in the video of a clip, wanted or not; more than an hour has at 120 a second."""
    max_memory: int = 2 * 1024**3
    """Bytes of one medium of a clip, decoded: 4 a sample of audio, 3 a pixel of a wanted frame."""
    max_text: int = 1024**2
    """Bytes of a text file."""
    max_decoding: float = 600.0
    """Seconds that FFmpeg may take to open or to read through a file."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise RunError(f"{field.name} {value!r}: expected a number above 0")

    def check_seconds(self, path: str, found: float) -> None:
        """Raise InputError for a clip that lasts longer."""
        if found > self.max_seconds:
            raise _beyond(path, f"lasts {found:.1f} s", f"{self.max_seconds:g} s", "max-seconds")

    def check_pixels(self, path: str, width: int, height: int) -> None:
        """Raise InputError for a frame that is larger, or whose size FFmpeg does not find out."""
        if not width * height:  # it looks at no frame with more, see ``mercore.containers``
            raise InputError(
                f"{path}: no size of its frames is found: they are damaged, or larger than the "
                f"limit of {self.max_pixels} pixels, which --max-pixels raises"
            )
        if width * height > self.max_pixels:
            found = f"has frames of {width} x {height} = {width * height} pixels"
            raise _beyond(path, found, str(self.max_pixels), "max-pixels")

    def check_frames(self, path: str, found: int) -> None:
        """Raise InputError for a video with more frames."""
        if found > self.max_frames:
            raise _beyond(path, f"has {found} frames", str(self.max_frames), "max-frames")

    def check_memory(self, path: str, found: int, what: str) -> None:
        """Raise InputError for a medium of more bytes; `what` it is, such as ``audio``."""
        if found > self.max_memory:
            needed = f"needs {size_text(found)} of memory for its {what}"
            raise _beyond(path, needed, size_text(self.max_memory), "max-memory")

    def check_text(self, path: str, found: int) -> None:
        """Raise InputError for a text file of more bytes."""
        if found > self.max_text:
            size = f"has {size_text(found)} of text"
            raise _beyond(path, size, size_text(self.max_text), "max-text")

    def check_decoding(self, path: str, found: float) -> None:
        """Raise InputError for a file that takes FFmpeg longer."""
        if found > self.max_decoding:
            took = f"has taken {found:.1f} s to decode"
            raise _beyond(path, took, f"{self.max_decoding:g} s", "max-decoding")


DEFAULT = Limits()
"""What decoding refuses where nothing else is said."""

NO_LIMITS = Limits(math.inf, 2**62, 2**62, 2**62, 2**62, math.inf)
"""For files that are the user's own and known."""


def _beyond(path: str, found: str, limit: str, option: str) -> InputError:
    # Some files tell it only while they are decoded: the rest of them is not looked at.
    return InputError(
        f"{path}: {found} or more, and the limit is {limit}; raise it with --{option} (features of "
        "a clip that failed are tried again with --retry-failed)"
    )


def parse_size(text: str) -> int:
    """Return the bytes that ``2GiB``, ``500 MB`` or ``4096`` are; raises ValueError for others."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r}: expected bytes such as 2GiB, 500MB or 4096")
    return int(float(match[1]) * unit)


def size_text(count: int) -> str:
    """Return a number of bytes in words that ``parse_size`` reads: ``2GiB``."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            # Rounded up: what is beyond a limit is never shown as the limit itself.
            return f"{math.ceil(100 * count / 1024**power) / 100:g}{unit}"
    return f"{count}B"
