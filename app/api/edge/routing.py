"""The routes in one list, and the parameters in their paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic_core import PydanticCustomError
from starlette.routing import Route

from app.documents import MAX_PROBLEMS, pointer, read_id
from app.errors import Invalid, NotFound, Problem
from app.store.layout import NAME


def include(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Adds the routes of each router, as they are."""
    for router in routers:
        app.router.routes += router.routes
        # Resources read by GET can be asked about by HEAD (RFC 9110, 9.1); the server leaves the body out.
        app.router.routes += [
            type(route)(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
            for route in router.routes
            if isinstance(route, APIRoute) and "GET" in (route.methods or ())
        ]


def allowed_methods(request: Request) -> list[str]:
    """The methods that some route has for this path, for ``Allow``."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or set() for route in routes if route.path_regex.match(request.scope["path"])]
    return sorted(set().union(*found))


def refuse_unknown_parameters(request: Request, dependant: Dependant) -> None:
    """Refuses a query parameter that the route does not have: a misspelt one would be ignored without a word. And one
    that is not UTF-8: it would be taken for another text, with a mark for each byte that is none."""
    known = _parameters(dependant)
    problems = [Problem(pointer([name]), "unknown parameter") for name in request.query_params if name not in known]
    if problems:
        raise Invalid(f"{problems[0].pointer}: unknown parameter", problems[:MAX_PROBLEMS])
    for pair in request.scope["query_string"].split(b"&"):
        name, _, value = pair.partition(b"=")
        decoded(value.decode("latin-1"), pointer([unquote_to_bytes(name).decode(errors="replace")]))


def _parameters(asked: Dependant) -> set[str]:
    """Of the query, those of dependencies too."""
    own = {parameter.alias for parameter in asked.query_params}
    return own.union(*(_parameters(one) for one in asked.dependencies))


def decoded(value: str, at: str) -> str:
    """A part of the path or of the query, percent-decoded once. Raises Invalid where that is not UTF-8."""
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise Invalid.at(at, "expected percent-encoded UTF-8") from None


def collection_name(name: str) -> str:
    """The name in a path. Raises as ``require_name``."""
    found = decoded(name, "/name")
    require_name(found)
    return found


def require_name(name: str) -> None:
    """An invalid name is a collection that is not there; it never reaches the disk. Raises NotFound."""
    if not NAME.fullmatch(name):
        message = f"there is no collection {name[:100]!r}; a name matches {NAME.pattern}"
        raise NotFound(message, code="collection_not_found")


async def _name(name: Annotated[str, Path(description="The collection's name.", examples=["papers"])]) -> str:
    return collection_name(name)


async def _document_id(
    id: Annotated[
        str, Path(description="The document's id: all that follows, percent-decoded once.", examples=["zipfile"])
    ],
) -> str:
    try:
        return read_id(decoded(id, "/id"))
    except PydanticCustomError as fault:
        raise Invalid.at("/id", fault.message()) from None


Name: TypeAlias = Annotated[str, Depends(_name)]
DocumentId: TypeAlias = Annotated[str, Depends(_document_id)]
