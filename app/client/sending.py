"""Requests as values, and how often they are sent: the same for both clients, which do no more than send and sleep.

An operation is a generator: it yields a ``Request``, which is answered by a ``Response`` or by the exception of a
connection, or seconds to sleep, which are answered by None; its value is the operation's. So retries, pages and the
following of tasks are written once.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from uuid import uuid4

from app.client.documents import Json
from app.client.failures import no_answer, refusal
from app.compute.pauses import retry_after
from app.errors import EncoderUnavailable, Invalid, Problem, SheafError, SystemFault, TooOften, Unavailable

T = TypeVar("T")
LONGEST_S: Final = 60.0
"""Of a wait that a server asks for; a longer one is not waited for."""


def as_json(body: Any, line: int | None = None) -> bytes:
    """line: of a body of lines. Raises Invalid for NaN and infinity, with their place.

    >>> as_json({"grades": [1.5, {"a": float("nan")}]})
    Traceback (most recent call last):
    app.errors.Invalid: /grades/1/a: expected a finite number, got nan, which is not JSON compliant
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        if (found := _endless(body)) is None:
            raise
        problem = Problem(found[0], f"expected a finite number, got {found[1]}, which is not JSON compliant", line)
        raise Invalid(f"{problem.place}: {problem.message}", [problem]) from error


def _endless(body: Any) -> tuple[str, float] | None:
    """The pointer to the first number that is none, or has no end."""
    if isinstance(body, float):
        return None if math.isfinite(body) else ("", body)
    entries = body.items() if isinstance(body, Mapping) else enumerate(body) if isinstance(body, list | tuple) else ()
    for key, value in entries:
        if (found := _endless(value)) is not None:
            return f"/{str(key).replace('~', '~0').replace('/', '~1')}{found[0]}", found[1]
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """path: quoted, from the first slash. body: JSON, or bytes of another content type. again: whether
    it may be sent a second time, because it changes nothing, or the server applies it once."""

    method: str
    path: str
    body: Any = None
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = True
    media: str = "application/json"

    @property
    def content(self) -> bytes | None:
        """Raises Invalid for NaN and infinity, which JSON does not have."""
        if isinstance(self.body, bytes):
            return self.body
        return None if self.body is None else as_json(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    content: bytes


Steps: TypeAlias = Generator[Request | float, Response | Exception | None, T]


@dataclass(frozen=True, slots=True)
class Retries:
    """tries: of a request, the first included. first_s: the bound of the first pause, which doubles with each; a pause
    is anything below it, so that clients do not come back together. The server's ``Retry-After`` is waited for instead.
    loading_s: how long an encoder that is being loaded or converted is waited for."""

    tries: int = 4
    first_s: float = 0.25
    longest_s: float = 10.0
    loading_s: float = 300.0

    def pause(self, error: SheafError, tried: int, since: float) -> float | None:
        """Seconds before the next try; None where the error stands. since: of ``time.monotonic()``, the first try."""
        if not isinstance(error, TooOften | Unavailable | EncoderUnavailable | SystemFault):
            return None
        loading = error.code == "encoder_loading"
        if time.monotonic() - since > self.loading_s if loading else tried >= self.tries:
            return None
        asked = retry_after(error.headers.get("Retry-After"))
        if asked is not None:
            return asked if asked <= LONGEST_S else None
        return random.uniform(0, min(self.longest_s, self.first_s * 2.0 ** (tried - 1)))


def write(method: str, path: str, body: Any = None, key: str | None = None, **more: Any) -> Request:
    """A request that changes something: under an Idempotency-Key, so that it is applied once however often it is
    sent. key: the caller's own, where he may send it again himself."""
    headers = {**more.pop("headers", {}), "Idempotency-Key": key or uuid4().hex}
    return Request(method, path, body, headers=headers, **more)


def asked(url: str, retries: Retries, request: Request, read: Callable[[Json], T]) -> Steps[T]:
    """Sends it, and reads its answer. Raises the server's error, Unavailable."""
    answer = yield from answered(url, retries, request)
    return read(read_json(answer))


def answered(url: str, retries: Retries, request: Request) -> Steps[Response]:
    """Sends it, again where that may help. Raises the server's error, Unavailable."""
    since, tried = time.monotonic(), 0
    while True:
        answer = yield request
        tried += 1
        assert answer is not None, "a request is answered"
        error = no_answer(url, answer) if isinstance(answer, Exception) else error_of(url, answer)
        if error is None:
            assert isinstance(answer, Response)
            return answer
        pause = retries.pause(error, tried, since) if request.again else None
        if pause is None:
            raise error
        yield pause


def error_of(url: str, answer: Response) -> SheafError | None:
    if answer.status < 400:
        return None
    body = read_json(answer)
    return refusal(url, answer.status, answer.headers, body, answer.content.decode(errors="replace"))


def read_json(answer: Response) -> Json:
    """The object that it is; empty where it is none."""
    media = answer.headers.get("content-type", "").partition(";")[0]
    if media not in ("application/json", "application/problem+json"):
        return {}
    found = json.loads(answer.content)
    return found if isinstance(found, dict) else {}
