"""Every error as problem details (RFC 9457): one shape, made in one place.

``code`` is the stable name of the error, ``type`` the same as a URI, ``title`` the same in words; ``detail`` is for
people and may change. ``errors`` lists faults in the request with JSON pointers (RFC 6901) into the body; a path or
query parameter is pointed at by its name, as in ``/limit``. An unexpected exception is logged with its traceback and
answered without any of it.

On the paths that other vendors' clients ask, the same body also has what those show: OpenAI's reads ``error.message``
and nothing else, Cohere's ``message``. RFC 9457 (3.2) allows such members beside its own.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from app.api.edge.frame import CONFINING, request_id
from app.api.edge.routing import allowed_methods
from app.errors import Invalid, NotFound, NotReady, Problem, RequestError, SheafError, StoreError
from app.schema.faults import plain, pointer
from app.store.system import of_the_disk, system_fault

MEDIA_TYPE: Final = "application/problem+json"
log = logging.getLogger(__name__)


class Fault(BaseModel):
    """One fault: where (JSON pointer into the body, or the name of a parameter) and what."""

    pointer: str = Field(examples=["/documents/0/metadata/year"])
    message: str


class ProblemAnswer(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(examples=["urn:sheaf:problem:collection_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["collection_not_found"])
    """The stable name of the error."""
    request_id: str
    errors: list[Fault] | None = None


class Other(SheafError):
    """Refusals of the HTTP layer itself: a method, a slow body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.status = status


OF_OPENAI: Final = frozenset({"/v1/embeddings", "/v1/models"})
OF_COHERE: Final = frozenset({"/v1/rerank", "/v2/rerank"})


def problem(error: SheafError, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error that Sheaf raised."""
    content: dict[str, Any] = {
        "type": f"urn:sheaf:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id(scope),
    }
    if isinstance(error, Invalid):
        content["errors"] = [
            {"pointer": p.pointer, "message": p.message} | ({} if p.line is None else {"line": p.line})
            for p in error.problems
        ]
    path = scope.get("path")
    if path in OF_OPENAI:
        content["error"] = _openai(error)
    elif path in OF_COHERE:
        content["message"] = error.message
    # json, with its ASCII output, writes any string there is, a lone surrogate too.
    return Response(json.dumps(content), error.status, {**error.headers, **(headers or {})}, MEDIA_TYPE)


def _openai(error: SheafError) -> dict[str, str | None]:
    """As OpenAI's API has it. param: the field that is at fault, `input[3]` for ``/input/3``."""
    place = error.problems[0].pointer if isinstance(error, Invalid) and error.problems else ""
    field, *inside = place.removeprefix("/").split("/")
    param = field + "".join(f"[{part}]" for part in inside)
    kind = "invalid_request_error" if isinstance(error, RequestError) else "server_error"
    return {"message": error.message, "type": kind, "param": param or None, "code": error.code}


def install(app: FastAPI) -> None:
    """Makes ``app`` answer every error with problem details."""
    app.add_exception_handler(SheafError, _on_sheaf_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_parameters)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(OSError, _on_system_error)
    app.add_exception_handler(sqlite3.Error, _on_system_error)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_sheaf_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SheafError)
    if not isinstance(error, RequestError | NotReady):
        # A remote encoder's answer may repeat what it was sent.
        said = error.message if isinstance(error, StoreError) or log.isEnabledFor(logging.DEBUG) else "see its answer"
        log.error("%s %s: %s", request_id(request.scope), error.code, said)
    # The rest of a body that was given up is not waited for.
    headers = {"Connection": "close"} if error.status == HTTPStatus.REQUEST_TIMEOUT else None
    return problem(error, request.scope, headers)


async def _on_system_error(request: Request, error: Exception) -> Response:
    """A refusal of the system where nothing else could tell what it means."""
    if isinstance(error, OSError | sqlite3.Error) and of_the_disk(error):
        return await _on_sheaf_error(request, system_fault(error))
    raise error


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The router's errors: an unknown path, or a known one with another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(NotFound("no route has this path; /docs lists them"), request.scope)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request))
        said = Other(405, "method_not_allowed", f"expected {allowed}, got {request.method}")
        return problem(said, request.scope, {"Allow": allowed})
    phrase = HTTPStatus(error.status_code).phrase
    return problem(Other(error.status_code, phrase.lower().replace(" ", "_"), str(error.detail)), request.scope)


async def _on_parameters(request: Request, error: Exception) -> Response:
    """Path and query parameters; bodies are read elsewhere."""
    assert isinstance(error, RequestValidationError)
    problems = [Problem(pointer(fault["loc"][1:]), plain(fault)) for fault in error.errors()]
    message = f"{problems[0].pointer}: {problems[0].message}"
    return problem(Invalid(message, problems), request.scope)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the access log does


async def _on_unexpected(request: Request, error: Exception) -> Response:
    id = request_id(request.scope)
    log.error("%s failed unexpectedly", id, exc_info=error)
    message = f"an unexpected error; the server's log tells more under request id {id}"
    # Made outside the frame, which sets these elsewhere; and the server ends a connection that failed.
    confining = {name.decode(): value.decode() for name, value in CONFINING}
    headers = {**confining, "X-Request-Id": id, "Connection": "close"}
    return problem(SheafError(message), request.scope, headers)
