"""Connections: no more than the operator allows, and none that holds a place without asking for anything.

uvicorn bounds the pause between two requests, but neither the time that a head takes nor its size: without a key a
client could fill the memory with one. The part of an answer that a client does not read is bounded by the kernel
(TCP_USER_TIMEOUT), a body that is read in ``app.api.edge.bodies``, the rest of one that was answered early by the proxy
that others reach the server through (docs/security.md).
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.edge.problems import MEDIA_TYPE
from app.settings import Settings
from app.store.system import NEEDED, open_files_allowed

MAX_HEAD_BYTES: Final = 65_536
UNREAD_S: Final = 30
"""An answer of which the client takes nothing for so long is given up."""


def patient(settings: Settings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the operator's bounds, by the events of asyncio and of httptools alone."""
    open: set[asyncio.Protocol] = set()

    class Patient(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._own, self._head_bytes = transport, 0
            self._timer = asyncio.get_running_loop().call_later(settings.head_timeout_s, transport.close)
            open.add(self)
            # The system gives the lowest number that is free, so that this one tells how many are left.
            number = transport.get_extra_info("socket").fileno()
            if len(open) > settings.max_connections or number >= open_files_allowed() - NEEDED:
                self._refuse(503, "overloaded", "the server has all the connections that it may have", "retry-after: 1")

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            open.discard(self)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._timer.cancelled():
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    said = f"expected at most {MAX_HEAD_BYTES:,} bytes before a body: the path, its query, headers"
                    self._refuse(431, "head_too_large", said)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._timer.cancel()
            self._head_bytes = 0
            self._timer = asyncio.get_running_loop().call_later(settings.head_timeout_s, self._own.close)

        def on_headers_complete(self) -> None:
            self._timer.cancel()
            super().on_headers_complete()

        def _refuse(self, status: int, code: str, detail: str, *headers: str) -> None:
            """Answers before there is a request to answer."""
            self._timer.cancel()
            if not self._own.is_closing():
                told = {
                    "type": f"urn:sheaf:problem:{code}",
                    "title": code.replace("_", " ").capitalize(),
                    "status": status,
                    "detail": detail,
                    "code": code,
                    "request_id": uuid4().hex,
                }
                body = json.dumps(told).encode()
                head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *headers, f"content-type: {MEDIA_TYPE}"]
                head += [f"content-length: {len(body)}", "connection: close", "", ""]
                self._own.write("\r\n".join(head).encode() + body)
                self._own.close()

    return Patient


def give_up_unread(listener: socket.socket) -> None:
    """Of the connections that it accepts, which have its options."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
