"""What S3 servers refuse, get wrong or leave unanswered, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from places import KEYS, App, Environ, Prefix, Start, passed_on, served

from mercore.errors import StoreError
from mercore.store import Row, Store, _bucket
from mercore.store._s3 import S3Files

ROW = Row("a", np.zeros((1, 2), np.float32))


def refusing(status: str, code: str, *, until: int = 10**9) -> App:
    """Return a server that refuses so many requests, and then knows no file."""
    seen: list[str] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        seen.append(environ["PATH_INFO"])
        refused = (status, code) if len(seen) <= until else ("404 Not Found", "NoSuchKey")
        body = f"<Error><Code>{refused[1]}</Code><Message>it says so</Message></Error>".encode()
        start(refused[0], [("Content-Length", str(len(body)))])
        return [body]

    return app


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("status", "code", "cure"),
    [
        ("404 Not Found", "NoSuchBucket", "make the bucket first"),
        ("403 Forbidden", "AccessDenied", "need s3:ListBucket"),
        ("403 Forbidden", "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
        ("400 Bad Request", "ExpiredToken", "log in again"),
        ("403 Forbidden", "RequestTimeTooSkewed", "set the clock"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "set AWS_REGION"),
        ("301 Moved Permanently", "PermanentRedirect", "set AWS_REGION"),
    ],
)
def test_a_refusal_says_what_to_do(status: str, code: str, cure: str) -> None:
    with served(refusing(status, code)) as url, pytest.raises(StoreError) as caught:
        Store("s3://bucket/mer.zarr", endpoint=url)
    assert str(caught.value).startswith("s3://bucket/mer.zarr/zarr.json: cannot read: ")
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("keys")
def test_a_server_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bucket, "BACKOFF", timedelta(milliseconds=1))
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:1/.*; check the endpoint"):
        Store("s3://bucket/mer.zarr", endpoint="http://127.0.0.1:1")


@pytest.mark.usefixtures("keys")
def test_a_server_that_is_busy_is_asked_again() -> None:
    with served(refusing("503 Slow Down", "SlowDown", until=2)) as url:
        with pytest.raises(FileNotFoundError) as caught:
            S3Files.at("s3://bucket/prefix", url).get("file")
        assert caught.value.filename == "s3://bucket/prefix/file"


@pytest.mark.parametrize("action", ["get", "list", "put", "put_new", "delete", "remove", "size"])
def test_a_missing_bucket_is_reported_by_all(s3: Prefix, action: str) -> None:
    files = S3Files.at("s3://no-such-bucket/mer.zarr")
    others: dict[str, list[object]] = {"put": [{"file": [b"1"]}], "put_new": ["file", [b"1"]]}
    given = others.get(action, ["file"])
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/mer\.zarr/file: .* make the bucket"):
        getattr(files, action)(*given)


def test_without_credentials_it_is_said_where_they_are_looked_for(
    s3: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with served(refusing("403 Forbidden", "")) as url:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)
        with pytest.raises(StoreError, match="no credentials found; set AWS_ACCESS_KEY_ID"):
            Store(s3.path)


def test_a_server_that_writes_over_files_is_refused(s3: Prefix) -> None:
    s3.server.deaf = True
    with pytest.raises(StoreError, match=r"zarr\.json: http://.* expected status 412") as caught:
        Store(s3.path)
    assert s3.server.url in str(caught.value)
    assert list(Store(s3.path, create=False)) == []  # reading needs no such thing
    s3.server.deaf = False
    assert list(Store(s3.path)) == []


def test_who_may_only_read_can_read(s3: Prefix) -> None:
    Store(s3.path).create("features", "toy", "f1", {}).commit([ROW])

    def reading(environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return refusing("403 Forbidden", "AccessDenied")(environ, start)
        return passed_on(s3.server.url, environ, start)

    with served(reading) as url:
        store = Store(s3.path, endpoint=url)
        assert store["toy"].matrix(["a"]).tolist() == [[0, 0]]
        collection = store.collection("features", "toy", "f1")
        assert collection is not None
        with pytest.raises(StoreError, match=r"cannot write: AccessDenied: .*s3:PutObject"):
            collection.commit([ROW])


def test_a_file_is_new_though_the_answer_to_its_put_was_lost(s3: Prefix) -> None:
    lost = ["once"]

    def losing(environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and lost:
            lost.clear()
            list(passed_on(s3.server.url, environ, lambda *_: None))
            start("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        return passed_on(s3.server.url, environ, start)

    with served(losing) as url:
        files = S3Files.at(s3.path, url)
        assert files.put_new("gen/1.json", [b"first"])
        assert not lost
        assert not files.put_new("gen/1.json", [b"second"])
        assert files.get("gen/1.json") == b"first"


@pytest.mark.parametrize(
    ("path", "endpoint", "message"),
    [
        ("s3://", None, "expected s3://bucket"),
        ("s3:///prefix", None, "expected s3://bucket"),
        ("s3://bucket/a//b", None, "expected s3://bucket"),
        ("s3://bucket/../b", None, "expected s3://bucket"),
        ("gs://bucket/prefix", None, "expected s3://bucket"),
        (Path("s3://bucket/prefix"), None, "give it as text"),
        ("s3://bucket/prefix", "localhost:9000", "expected http://host:port"),
    ],
)
def test_what_is_no_address_is_refused(
    path: str | Path, endpoint: str | None, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        Store(path, endpoint=endpoint)
