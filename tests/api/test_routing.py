"""A request's route is found once, among few, and its function is called without more than it asks for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import fastapi.routing
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match, Route

from app.api.edge.routing import Table
from app.main import create_app
from app.settings import Settings

ROUTES = create_app(Settings()).routes
TABLE = Table(ROUTES)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SEGMENTS = sorted({part for route in ROUTES if isinstance(route, Route) for part in route.path_format.split("/")})


def first_match(scope: dict[str, Any]) -> tuple[Any, Any] | None:
    """One route after another, as a router does."""
    for route in ROUTES:
        match, child = route.matches(scope)
        if match is Match.FULL:
            return route, child
    return None


def scope_of(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": []}


@pytest.mark.parametrize("method", METHODS)
def test_each_route_is_found_as_by_trying_all(method: str) -> None:
    templates = sorted({route.path_format for route in ROUTES if isinstance(route, Route)})
    given = [one.replace("{name}", name).replace("{id}", id) for one in templates for name in ("c", "") for id in "a/"]
    found = Counter()
    for path in [*templates, *given]:
        scope = scope_of(method, path)
        assert TABLE.find(scope) == first_match(scope), path
        found[TABLE.find(scope) is None] += 1
    assert found[True], "some path has no route by this method"
    assert method in ("OPTIONS", "TRACE") or found[False]


@given(st.sampled_from(METHODS), st.lists(st.sampled_from([*SEGMENTS, "c", "%2F", "a b"]), max_size=7))
def test_any_path_is_found_as_by_trying_all(method: str, segments: list[str]) -> None:
    scope = scope_of(method, "/" + "/".join(segments))
    assert TABLE.find(scope) == first_match(scope)


def test_a_search_is_matched_once_and_costs_no_machinery(
    client: httpx.Client, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched, solved = Counter[str](), Counter[str]()
    matches, solve = Route.matches, fastapi.routing.solve_dependencies

    def counted(self: Route, scope: Any) -> Any:
        matched[scope["path"]] += 1
        return matches(self, scope)

    async def noted(**given: Any) -> Any:
        solved[given["request"].scope["path"]] += 1
        return await solve(**given)

    monkeypatch.setattr(Route, "matches", counted)
    monkeypatch.setattr(fastapi.routing, "solve_dependencies", noted)
    path = f"{collection}/search"
    assert client.post(path, json={"query": "words", "k": 2}).status_code == 200
    assert (matched[path], solved[path]) == (1, 0)
    # Parameters of the query need FastAPI: so the count counts.
    listed = f"{collection}/documents"
    assert client.get(listed, params={"limit": 2}).status_code == 200
    assert (matched[listed], solved[listed]) == (1, 1)


def test_another_method_is_told_which_there_are(client: httpx.Client, collection: str) -> None:
    answer = client.put(f"{collection}/search", json={})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
