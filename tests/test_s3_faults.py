"""A server on S3 that fails, is slow, or loses answers at any request: nothing is lost by it."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import count, cycle
from pathlib import Path

import numpy as np
import pytest
from bad_server import Fault, Proxy, late, lost, refused, silent, throttled, torn, twice
from places import Environ, Folder, Place, Prefix, Start, body_of, passed_on, served
from store_states import NEW, OLD, prepared, rows_of, state_of

from mercore.errors import StoreError
from mercore.store import Collection, Row, Store, _bucket, _s3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bucket, "BACKOFF", timedelta(milliseconds=1))
    monkeypatch.setattr(_bucket, "SILENCE", timedelta(seconds=10))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not answered soon counts as silent, also where the machine is busy."""
    monkeypatch.setattr(_bucket, "SILENCE", timedelta(seconds=0.2))


@pytest.fixture
def old(s3: Prefix) -> Prefix:
    """A store whose collection is in the state OLD."""
    prepared(opened(s3))
    return s3


@pytest.fixture
def copies(old: Prefix) -> Iterator[Prefix]:
    """Copies of it without end."""
    files = old.dump()
    return (Prefix(old.server, f"{old.prefix}/{number}").fill(files) for number in count())


def opened(place: Place, url: str | None = None) -> Collection:
    return Store(place.path, endpoint=url).create("frames", "toy", "f", {})


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Prefix], None]:
    """Check that the collection is in the state NEW, and stays so: on a disk, which is faster."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def checked(place: Prefix) -> None:
        disk = Folder(tmp_path / place.prefix)
        for key, data in place.dump().items():
            disk.write(key, data)
        for _ in range(2):
            collection = opened(disk)
            assert state_of(collection) == {**OLD, **NEW}
            collection.compact()

    return checked


@pytest.mark.slow
def test_any_one_change_that_goes_wrong_costs_nothing(
    copies: Iterator[Prefix], check: Callable[[Prefix], None]
) -> None:
    """Of 20 changes each goes wrong in one way here, and in all ways in benchmarks/faults.py."""
    faults = cycle([refused, lost, torn, twice, late])
    for number, (place, fault) in enumerate(zip(copies, faults, strict=False)):
        proxy = Proxy(place.server.url, fault)
        with served(proxy) as url:
            collection = opened(place, url)
            proxy.left = number
            collection.commit(rows_of(NEW))
            collection.compact()
            proxy.send_late()
        check(place)
        if proxy.left >= 0:
            break
    assert number > 15


def test_a_server_that_fails_from_a_change_on_is_named_and_nothing_is_lost(
    copies: Iterator[Prefix], check: Callable[[Prefix], None]
) -> None:
    said = []
    for number, place in zip(range(0, 10, 2), copies, strict=False):
        proxy = Proxy(place.server.url, refused, always=True)
        with served(proxy) as url:
            collection, before = opened(place, url), OLD
            proxy.left = number
            try:
                collection.commit(rows_of(NEW))
                before = {**OLD, **NEW}
                collection.compact()
            except StoreError as error:
                said.append(str(error))
            proxy.left = None  # it is well again
            assert state_of(collection) in (before, {**OLD, **NEW})
            collection.commit(rows_of(NEW))
        check(place)
    assert len(said) == 5
    for line in said:
        assert re.fullmatch(
            r"s3://.*/frames/toy@f/.*: cannot .*: InternalError: it says so.*", line
        )


def test_a_server_that_is_throttled_is_asked_again_until_it_answers(old: Prefix) -> None:
    asked: Counter[object] = Counter()

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        parts = ("REQUEST_METHOD", "RAW_URI", "HTTP_RANGE")
        request = (*(environ.get(part) for part in parts), body_of(environ))
        asked[request] += 1
        if asked[request] % 4:
            return throttled(old.server.url, environ, start)
        return passed_on(old.server.url, environ, start)

    with served(app) as url:
        collection = opened(old, url)
        collection.commit(rows_of(NEW))
        collection.compact()
        assert state_of(collection) == {**OLD, **NEW}
    assert all(times % 4 == 0 for times in asked.values())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("fault", "says"),
    [(throttled, "SlowDown: it says so"), (silent, "HTTP error|timed out"), (torn, "HTTP error")],
)
def test_a_server_that_never_answers_is_given_up_after_a_while(
    old: Prefix, fault: Fault, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bucket, "PATIENCE", timedelta(seconds=0.6))
    proxy = Proxy(old.server.url, fault, always=True)
    with served(proxy) as url:
        collection = opened(old, url)
        collection.entries()
        proxy.seen.clear()
        proxy.left, began = 0, time.monotonic()
        with pytest.raises(StoreError, match=says) as caught:
            collection.commit(rows_of(NEW))
        assert time.monotonic() - began < 5
    assert 1 < len(proxy.seen) <= 1 + _bucket.RETRIES
    assert str(caught.value).startswith(f"{old.path}/frames/toy@f/seg/")
    assert "\n" not in str(caught.value)
    assert state_of(opened(old)) == OLD


@pytest.mark.usefixtures("hasty")
def test_a_silence_is_not_waited_out(old: Prefix, check: Callable[[Prefix], None]) -> None:
    proxy = Proxy(old.server.url, silent)
    with served(proxy) as url:
        collection = opened(old, url)
        proxy.left, began = 0, time.monotonic()
        collection.commit(rows_of(NEW))
        assert time.monotonic() - began < 1.5
    check(old)


@pytest.mark.parametrize("fault", [refused, lost, torn])
def test_a_large_file_is_there_as_a_whole_or_not_at_all(
    s3: Prefix, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_s3, "PART_BYTES", 5 * 2**20)
    values = np.arange(6 * 2**18, dtype=np.float32).reshape(1, -1)  # two parts
    for number in range(5):
        proxy = Proxy(s3.server.url, fault)
        with served(proxy) as url:
            collection = opened(Prefix(s3.server, f"{s3.prefix}/{number}"), url)
            proxy.left = number
            try:
                collection.commit([Row("a", values)])
            except StoreError:
                assert "a" not in collection.entries()
                collection.commit([Row("a", values)])
            np.testing.assert_array_equal(collection.sequence("a"), values)
            collection.verify()
