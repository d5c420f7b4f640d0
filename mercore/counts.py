"""How far each piece of work is, and how fast it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Count:
    """How far one stream, feature or step is."""

    todo: int
    done: int = 0
    """Failed ones included."""
    failed: int = 0
    rate: float = 0.0
    """How many a second between the last two calls of `look`."""
    looked: float = field(default_factory=time.monotonic)
    """When that was, in seconds of the monotonic clock."""
    _seen: int = 0

    def add(self, done: int, failed: int) -> None:
        """Count what is committed."""
        self.done += done
        self.failed += failed

    def look(self) -> None:
        """Set `rate` to that since the last look."""
        now = time.monotonic()
        if now > self.looked:
            self.rate = (self.done - self._seen) / (now - self.looked)
        self.looked, self._seen = now, self.done
