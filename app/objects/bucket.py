"""A bucket of S3's kind, by obstore: one request a call, and what its answer means.

obstore may not try again by itself what is conditional. It would, after an answer of 500 or a broken connection, and
the second of two equal puts is refused by what the first one put: its own success comes back as "exists already" or
"precondition failed". So it tries once, and ``app.objects.persistent`` finds out what became of it. Parts of large
objects may be put again, and are.

The answer decides what is raised; where there is none, only a connection that was never made is told apart from one
that broke, by the words of the error. Whatever is not understood is Unsure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from ipaddress import ip_address
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from app.errors import (
    Damaged,
    Invalid,
    ObjectChanged,
    ObjectMissing,
    ObjectTaken,
    StoreRefused,
    StoreUnavailable,
    Unsure,
)
from app.objects.protocol import Listed, Tag

_PART: Final = 8 << 20
_PARTS_AT_A_TIME: Final = 4
_PART_S: Final = 60.0
_SLOWEST: Final = 2**18
"""Bytes a second of one request, below which a store is taken as not answering: 16 at a time need 4 MiB a second."""
_LITTLE: Final = 2**16
"""Bytes of a body that need no time of their own."""
_LONGEST_S: Final = 600.0
"""Of an answer as a whole."""
_STATUS: Final = re.compile(r"status code: (\d{3})")
_NEVER_SENT: Final = re.compile(r"Error\(\s*Connect\b")


class Bucket:
    """``Requests`` to ``s3://bucket/prefix``. endpoint: of another server than Amazon's. request_s: until a request
    without an answer is given up, with more for what it carries; of an answer, from one piece to the next. What is not
    given is taken from the environment, as AWS names it."""

    def __init__(self, bucket: str, prefix: str, *, endpoint: str | None, request_s: float, **settings: str) -> None:
        if endpoint is not None:
            settings["endpoint"] = endpoint
        options: dict[str, Any] = {
            "allow_http": endpoint is not None and endpoint.startswith("http://") and _here(endpoint),
            "connect_timeout": timedelta(seconds=min(request_s, 5)),
        }
        store = library("obstore.store").S3Store

        def made(retries: int, seconds: float, piece_s: float | None = None) -> Any:
            pieces = {} if piece_s is None else {"read_timeout": timedelta(seconds=piece_s)}
            return store(
                bucket,
                prefix=prefix or None,
                client_options={**options, **pieces, "timeout": timedelta(seconds=seconds)},
                retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=seconds * (retries + 1))},
                **settings,
            )

        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._obstore = library("obstore")
        self._request_s = request_s
        self._once = made(0, request_s)
        # How much an answer has is known when it ends.
        self._answers_only = made(0, _LONGEST_S, request_s)
        self._made = made
        self._limited: dict[float, Any] = {request_s: self._once}
        self._large = made(4, _PART_S)

    def get(self, name: str, /) -> tuple[bytes, Tag]:
        with self._answers(name):
            answer = self._obstore.get(self._answers_only, name)
            tag = answer.meta["e_tag"]
            content = bytes(answer.bytes())
        if not tag:
            raise Damaged(f"{name} in {self.place}: the store gives no ETag, which a conditional write needs")
        return content, tag

    def read(self, name: str, start: int, length: int, /) -> bytes:
        with self._answers(name):
            try:
                return bytes(self._obstore.get_range(self._answers_only, name, start=start, length=length))
            except self._obstore.exceptions.GenericError as error:
                if _status(error) == 416:
                    return b""
                raise

    def put_new(self, name: str, content: bytes, /) -> Tag:
        with self._answers(name, ObjectTaken):
            return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, tag: Tag, /) -> Tag:
        with self._answers(name, ObjectChanged):
            return self._put(name, content, {"e_tag": tag})

    def _put(self, name: str, content: bytes, mode: Any) -> Tag:
        return str(
            self._obstore.put(self._that_carries(len(content)), name, content, mode=mode, use_multipart=False)["e_tag"]
        )

    def _that_carries(self, size: int) -> Any:
        """One whose requests have the time for a body of ``size`` bytes. Each limit is twice another: they are few."""
        seconds = self._request_s
        while seconds < self._request_s + size / _SLOWEST and size > _LITTLE:
            seconds *= 2
        if seconds not in self._limited:
            self._limited[seconds] = self._made(0, seconds)
        return self._limited[seconds]

    def put(self, name: str, stream: BinaryIO, /) -> None:
        with self._answers(name):
            self._obstore.put(self._large, name, stream, chunk_size=_PART, max_concurrency=_PARTS_AT_A_TIME)

    def list(self, prefix: str, after: str = "", /) -> list[Listed]:
        with self._answers(prefix):
            found = self._obstore.list(self._once, prefix, offset=after or None).collect()
        return [Listed(one["path"], one["size"], one["last_modified"].timestamp()) for one in found]

    def remove(self, names: Sequence[str], /) -> None:
        with self._answers(names[0]):
            self._obstore.delete(self._once, list(names))

    @contextmanager
    def _answers(self, name: str, refusal: type[ObjectTaken | ObjectChanged] | None = None) -> Iterator[None]:
        """What an error of obstore means. refusal: of a condition, where the request has one."""
        errors = self._obstore.exceptions
        where = f"{name} in {self.place}"
        try:
            yield
        except (errors.AlreadyExistsError, errors.PreconditionError) as error:
            if refusal is None:
                raise StoreUnavailable(f"{where}: {_said(error)}") from error
            raise refusal(f"{where}: {_said(error)}") from error
        except FileNotFoundError as error:
            if refusal is not None or "NoSuchBucket" in str(error):
                raise StoreRefused(f"{where}: there is no such bucket, or none for this key: {_said(error)}") from error
            raise ObjectMissing(f"{where} is missing") from error
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise StoreRefused(f"{where}: the store refuses the key, or what it may do: {_said(error)}") from error
        except errors.BaseError as error:
            status = _status(error)
            if _NEVER_SENT.search(str(error)):
                raise StoreUnavailable(f"{where}: the store is not reached: {_said(error)}") from error
            if status is not None and status < 500 and status not in (408, 429):
                raise StoreRefused(f"{where}: the store takes no such request: {_said(error)}") from error
            # Of 503s only the store's own: proxies say so too where a connection broke after the request was sent.
            if status == 429 or (status == 503 and "SlowDown" in str(error)):
                raise StoreUnavailable(f"{where}: the store asks for patience: {_said(error)}") from error
            raise Unsure(f"{where}: no clear answer: {_said(error)}") from error


def library(module: str) -> Any:
    """A module of obstore. Raises Invalid that names the extra where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise Invalid(
            "buckets are read by obstore, which is not installed: install sheaf[store] "
            "(pip install '.[store]' in Sheaf's folder)"
        ) from error


def check_endpoint(endpoint: str) -> str:
    """The address of a server, if it may be asked: by TLS, or on this machine. Raises Invalid.

    >>> check_endpoint("http://127.0.0.1:9000"), check_endpoint("https://storage.example")
    ('http://127.0.0.1:9000', 'https://storage.example')
    >>> check_endpoint("http://storage.example")
    Traceback (most recent call last):
    app.errors.Invalid: the endpoint 'http://storage.example' is neither https nor on this machine: keys and ...
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"the endpoint {endpoint!r} is no address such as https://storage.example:9000")
    if parts.scheme == "http" and not _here(endpoint):
        raise Invalid(
            f"the endpoint {endpoint!r} is neither https nor on this machine: keys and documents would be readable on "
            "their way; use https, or a proxy on this machine"
        )
    return endpoint


def _here(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return None if found is None else int(found[1])


def _said(error: Exception) -> str:
    """In one line, without the library's own view of itself."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:300]
