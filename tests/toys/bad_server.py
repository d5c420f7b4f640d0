"""What a server does that is in trouble, and a proxy that does it to one request, or to many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from threading import Lock

from places import Environ, Start, body_of, passed_on

Fault = Callable[[str, Environ, Start], Iterable[bytes]]
"""What becomes of a request to the server at a URL."""


def refused(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Say that the server is in trouble."""
    body_of(environ)
    return answer(start, "500 Internal Server Error", "InternalError")


def throttled(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Say that there are too many requests."""
    body_of(environ)
    return answer(start, "503 Slow Down", "SlowDown")


def lost(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Do what is asked, and hang up instead of saying so."""
    list(passed_on(url, environ, lambda *_: None))
    return hung_up(environ, start)


def torn(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Hang up after half of the body: S3 takes a file whole or not at all."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
    return hung_up(environ, start)


def twice(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Do what is asked two times."""
    found = list(passed_on(url, environ, start))
    list(passed_on(url, environ, lambda *_: None))
    return found


def late(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Do what is asked, and once more when all is over."""
    environ["late"] = True
    return passed_on(url, environ, start)


def silent(url: str, environ: Environ, start: Start) -> Iterable[bytes]:
    """Say nothing for a while."""
    body_of(environ)
    time.sleep(2)
    return hung_up(environ, start)


def answer(start: Start, status: str, code: str) -> Iterable[bytes]:
    body = f"<Error><Code>{code}</Code><Message>it says so</Message></Error>".encode()
    start(status, [("Content-Length", str(len(body)))])
    return [body]


def hung_up(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(SHUT_RDWR)
    return answer(start, "500 Internal Server Error", "Unheard")


@dataclass
class Proxy:
    """Passes requests on, and spoils one of those that change something, or all from there on."""

    url: str
    fault: Fault
    left: int | None = None
    """Changes that go well before; None: all do."""
    always: bool = False
    seen: list[Environ] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if self._spoils(environ):
            return self.fault(self.url, environ, start)
        return passed_on(self.url, environ, start)

    def _spoils(self, environ: Environ) -> bool:
        with self.lock:
            self.seen.append(environ)
            if self.left is None or environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                return False
            self.left -= 1
            return self.left == -1 or (self.always and self.left < 0)

    def send_late(self) -> None:
        for environ in self.seen:
            if environ.get("late"):
                list(passed_on(self.url, environ, lambda *_: None))
