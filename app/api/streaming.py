"""Answers without an end in sight, made piece by piece as the client takes them.

A fault after the first byte can have no status any more. It ends the connection without the end of the body, which
every client reports (chunked transfer coding, RFC 9112, 8), so that a part never looks like the whole.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.edge.frame import request_id
from app.errors import SheafError

log = logging.getLogger(__name__)


class Streamed(StreamingResponse):
    """``first``, and what ``following`` gives until it gives nothing; it is asked when the client has room for more."""

    def __init__(
        self,
        first: bytes,
        following: Callable[[], Awaitable[bytes]],
        close: Callable[[], Awaitable[None]],
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        """close: called once at the end, also where the client goes away."""
        super().__init__(_pieces(first, following), headers=headers, media_type=media_type)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._head, self._request = scope["method"] == "HEAD", request_id(scope)
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    async def stream_response(self, send: Send) -> None:
        # The server adds it where there is a body; HEAD has the headers of GET.
        framing = [(b"transfer-encoding", b"chunked")] if self._head else []
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": [*self.raw_headers, *framing]}
        )
        if not self._head:
            try:
                async for piece in self.body_iterator:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except (SheafError, OSError, sqlite3.Error) as error:
                log.error("%s was cut short: %s", self._request, error)
                return  # without the end of the body: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(first: bytes, following: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await following()
