"""The frame of every request: its id, its undecoded path, and one line in the log; observers are told of it.

The path is routed as it was sent, percent signs and all, so that an encoded slash in a document's id never looks like
a slash of the route; each parameter is decoded once, where it is read. The log line names the route's template,
never the path, so that no content of a request is logged.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.observe.served import Observer, Served

_SANE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
log = logging.getLogger(__name__)

Gate = Callable[[Scope], ASGIApp | None]
"""Looks at a request before anything else; what it returns answers in the application's place."""


CONFINING: Final = (
    (b"x-content-type-options", b"nosniff"),
    # An answer is data: shown by itself it loads nothing, runs nothing, and stands in no frame.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Documents of others, perhaps asked for with a key: no cache keeps them.
    (b"cache-control", b"no-store"),
)
"""Headers of every answer that does not have them already, as the files of the pages do."""


def request_id(scope: Scope) -> str:
    """The id of this request: the caller's ``X-Request-Id`` where it is sane, else one made here."""
    found: str = scope["state"]["request_id"]
    return found


class Frame:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, gate: Gate, observers: Sequence[Observer] = ()) -> None:
        self.app = app
        self.gate = gate
        self.observers = (_log, *observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, started, status, taken, given = time.time_ns(), time.perf_counter(), 500, 0, 0
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        id = asked if _SANE.fullmatch(asked) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = id
        raw = scope.get("raw_path") or quote(scope["path"]).encode()
        scope["path"] = raw.decode("latin-1")

        async def take() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        async def respond(message: Message) -> None:
            nonlocal status, given
            if message["type"] == "http.response.start":
                status = message["status"]
                own = list(message.get("headers", []))
                names = {name.lower() for name, _ in own}
                confining = [(name, value) for name, value in CONFINING if name not in names]
                message = {**message, "headers": [*own, (b"x-request-id", id.encode()), *confining]}
            if scope["method"] != "HEAD":
                given += len(message.get("body", b""))
            await send(message)

        try:
            await (self.gate(scope) or self.app)(scope, take, respond)
        finally:
            served = Served(
                id,
                scope["method"],
                getattr(scope.get("route"), "path_format", "-"),
                status,
                began,
                (time.perf_counter() - started) * 1_000,
                taken,
                given,
                state.get("stages", {}),
                headers.get("traceparent", ""),
                state.get("partial", 0),
            )
            for observer in self.observers:
                observer(served)


def _log(served: Served) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    stages = "".join(f" {name.removesuffix('_ms')} {ms:.1f}" for name, ms in served.stages.items())
    fields = {
        "request_id": served.id,
        "method": served.method,
        "route": served.route,
        "status": served.status,
        "took_ms": round(served.took_ms, 3),
        "bytes_in": served.bytes_in,
        "bytes_out": served.bytes_out,
        **({"stages": {name: round(ms, 3) for name, ms in served.stages.items()}} if served.stages else {}),
        **({"partial": served.partial} if served.partial else {}),
    }
    log.info(
        "%s %s %s %d %.1f ms%s, %d bytes in, %d out",
        served.id,
        served.method,
        served.route,
        served.status,
        served.took_ms,
        f"{f' ({stages.strip()})' if stages else ''}{f', {served.partial} partial' if served.partial else ''}",
        served.bytes_in,
        served.bytes_out,
        extra={"fields": fields},
    )
