"""Reading bodies: content type, size, time, and the strict schema; nothing is guessed.

FastAPI's own reading takes any size, parses on the event loop and lets NaN through, so it is not used: a route takes
``Annotated[Model, Depends(json_body(Model))]`` and says the same in its OpenAPI entry (``app.api.edge.openapi.takes``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import anyio
from fastapi import Request
from pydantic import ValidationError

from app.api.edge.problems import Other
from app.api.service import Service, Serving, run
from app.documents import Strict, invalid
from app.errors import TooLarge, UnsupportedMediaType
from app.settings import Limits

JSON: Final = ("application/json",)
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
TAR: Final = ("application/x-tar",)
SLOWEST: Final = 1_000
"""Bytes that a body brings at least in each ``body_timeout_s``, or ends."""
_INLINE: Final = 524_288
"""Bytes up to which a body is parsed on the event loop: two milliseconds. Parsing holds the interpreter's lock, so in
another thread it would keep the loop waiting as long."""

Body = TypeVar("Body", bound=Strict)


def require_type(request: Request, accepted: tuple[str, ...]) -> None:
    """Refuses another content type, charset or content coding. Raises UnsupportedMediaType."""
    given = request.headers.get("content-type", "")
    media, *parameters = (part.strip() for part in given.lower().split(";"))
    charset = next((p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")), "utf-8")
    if media not in accepted or charset != "utf-8":
        raise UnsupportedMediaType(
            f"expected the content type {' or '.join(accepted)} in UTF-8, got {given[:200] or 'none'!r}"
        )
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMediaType(f"expected a body without content coding, got {coding[:100]!r}")


async def pieces(request: Request, limit: int, patience_s: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooLarge above ``limit`` bytes: at once where Content-Length says so.

    A body of which fewer than 1,000 bytes come in ``patience_s`` of waiting for it ends in 408, so that one byte a
    second holds nothing for long; a client that goes away ends in starlette's ClientDisconnect.
    """
    too_large = TooLarge(f"the body has more than {limit:,} bytes, the limit of this server")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    stream, size = request.stream(), 0
    left, fresh = patience_s, 0
    while True:
        asked = time.monotonic()
        try:
            with anyio.fail_after(left):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Other(408, "request_timeout", f"{fresh:,} bytes came in {patience_s:g} s") from None
        # Only waiting for the client counts, not what became of the piece before.
        left -= time.monotonic() - asked
        size, fresh = size + len(piece), fresh + len(piece)
        if fresh >= SLOWEST:
            left, fresh = patience_s, 0
        if size > limit:
            raise too_large
        yield piece


def json_body(model: type[Body]) -> Callable[[Request, Service], AsyncIterator[Body]]:
    """A dependency that reads the body as ``model``."""

    async def read(request: Request, service: Serving) -> AsyncIterator[Body]:
        require_type(request, JSON)
        settings = service.settings
        # Held until the answer: what was read lives as long, as the objects that were made of it.
        with service.lanes.bodies.share() as take:
            content = bytearray()
            async for piece in pieces(request, settings.max_body_bytes, settings.body_timeout_s):
                take(len(piece))
                content += piece
            if "idempotency-key" in request.headers:
                request.state.body_digest = await run(service.lanes.parse, _digest, content)
            if len(content) <= _INLINE:
                yield _parse(model, content, settings.limits)
            else:
                yield await run(service.lanes.parse, _parse, model, content, settings.limits)

    return read


def body_digest(request: Request) -> bytes:
    """SHA-256 of the body that ``json_body`` has read, of a request with an Idempotency-Key; empty without a body."""
    found: bytes = getattr(request.state, "body_digest", b"")
    return found


def _digest(content: bytearray) -> bytes:
    return hashlib.sha256(content).digest()


def _parse(model: type[Body], content: bytearray, limits: Limits) -> Body:
    try:
        return model.model_validate_json(content, context=limits)
    except ValidationError as error:
        raise invalid(error, model) from None
