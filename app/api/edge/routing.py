"""The routes in one list, found once a request, and the parameters in their paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic_core import PydanticCustomError
from starlette.convertors import StringConvertor
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.documents import MAX_PROBLEMS
from app.errors import Invalid, NotFound, Problem
from app.schema.faults import pointer
from app.schema.ids import read_id
from app.store.layout import NAME

FOUND: Final = "sheaf.route"
"""In a request's scope: the route that ``Table.find`` found for it, and what that adds to the scope."""


class Table:
    """The routes by method, number of segments and last segment, so that a request is matched against one or two of
    them instead of all."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._by_shape: defaultdict[tuple[str, int, str | None], list[tuple[int, Route]]] = defaultdict(list)
        self._long: defaultdict[str, list[tuple[int, Route]]] = defaultdict(list)
        """By method: those with a parameter that may hold slashes."""
        for i, route in enumerate(routes):
            if not isinstance(route, Route):
                raise TypeError(f"expected routes with a path and methods, got {route!r}")
            segments = route.path_format.split("/")
            last = None if "{" in segments[-1] else segments[-1]
            long = any(type(one) is not StringConvertor for one in route.param_convertors.values())
            for method in route.methods or ():
                chosen = self._long[method] if long else self._by_shape[method, len(segments), last]
                chosen.append((i, route))

    def find(self, scope: Scope) -> tuple[Route, Scope] | None:
        """The first route that has path and method, as the router finds it, and what it adds to the scope."""
        method, segments = scope["method"], scope["path"].split("/")
        shapes = (method, len(segments), segments[-1]), (method, len(segments), None)
        fitting = [one for shape in shapes for one in self._by_shape.get(shape, ())]
        for _, route in sorted([*fitting, *self._long.get(method, ())], key=lambda one: one[0]):
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route, child
        return None


def handled_by_found(router: APIRouter) -> ASGIApp:
    """The router, which matches no route again where one was found already."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        found: tuple[Route, Scope] | None = scope.get(FOUND)
        if found is None:
            await router.app(scope, receive, send)
            return
        route, child = found
        scope.setdefault("router", router)
        scope.update(child)
        await route.handle(scope, receive, send)

    return handle


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
    app.router.middleware_stack = handled_by_found(app.router)  # type: ignore[assignment]


def allowed_methods(request: Request) -> list[str]:
    """The methods that some route has for this path, for ``Allow``."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or set() for route in routes if route.path_regex.match(request.scope["path"])]
    return sorted(set().union(*found))


def refuse_unknown_parameters(request: Request, dependant: Dependant) -> None:
    """Refuses a query parameter that the route does not have: a misspelt one would be ignored without a word. And one
    that is not UTF-8: it would be taken for another text, with a mark for each byte that is none."""
    if not request.scope["query_string"]:
        return
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
