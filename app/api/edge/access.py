"""Which key a route needs: one table, asked before anything of a body is read.

Every route has a row in ``ACCESS`` (a test holds it); one without a row would need an unlimited admin key. A key that
is limited to collections is held to the name in the path here, which is compared as the route will decode it. Where
no name is in the path, the row says what becomes of such a key: ``handler`` routes look at ``caller`` themselves and
show only what it reaches, all others refuse it.

A path that no route has needs no key: the router answers 404. The pages and the description of the API hold no data
and are open; so is whether the server lives and is ready, without the names of collections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from fastapi import Depends, FastAPI, Request
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.edge.problems import problem
from app.api.edge.rates import Rates
from app.api.edge.routing import FOUND, Table
from app.errors import KeyRefused, NotAllowed, SheafError, TooOften
from app.keys import ANYONE, ApiKey, Keyring
from app.keys import Scope as KeyScope

Limited: TypeAlias = Literal["path", "handler", "refused"]


@dataclass(frozen=True, slots=True)
class Rule:
    """scopes: any one of them is enough; of none, the route is open. limited: keys that are limited to collections."""

    scopes: tuple[KeyScope, ...]
    limited: Limited = "path"


OPEN: Final = Rule((), "handler")
READ: Final = Rule(("read",))
WRITE: Final = Rule(("write",))
ADMIN: Final = Rule(("admin",))
UNLISTED: Final = Rule(("admin",), "refused")
"""For a route that somebody forgot to list."""

_IN: Final = "/v1/collections/{name}"
ACCESS: Final[dict[tuple[str, str], Rule]] = {
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/docs"): OPEN,
    # It names every collection.
    ("GET", "/metrics"): Rule(("read", "admin"), "refused"),
    ("GET", "/v1/info"): Rule(("read", "write"), "handler"),
    # What they compute is of no collection.
    ("GET", "/v1/models"): Rule(("read",), "handler"),
    ("POST", "/v1/embeddings"): Rule(("read",), "handler"),
    ("POST", "/v1/rerank"): Rule(("read",), "handler"),
    ("POST", "/v2/rerank"): Rule(("read",), "handler"),
    ("GET", "/v1/collections"): Rule(("read",), "handler"),
    ("POST", "/v1/collections"): Rule(("admin",), "handler"),
    ("GET", _IN): READ,
    ("PATCH", _IN): ADMIN,
    ("DELETE", _IN): ADMIN,
    ("POST", f"{_IN}/documents"): WRITE,
    ("GET", f"{_IN}/documents"): READ,
    ("POST", f"{_IN}/documents/get"): READ,
    ("GET", f"{_IN}/documents/{{id}}"): READ,
    ("PUT", f"{_IN}/documents/{{id}}"): WRITE,
    ("PATCH", f"{_IN}/documents/{{id}}"): WRITE,
    ("DELETE", f"{_IN}/documents/{{id}}"): WRITE,
    ("POST", f"{_IN}/import"): WRITE,
    ("GET", f"{_IN}/export"): READ,
    ("POST", f"{_IN}/delete"): WRITE,
    ("POST", f"{_IN}/count"): READ,
    ("GET", f"{_IN}/fields"): READ,
    ("GET", f"{_IN}/history"): READ,
    ("POST", f"{_IN}/search"): READ,
    ("POST", f"{_IN}/search/batch"): READ,
    ("POST", f"{_IN}/search/vectors"): READ,
    ("POST", "/v1/search"): Rule(("read",), "handler"),
    ("POST", "/v1/search/batch"): Rule(("read",), "handler"),
    ("POST", f"{_IN}/recall"): READ,
    ("POST", f"{_IN}/evaluate"): READ,
    ("GET", f"{_IN}/judgements"): READ,
    ("GET", f"{_IN}/judgements/{{judgements}}"): READ,
    ("PUT", f"{_IN}/judgements/{{judgements}}"): WRITE,
    ("DELETE", f"{_IN}/judgements/{{judgements}}"): WRITE,
    ("POST", f"{_IN}/judgements/{{judgements}}/grades"): WRITE,
    ("POST", f"{_IN}/judgements/{{judgements}}/pool"): READ,
    ("PUT", f"{_IN}/relevance"): WRITE,
    ("GET", f"{_IN}/relevance"): READ,
    ("DELETE", f"{_IN}/relevance"): WRITE,
    ("GET", f"{_IN}/map"): READ,
    ("GET", f"{_IN}/queries"): READ,
    # What people searched is theirs.
    ("GET", f"{_IN}/queries/report"): ADMIN,
    ("DELETE", f"{_IN}/queries"): ADMIN,
    ("POST", f"{_IN}/rebuild"): ADMIN,
    ("POST", f"{_IN}/tune"): ADMIN,
    ("POST", f"{_IN}/neighbours"): ADMIN,
    ("POST", f"{_IN}/snapshots"): ADMIN,
    ("GET", f"{_IN}/snapshots"): ADMIN,
    ("GET", f"{_IN}/snapshots/{{id}}"): ADMIN,
    ("DELETE", f"{_IN}/snapshots/{{id}}"): ADMIN,
    ("POST", f"{_IN}/restore"): ADMIN,
    ("PUT", f"{_IN}/restore"): ADMIN,
    ("GET", "/v1/aliases"): Rule(("read",), "handler"),
    ("GET", "/v1/aliases/{alias}"): Rule(("read",), "handler"),
    ("PUT", "/v1/aliases/{alias}"): Rule(("admin",), "handler"),
    ("DELETE", "/v1/aliases/{alias}"): Rule(("admin",), "handler"),
    ("GET", "/v1/tasks"): Rule(("read", "write"), "handler"),
    ("GET", "/v1/tasks/{id}"): Rule(("read", "write"), "handler"),
    ("POST", "/v1/tasks/{id}/cancel"): Rule(("admin",), "handler"),
}
"""(method, path) -> what it needs. The files of the pages are open too: see ``rule_of``."""


def rule_of(route: Route, method: str) -> Rule:
    """The scope that a route needs. HEAD is a GET whose answer has no body."""
    path = getattr(route, "path_format", route.path)
    listed = ACCESS.get(("GET" if method == "HEAD" else method, path))
    if listed is None and getattr(route.endpoint, "serves_file", False):
        return OPEN
    return listed or UNLISTED


class Access:
    """ASGI middleware: answers 401, 403 or 429 in the application's place, or notes the caller and goes on."""

    def __init__(self, app: ASGIApp, service: FastAPI, keyring: Keyring, rates: Rates) -> None:
        """service: the application whose routes are asked for."""
        self.app, self.keyring, self.rates = app, keyring, rates
        self.table = Table(service.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except SheafError as error:
                answer = problem(error, scope, _headers(error))
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Raises KeyRefused, NotAllowed or TooOften."""
        scope[FOUND] = found = self.table.find(scope)
        rule = OPEN if found is None else rule_of(found[0], scope["method"])
        scope["state"]["caller"] = key = self._key(scope, required=bool(rule.scopes))
        if not rule.scopes:
            return
        if key is None:
            raise KeyRefused("this server asks for a key, as Authorization: Bearer or X-API-Key", code="key_required")
        wait = self.rates.take(key.name)
        if wait is not None:
            raise TooOften(f"the key {key.name} asks more often than {self.rates.per_s:g} times a second", wait)
        if not any(key.may(one) for one in rule.scopes):
            expected = " or ".join(rule.scopes)
            raise NotAllowed(f"the key {key.name} has not the scope {expected}", scope=" ".join(rule.scopes))
        if key.collections is None or rule.limited == "handler":
            return
        name = found[1]["path_params"].get("name") if found is not None and rule.limited == "path" else None
        if name is None:
            raise NotAllowed(f"the key {key.name} is limited to collections", code="collection_not_allowed")
        require(key, unquote_to_bytes(name.encode("latin-1")).decode(errors="replace"))

    def _key(self, scope: Scope, required: bool) -> ApiKey | None:
        """Raises KeyRefused for a key that is none, where one is required."""
        if not len(self.keyring):
            return ANYONE
        try:
            presented = _presented(Headers(scope=scope))
            found = None if presented is None else self.keyring.find(presented)
            if presented is not None and found is None:
                raise KeyRefused("the key is none that this server knows")
        except KeyRefused:
            if required:
                raise
            return None
        return found


def _presented(headers: Headers) -> str | None:
    """The key that a request carries. Raises KeyRefused for several, or for another scheme than Bearer."""
    bearers, plain = headers.getlist("authorization"), headers.getlist("x-api-key")
    if len(bearers) + len(plain) > 1:
        raise KeyRefused("expected one key, in one header")
    if plain:
        return plain[0].strip()
    if not bearers:
        return None
    scheme, _, value = bearers[0].strip().partition(" ")
    if scheme.lower() != "bearer":
        raise KeyRefused("expected the scheme Bearer")
    return value.strip()


def _headers(error: SheafError) -> dict[str, str]:
    """``WWW-Authenticate`` as RFC 6750, section 3, has it; ``Retry-After`` in whole seconds."""
    if isinstance(error, KeyRefused):
        detail = "" if error.code == "key_required" else ', error="invalid_token"'
        return {"WWW-Authenticate": f'Bearer realm="sheaf"{detail}'}
    if isinstance(error, NotAllowed):
        wanted = f', scope="{error.scope}"' if error.scope else ""
        return {"WWW-Authenticate": f'Bearer realm="sheaf", error="insufficient_scope"{wanted}'}
    return {}


def require(key: ApiKey, collection: str) -> None:
    """Raises NotAllowed where the key does not reach the collection; whether there is one is not told."""
    if not key.reaches(collection):
        message = f"the key {key.name} is not for the collection {collection[:100]!r}"
        raise NotAllowed(message, code="collection_not_allowed")


def reached(key: ApiKey, aliases: Mapping[str, str]) -> Callable[[str], bool]:
    """Whether the key reaches a collection, by its name or by an alias. aliases: alias -> collection."""
    by_alias = {collection for alias, collection in aliases.items() if key.reaches(alias)}
    return lambda collection: key.reaches(collection) or collection in by_alias


async def _caller(request: Request) -> ApiKey | None:
    caller: ApiKey | None = request.scope["state"]["caller"]
    return caller


async def _known_caller(request: Request) -> ApiKey:
    caller = await _caller(request)
    assert caller is not None, "the route is open"
    return caller


MaybeCaller: TypeAlias = Annotated[ApiKey | None, Depends(_caller)]
"""The caller of an open route: None without a key, on a server that has some."""
Caller: TypeAlias = Annotated[ApiKey, Depends(_known_caller)]
"""The caller."""
