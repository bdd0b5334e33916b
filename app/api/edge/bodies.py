"""Reading bodies: content type, size, time, and the strict schema; nothing is guessed."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, get_type_hints

from fastapi import Body, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import WrapValidator
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.api.edge.problems import Other
from app.api.edge.routing import collection_name, refuse_unknown_parameters
from app.api.service import Service, run, serving
from app.documents import Strict
from app.errors import TooLarge, UnsupportedMediaType

JSON: Final = ("application/json",)
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
PARQUET: Final = "application/vnd.apache.parquet"
TAR: Final = ("application/x-tar",)
SLOWEST: Final = 1_000
"""Bytes that a body brings at least in each ``body_timeout_s``, or ends."""
_INLINE: Final = 524_288
"""Bytes up to which a body is parsed on the event loop: two milliseconds. Parsing holds the interpreter's lock, so in
another thread it would keep the loop waiting as long."""


def require_type(request: Request, accepted: tuple[str, ...]) -> str:
    """The content type. Refuses another one, another charset or content coding. Raises UnsupportedMediaType."""
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
    return media


async def pieces(request: Request, limit: int, patience_s: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooLarge above ``limit`` bytes: at once where Content-Length says so.

    A body of which fewer than 1,000 bytes come in ``patience_s`` of waiting for it ends in 408, so that one byte a
    second holds nothing for long; a client that goes away ends in starlette's ClientDisconnect.
    """
    too_large = TooLarge(f"the body has more than {limit:,} bytes, the limit of this server")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    size, more = 0, True
    left, fresh = patience_s, 0
    while more:
        asked = time.monotonic()
        try:
            # Starlette's stream would be asked once more, with another timer, for the end that the last piece tells.
            async with asyncio.timeout(left):
                message = await request.receive()
        except TimeoutError:
            raise Other(408, "request_timeout", f"{fresh:,} bytes came in {patience_s:g} s") from None
        # Only waiting for the client counts, not what became of the piece before.
        left -= time.monotonic() - asked
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        size, fresh = size + len(piece), fresh + len(piece)
        if fresh >= SLOWEST:
            left, fresh = patience_s, 0
        if size > limit:
            raise too_large
        if piece:
            yield piece


READ: Final = WrapValidator(lambda value, _: value)
"""Of a body in a route's parameters: it was validated where it was read."""


def examples(**named: Any) -> Any:
    """Of a body, by name, for the description of the API."""
    return Body(openapi_examples={name: {"value": value} for name, value in named.items()})


class Route(APIRoute):
    """FastAPI's route, which also refuses unknown parameters, and reads a JSON body by itself.

    FastAPI's own reading takes any size, parses on the event loop and lets NaN through. So a parameter ``body:
    Annotated[Model, READ, examples(...)]``, which FastAPI describes, is read here. Where the other parameters need
    none of what FastAPI does for them either (``_is_plain``), the function is called with them at once; else the body
    is handed to FastAPI as it is.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # The function's name is what clients call it, without the path and the method that FastAPI would add.
        super().__init__(path, endpoint, **{**options, "operation_id": endpoint.__name__})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        plain = _is_plain(self.dependant) and get_type_hints(self.endpoint).get("return") is Response

        async def read(request: Request) -> Response:
            refuse_unknown_parameters(request, self.dependant)
            if self.body_field is None:
                return await handle(request)
            service = await serving(request)
            if "name" in request.path_params:
                collection_name(request.path_params["name"])
            model: type[Strict] = self.body_field.field_info.annotation  # type: ignore[assignment]
            media = require_type(request, model.media)
            # Held until the answer: what was read lives as long, as the objects that were made of it.
            with service.lanes.memory.share() as take:
                body = await _read(request, service, take, model, media)
                if not plain:
                    return await handle(_Read(request, body))
                given = await _arguments(self.dependant, request, {serving: service})
                answer: Response = await self.endpoint(**given, **{self.dependant.body_params[0].name: body})
                return answer

        return read


def _is_plain(asked: Dependant) -> bool:
    """Whether the parameters are the request, texts of the path, and what coroutines make of such, besides a body."""
    others = (asked.query_params, asked.header_params, asked.cookie_params)
    special = (
        asked.response_param_name,
        asked.background_tasks_param_name,
        asked.http_connection_param_name,
        asked.websocket_param_name,
        asked.security_scopes_param_name,
    )
    texts = all(one.field_info.annotation is str and not one.field_info.metadata for one in asked.path_params)
    return (
        not any(others)
        and not any(special)
        and texts
        and inspect.iscoroutinefunction(asked.call)
        and all(_is_plain(one) for one in asked.dependencies)
    )


async def _arguments(asked: Dependant, request: Request, made: dict[Any, Any]) -> dict[str, Any]:
    """The parameters of a plain function, but its body. made: what dependencies gave already, once a request."""
    given = {one.name: request.path_params[one.alias] for one in asked.path_params}
    if asked.request_param_name is not None:
        given[asked.request_param_name] = request
    for one in asked.dependencies:
        if one.call not in made:
            assert one.call is not None
            made[one.call] = await one.call(**await _arguments(one, request, made))
        given[str(one.name)] = made[one.call]
    return given


class _Read(Request):
    """A request whose body is what was made of it."""

    def __init__(self, request: Request, made: Strict) -> None:
        # FastAPI asks for JSON where the type says so; what was read may have come as lines.
        others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
        headers = [*others, (b"content-type", JSON[0].encode())]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._made = made

    async def body(self) -> bytes:
        return b"-"

    async def json(self) -> Strict:
        return self._made


async def _read(
    request: Request, service: Service, take: Callable[[int], None], model: type[Strict], media: str
) -> Strict:
    settings, parse = service.settings, service.lanes.parse
    content = bytearray()
    async for piece in pieces(request, settings.max_body_bytes, settings.body_timeout_s):
        take(len(piece))
        content += piece
    if "idempotency-key" in request.headers:
        request.state.body_digest = await run(parse, _digest, content)
    with service.lanes.memory.share() as take_more:
        if len(content) <= _INLINE:
            take_more(_parsed_bytes(content))
            return model.of_body(content, media, settings.limits)
        needed = await run(parse, _parsed_bytes, content)
        if len(content) + needed > service.lanes.memory.most:
            raise TooLarge(
                f"to parse the body takes some {needed:,} bytes of memory, more than this server has for all bodies: "
                "send fewer documents at a time, or vectors as base64"
            )
        take_more(needed)
        return await run(parse, model.of_body, content, media, settings.limits)


def _parsed_bytes(content: bytearray) -> int:
    """At most what parsing takes, which is given back once there are arrays and strings: measured, 72 bytes a number,
    112 more a list or an object, and 32 more a string."""
    opened = content.count(b"[") + content.count(b"{")
    return 72 * content.count(b",") + 112 * opened + 16 * content.count(b'"')


def body_digest(request: Request) -> bytes:
    """SHA-256 of the JSON body that was read, of a request with an Idempotency-Key; empty without a body."""
    found: bytes = getattr(request.state, "body_digest", b"")
    return found


def _digest(content: bytearray) -> bytes:
    return hashlib.sha256(content).digest()
