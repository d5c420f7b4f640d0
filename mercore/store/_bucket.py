"""A bucket on an S3 server: how to connect to it, and what its refusals mean."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING

from mercore.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Config, S3CredentialProvider, S3Store

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""The environment variables that may name the server, the first one that is set counts."""
SILENCE = timedelta(minutes=1)
"""How long a server may say nothing until a request is given up and sent again."""
RETRIES = 10
"""How often a request is sent again that was not answered, or by a server that is in trouble."""
BACKOFF = timedelta(seconds=0.2)
"""The wait before the first time; those after it are drawn from longer and longer ranges."""
PATIENCE = timedelta(minutes=3)
"""How long after the first time a request is sent again: silence is met three times at most."""
LOG_IN = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or install boto3 for those in ~/.aws"
RIGHTS = "s3:ListBucket on the bucket; s3:GetObject, s3:PutObject and s3:DeleteObject in it"
CURES = {
    # The service of a machine at AWS is asked last, where nothing else gave credentials.
    "/latest/api/token": f"no credentials found; {LOG_IN}",
    "NoSuchBucket": "make the bucket first, or check its name and the endpoint",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID and the endpoint",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "log in again: the credentials are no longer valid",
    "InvalidRange": "the file is shorter than what was written",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's",
    "incorrectly configured region": "set AWS_REGION to the bucket's",
    "403 Forbidden": f"the credentials need {RIGHTS}",
    "501 Not Implemented": "the server cannot do this; use another, or a store on a disk",
    "HTTP error": "check the endpoint and the network",
    "status code: 5": "try again later",
}
"""What to do, by what is in obstore's message; the first that fits counts."""


@dataclass(frozen=True)
class Bucket:
    """A bucket, and the connections to it; a copy in another process makes its own."""

    name: str
    endpoint: str | None = None
    """The URL of the server; None for what the environment says, and AWS."""

    def __reduce__(self) -> tuple[type[Bucket], tuple[str, str | None]]:
        return Bucket, (self.name, self.endpoint)

    @property
    def server(self) -> str:
        """How messages call the server."""
        return self._url or "AWS"

    @property
    def store(self) -> S3Store:
        """The connections; a StoreError in a forked process, where they would wait for ever."""
        if _first_process() != os.getpid():
            found = "the process was forked after S3 was used, which obstore does not survive"
            cure = 'start workers afresh: DataLoader(..., multiprocessing_context="spawn")'
            raise StoreError(f"s3://{self.name}: {found}; {cure}")
        return self._connected

    @cached_property
    def _connected(self) -> S3Store:
        from obstore.store import S3Store

        with told(f"s3://{self.name}", "connect"):
            return S3Store(
                self.name,
                config=self._config,
                client_options={
                    "allow_http": self.server.startswith("http://"),
                    "connect_timeout": timedelta(seconds=5),
                    "read_timeout": SILENCE,
                    "timeout": timedelta(minutes=10),
                },
                retry_config={
                    "max_retries": RETRIES,
                    "backoff": {"init_backoff": BACKOFF},
                    "retry_timeout": PATIENCE,
                },
                credential_provider=_credentials(),
            )

    @property
    def _config(self) -> S3Config:
        # Under this name it counts before what the environment says.
        return {"aws_endpoint_url_s3": self._url} if self._url else {}

    @property
    def _url(self) -> str | None:
        named = [os.environ[variable] for variable in ENDPOINTS if os.environ.get(variable)]
        url = next(iter([self.endpoint, *named] if self.endpoint else named), None)
        if url and not re.match("https?://.", url):
            raise StoreError(f"endpoint {url!r}: expected http://host:port or https://host")
        return url


@contextmanager
def told(where: str, action: str, *, missing: bool = False) -> Iterator[None]:
    """Turn obstore's errors into a StoreError that names `where`; `missing`: but a missing file."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        text = str(error)
        if missing and isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
            gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)
            raise gone from None
        raise StoreError(f"{where}: cannot {action}: {_said(text)}{_cure(text)}") from error


@cache
def _first_process() -> int:
    """Return the process that used S3 first, also in its forks: they share what is remembered."""
    return os.getpid()


def _credentials() -> S3CredentialProvider | None:
    """Return boto3's, which knows the profiles in ~/.aws; None leaves obstore to look for them."""
    if {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"} & set(os.environ):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except ValueError:  # it found none
        return None
    except Exception as error:  # what boto3 raises has no other base
        raise StoreError(f"AWS credentials: {error}; check AWS_PROFILE and ~/.aws") from error


def _said(text: str) -> str:
    """Return what is of use to a reader in the message of obstore."""
    answer = re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", text, re.DOTALL)
    return ": ".join(answer.groups()) if answer else text.partition("\n")[0]


def _cure(text: str) -> str:
    """Return what to do about it."""
    return next((f"; {cure}" for sign, cure in CURES.items() if sign in text), "")
