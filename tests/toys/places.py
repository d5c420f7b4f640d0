"""Where a store may be: in a folder, or below a prefix of a bucket on a server of moto's."""

from __future__ import annotations

import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import S3Store

BUCKET = "mer-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
Environ = dict[str, Any]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]
"""A WSGI application."""


class Place(ABC):
    """The files of one store, so that a test can look into it and damage it."""

    path: str
    """What `Store` opens."""

    @abstractmethod
    def all(self) -> list[str]:
        """Return the keys of all files, sorted."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return what a file holds."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Make a file, or replace it."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a file."""

    @abstractmethod
    def zarr(self) -> Any:
        """Return what zarr-python opens."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        below = [key.removeprefix(f"{folder}/") for key in self.all() if key.startswith(folder)]
        return sorted({rest.partition("/")[0] for rest in below})

    def move(self, folder: str, to: str) -> None:
        """Give a folder another name."""
        for key in self.all():
            if key.startswith(f"{folder}/"):
                self.write(to + key.removeprefix(folder), self.read(key))
                self.delete(key)


@dataclass
class Folder(Place):
    root: Path

    def __post_init__(self) -> None:
        self.path = str(self.root)

    def all(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)

    def delete(self, key: str) -> None:
        path = self.root / key
        path.unlink()
        if path.parent != self.root and not list(path.parent.iterdir()):
            path.parent.rmdir()  # as where folders are no more than names

    def zarr(self) -> Path:
        return self.root


@dataclass
class Prefix(Place):
    server: Server
    prefix: str

    def __post_init__(self) -> None:
        self.path = f"s3://{BUCKET}/{self.prefix}"

    @property
    def objects(self) -> S3Store:
        """The same objects, without mercore between."""
        from obstore.store import S3Store

        options: Any = {"endpoint": self.server.url, "client_options": {"allow_http": True}}
        return S3Store(BUCKET, prefix=self.prefix, **options)

    def all(self) -> list[str]:
        return sorted(each["path"] for each in self.objects.list().collect())

    def read(self, key: str) -> bytes:
        return self.objects.get(key).bytes().to_bytes()

    def write(self, key: str, data: bytes) -> None:
        self.objects.put(key, data)

    def delete(self, key: str) -> None:
        self.objects.delete(key)

    def dump(self) -> dict[str, bytes]:
        """Return what all files hold, taken out of moto without a request."""
        keys = self._backend.buckets[BUCKET].keys
        below = [key for key in keys if key.startswith(f"{self.prefix}/")]
        return {key.removeprefix(f"{self.prefix}/"): keys[key].value for key in below}

    def fill(self, files: Mapping[str, bytes]) -> Prefix:
        """Put files into moto without a request, which takes a tenth of the time."""
        for key, data in files.items():
            self._backend.put_object(BUCKET, f"{self.prefix}/{key}", data)
        return self

    @property
    def _backend(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    def zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self.objects, read_only=True)


@dataclass
class Server:
    """A server of moto's that counts requests, and can be told to do worse than moto."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    """``METHOD /path?query`` of each."""
    signed: list[str] = field(default_factory=list)
    """The header Authorization of each."""
    latency: float = 0
    """Seconds before each answer."""
    deaf: bool = False
    """Whether it takes no notice of If-None-Match."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What happens, once, before a request that begins so is served."""

    def within(self, app: App) -> App:
        """Return the application in the middle of which this stands."""
        lock = Lock()  # moto lists a bucket that another thread deletes from with a KeyError

        def served(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            query = environ["QUERY_STRING"]
            request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{query}".rstrip("?")
            self.requests.append(request)
            self.signed.append(environ.get("HTTP_AUTHORIZATION", ""))
            time.sleep(self.latency)
            if self.deaf:
                environ.pop("HTTP_IF_NONE_MATCH", None)
            for sign in [sign for sign in self.before if request.startswith(sign)]:
                self.before.pop(sign)()
            with lock:
                return app(environ, start)

        return served


@contextmanager
def served(app: App) -> Iterator[str]:
    """Serve a WSGI application on a free port of this machine; the value is its URL."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay: a third of the time

        def log(self, type: str, message: str, *args: object) -> None:
            pass

    listening = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = Thread(target=listening.serve_forever, args=[0.02], daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@contextmanager
def moto() -> Iterator[Server]:
    """Serve S3, with one empty bucket; nothing of it is kept."""
    from moto.moto_server.werkzeug_app import create_backend_app

    server = Server()
    with served(server.within(create_backend_app("s3"))) as server.url:
        make = urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(make).close()
        yield server


def body_of(environ: Environ) -> bytes:
    """Return the body of a request, which can be asked for again."""
    if "body" not in environ:
        environ["body"] = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body: bytes = environ["body"]
    return body


def passed_on(url: str, environ: Environ, start: Start) -> Iterator[bytes]:
    """Yield what the server at `url` answers to the same request."""
    connection = HTTPConnection(url.removeprefix("http://"))
    body = body_of(environ)
    sent = {
        name[5:].replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    connection.request(environ["REQUEST_METHOD"], environ["RAW_URI"], body, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    kept = [pair for pair in answer.getheaders() if pair[0].lower() != "transfer-encoding"]
    start(f"{answer.status} {answer.reason}", kept)
    yield data
