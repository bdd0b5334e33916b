"""Pages of other origins: none may read what is answered here, but those that the operator has listed.

A listed origin is handed to Starlette's middleware, which answers preflights before a key is asked for (they never
carry one). Credentials are not allowed: a key is a header that the page sets itself, so nothing that a browser adds by
itself (cookies) ever counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_SENT: Final = ("Authorization", "X-API-Key", "Content-Type", "X-Request-Id", "If-Match", "Idempotency-Key")
_READ: Final = ("X-Request-Id", "Location", "ETag", "Retry-After", "WWW-Authenticate")


class Cors:
    """ASGI middleware. An origin that is not listed is answered as if nothing were known of other origins."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app, self.origins = app, frozenset(origins)
        self.listed = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_SENT,
            expose_headers=_READ,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listed = scope["type"] == "http" and Headers(scope=scope).get("origin") in self.origins
        await (self.listed if listed else self.app)(scope, receive, send)
