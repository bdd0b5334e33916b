"""What surrounds every request: its id, its undecoded path, and one line in the log.

The path is routed as it was sent, percent signs and all, so that an encoded slash in a document's id never looks like
a slash of the route; each parameter is decoded once, where it is read. The log line names the route's template,
never the path, so that no content of a request is logged.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
log = logging.getLogger(__name__)

Gate = Callable[[Scope], ASGIApp | None]
"""Looks at a request before anything else; what it returns answers in the application's place."""


def request_id(scope: Scope) -> str:
    """The id of this request: the caller's ``X-Request-Id`` where it is sane, else one made here."""
    found: str = scope["state"]["request_id"]
    return found


class Frame:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        given = Headers(scope=scope).get("x-request-id", "")
        id = given if _SANE.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = id
        raw = scope.get("raw_path") or quote(scope["path"]).encode()
        scope["path"] = raw.decode("latin-1")

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", id.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            await (self.gate(scope) or self.app)(scope, receive, respond)
        finally:
            route = getattr(scope.get("route"), "path_format", "-")
            took = (time.perf_counter() - started) * 1_000
            log.info("%s %s %s %d %.1f ms", id, scope["method"], route, status, took)
