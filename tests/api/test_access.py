"""Keys: what each may do, what is said to one that may not, and that nothing of a body is read before."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app.api.edge.access import ACCESS, OPEN, rule_of
from app.client import Sheaf
from app.errors import KeyRefused
from app.keys import ApiKey, hash_of, make_key
from app.main import create_app
from app.settings import DeterministicModel, Settings

KEYS = {name: make_key() for name in ("reader", "writer", "both", "boss", "narrow", "narrow-boss")}
ENTRIES: dict[str, dict[str, Any]] = {
    "reader": {"scopes": ["read"]},
    "writer": {"scopes": ["write"]},
    "both": {"scopes": ["read", "write"]},
    "boss": {"scopes": ["admin"]},
    "narrow": {"scopes": ["read", "write"], "collections": ["mine", "also-mine"]},
    "narrow-boss": {"scopes": ["admin"], "collections": ["mine", "new"]},
}
MAY = {"reader": {"read"}, "writer": {"write"}, "both": {"read", "write"}, "boss": {"read", "write", "admin"}}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Any]) -> Iterator[Any]:
    """A server with keys: half of them from its environment, half from a file."""
    folder = tmp_path_factory.mktemp("guarded")
    entries = [{"name": name, "sha256": hash_of(KEYS[name]), **entry} for name, entry in ENTRIES.items()]
    (folder / "keys.json").write_text(json.dumps(entries[3:]))
    server = running(
        Settings(
            indexes=folder / "indexes",
            models={"words": DeterministicModel(type="deterministic", dim=16)},
            keys=tuple(ApiKey.model_validate(entry) for entry in entries[:3]),
            keys_file=folder / "keys.json",
            max_body_bytes=10_000,
        )
    )
    for name in ("mine", "also-mine", "other"):
        body = {"name": name, "encoder": {"model": "words"}}
        assert ask(server, "POST", "/v1/collections", "boss", json=body).status_code == 201
        put = ask(server, "PUT", f"/v1/collections/{name}/documents/a", "boss", json={"text": f"of {name}"})
        assert put.status_code == 201
    yield server
    server.stop()


def ask(server: Any, method: str, path: str, key: str | None = None, **request: Any) -> httpx.Response:
    headers = {**request.pop("headers", {}), **({"Authorization": f"Bearer {KEYS[key]}"} if key else {})}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        return client.request(method, path, headers=headers, **request)


def routes() -> list[tuple[str, str, str]]:
    """(method, template, a path that it has) of every route of the API."""
    found = []
    for route in create_app(Settings()).routes:
        if isinstance(route, APIRoute):
            path = route.path_format.replace("{name}", "mine").replace("{id}", "absent")
            found += [(method, route.path_format, path) for method in sorted(route.methods)]
    return found


BY_BODY = [one for one in routes() if one[0] != "HEAD"]
BY_HEAD = [path for method, _, path in routes() if method == "HEAD"]


@pytest.mark.parametrize(
    ("key", "scopes", "collections"),
    [
        ("reader", ["read"], None),
        ("writer", ["write"], None),
        ("boss", ["read", "write", "admin"], None),
        ("narrow", ["read", "write"], ["mine", "also-mine"]),
    ],
)
def test_a_caller_is_told_what_its_key_may_do(
    guarded: Any, key: str, scopes: list[str], collections: list[str] | None
) -> None:
    told = ask(guarded, "GET", "/v1/info", key).json()["caller"]
    assert told == {"scopes": scopes, "collections": collections}


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    files = {route.path for route in create_app(Settings()).routes if getattr(route.endpoint, "serves_file", 0)}
    assert {"/", "/app.js", "/docs/swagger-ui-bundle.js"} <= files
    found = {(method, template) for method, template, _ in routes() if template not in files}
    # HEAD has the rule of its GET, and no row.
    assert set(ACCESS) == {(method, template) for method, template in found if method != "HEAD"}
    assert {("GET", template) for method, template in found if method == "HEAD"} <= set(ACCESS)


def test_what_is_open_is_little() -> None:
    assert {path for (_, path), rule in ACCESS.items() if rule is OPEN} == {
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/docs",
    }
    changing = {
        path for (method, path), rule in ACCESS.items() if method in ("PUT", "PATCH", "DELETE") and rule is OPEN
    }
    assert not changing


def test_a_route_that_nobody_listed_needs_an_unlimited_admin() -> None:
    route = APIRoute("/v1/new", lambda: None)
    assert rule_of(route, "GET").scopes == ("admin",)
    assert rule_of(route, "GET").limited == "refused"


@pytest.mark.parametrize("path", BY_HEAD)
def test_head_is_get_without_a_body(guarded: Any, path: str) -> None:
    """To each key, and to who has none: no more is told, and no less."""
    for key in (None, "reader", "writer", "boss", "narrow"):
        by_get, by_head = ask(guarded, "GET", path, key), ask(guarded, "HEAD", path, key)
        assert by_head.status_code == by_get.status_code
        assert by_head.content == b""
        assert by_head.headers.keys() == by_get.headers.keys()
        assert by_head.headers["content-type"] == by_get.headers["content-type"]


def test_every_get_has_its_head() -> None:
    gets = [path for method, _, path in routes() if method == "GET"]
    assert sorted(gets) == sorted(BY_HEAD)
    assert len(gets) > 12


@pytest.mark.parametrize(("method", "template", "path"), BY_BODY, ids=[f"{m} {t}" for m, t, _ in BY_BODY])
def test_every_route_asks_for_its_scope(guarded: Any, method: str, template: str, path: str) -> None:
    """With a content type that no route takes: what passes the guard then ends in 404, 415, or a harmless 200."""
    rule = rule_of(APIRoute(template, lambda: None), method)
    if template.startswith("/docs/") or not rule.scopes:
        assert ask(guarded, method, path).status_code == 200
        return
    body = {} if method in ("GET", "DELETE") else {"content": b"x", "headers": {"Content-Type": "image/png"}}
    bare = ask(guarded, method, path, **body)
    assert (bare.status_code, bare.json()["code"]) == (401, "key_required")
    assert bare.headers["www-authenticate"] == 'Bearer realm="sheaf"'
    for key, may in MAY.items():
        if method == "DELETE" and template.endswith("{name}") and key == "boss":
            continue
        allowed = any(scope in may for scope in rule.scopes)
        answer = ask(guarded, method, path, key, **body)
        if allowed:
            assert answer.status_code in (200, 202, 404, 415), answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
            assert "insufficient_scope" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {make_key()}"},
        {"Authorization": f"Basic {KEYS['boss']}"},
        {"Authorization": KEYS["boss"]},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEYS['boss'][:-1]}"},
        {"Authorization": f"Bearer {hash_of(KEYS['boss'])}"},
        {"X-API-Key": ""},
        {"X-API-Key": KEYS["boss"].upper()},
        {"X-API-Key": KEYS["boss"], "Authorization": f"Bearer {KEYS['boss']}"},
        {"X-API-Key": "\xff"},
    ],
)
def test_what_is_no_key(guarded: Any, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = ask(guarded, "GET", "/v1/collections", headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert KEYS["boss"] not in answer.text
    # Whether the server lives is told whatever comes along.
    assert ask(guarded, "GET", "/health/live", headers=raw).status_code == 200


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-API-Key", "x-api-key"])
def test_both_headers_carry_a_key(guarded: Any, name: str) -> None:
    value = f"bearer  {KEYS['reader']}" if name.lower() == "authorization" else KEYS["reader"]
    assert ask(guarded, "GET", "/v1/collections", headers={name: value}).status_code == 200


def test_a_key_in_the_url_is_none(guarded: Any) -> None:
    for parameter in ("key", "api_key", "access_token", "x-api-key"):
        answer = ask(guarded, "GET", f"/v1/collections?{parameter}={KEYS['boss']}")
        assert answer.status_code == 401
        assert KEYS["boss"] not in answer.text


def test_it_is_refused_before_the_body_comes(guarded: Any) -> None:
    """The head alone is sent, and promises a body: who waited for it would not answer."""
    for path, extra in (("/v1/collections/mine/documents", ""), ("/v1/collections/mine/import", "")):
        with socket.create_connection(("127.0.0.1", guarded.port), 30) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
            assert connection.recv(2_000).startswith(b"HTTP/1.1 401 ")


def test_a_key_without_the_scope_changes_nothing(guarded: Any) -> None:
    path = "/v1/collections/other/documents"
    assert ask(guarded, "POST", path, "reader", json={"documents": [{"id": "x", "text": "x"}]}).status_code == 403
    assert ask(guarded, "DELETE", "/v1/collections/other", "both").status_code == 403
    assert ask(guarded, "GET", f"{path}/x", "boss").status_code == 404
    assert ask(guarded, "GET", f"{path}/a", "boss").status_code == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("mine", 200),
        ("also-mine", 200),
        ("%6dine", 200),
        ("other", 403),
        ("absent", 403),
        ("mine%2F..%2Fother", 403),
        ("%2e%2e", 403),
        ("MINE", 403),
        ("mine%00", 403),
        ("%ff", 403),
    ],
)
def test_a_key_for_some_collections(guarded: Any, name: str, status: int) -> None:
    for method, rest in (("GET", ""), ("GET", "/documents"), ("POST", "/count")):
        request = {"json": {}} if method == "POST" else {}
        answer = ask(guarded, method, f"/v1/collections/{name}{rest}", "narrow", **request)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["code"] == "collection_not_allowed"


def test_what_a_limited_key_sees_of_the_whole(guarded: Any) -> None:
    def names(key: str) -> set[str]:
        return {one["name"] for one in ask(guarded, "GET", "/v1/collections", key).json()["collections"]}

    assert names("reader") >= {"mine", "also-mine", "other"}
    assert names("narrow") == {"mine", "also-mine"}
    lines = b'{"id": "b", "text": "b"}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    tasks = {}
    for name in ("mine", "other"):
        path = f"/v1/collections/{name}/import"
        tasks[name] = ask(guarded, "POST", path, "writer", content=lines, headers=headers).json()["id"]
    assert ask(guarded, "POST", "/v1/collections/other/import", "narrow", content=lines).status_code == 403
    assert {one["collection"] for one in ask(guarded, "GET", "/v1/tasks", "narrow").json()["tasks"]} == {"mine"}
    assert ask(guarded, "GET", f"/v1/tasks/{tasks['mine']}", "narrow").status_code == 200
    hidden = ask(guarded, "GET", f"/v1/tasks/{tasks['other']}", "narrow")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "task_not_found")
    assert ask(guarded, "POST", f"/v1/tasks/{tasks['other']}/cancel", "narrow-boss").status_code == 404
    assert ask(guarded, "POST", f"/v1/tasks/{tasks['mine']}/cancel", "narrow-boss").status_code in (200, 409)


@pytest.mark.slow
def test_a_key_for_an_alias_sees_what_it_reaches(running: Callable[[Settings], Any], tmp_path: Any) -> None:
    """By that name: the collection's own it may not use."""
    entries = [
        ApiKey(name="boss", sha256=hash_of(KEYS["boss"]), scopes=("admin",)),
        ApiKey(name="narrow", sha256=hash_of(KEYS["narrow"]), scopes=("read", "write"), collections=("live", "free")),
    ]
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path, models=models, keys=tuple(entries))).opened()
    try:
        for name in ("one", "two"):
            body = {"name": name, "encoder": {"model": "words"}}
            assert ask(server, "POST", "/v1/collections", "boss", json=body).status_code == 201
        for alias, name in (("live", "one"), ("other", "one"), ("third", "two")):
            assert ask(server, "PUT", f"/v1/aliases/{alias}", "boss", json={"collection": name}).status_code == 201
        assert ask(server, "POST", "/v1/collections/live/search", "narrow", json={"query": "a"}).status_code == 200
        assert ask(server, "GET", "/v1/collections/one", "narrow").status_code == 403

        def seen() -> tuple[set[str], set[str]]:
            names = {one["name"] for one in ask(server, "GET", "/v1/collections", "narrow").json()["collections"]}
            aliases = {one["alias"] for one in ask(server, "GET", "/v1/aliases", "narrow").json()["aliases"]}
            return names, aliases

        assert seen() == ({"live"}, {"live"})
        assert ask(server, "GET", "/v1/aliases/live", "narrow").json() == {"alias": "live", "collection": "one"}
        assert ask(server, "GET", "/v1/aliases/third", "narrow").status_code == 404
        lines = {"content": b'{"id": "b", "text": "b"}\n', "headers": {"Content-Type": "application/x-ndjson"}}
        mine = ask(server, "POST", "/v1/collections/live/import", "narrow", **lines).headers["location"]
        hidden = ask(server, "POST", "/v1/collections/two/import", "boss", **lines).headers["location"]
        assert ask(server, "GET", mine, "narrow").status_code == 200
        assert ask(server, "GET", hidden, "narrow").status_code == 404
        assert {one["collection"] for one in ask(server, "GET", "/v1/tasks", "narrow").json()["tasks"]} == {"one"}
        # Its view goes with the alias.
        assert ask(server, "PUT", "/v1/aliases/live", "boss", json={"collection": "two"}).status_code == 200
        assert ask(server, "GET", mine, "narrow").status_code == 404
        assert ask(server, "GET", hidden, "narrow").status_code == 200
        assert ask(server, "DELETE", "/v1/aliases/live", "boss").status_code == 204
        assert seen() == (set(), set())
    finally:
        server.stop()


def test_a_limited_admin_makes_and_deletes_what_is_its_own(guarded: Any) -> None:
    def create(name: str) -> httpx.Response:
        return ask(
            guarded, "POST", "/v1/collections", "narrow-boss", json={"name": name, "encoder": {"model": "words"}}
        )

    assert create("new").status_code == 201
    refused = create("not-its-own")
    assert (refused.status_code, refused.json()["code"]) == (403, "collection_not_allowed")
    assert ask(guarded, "DELETE", "/v1/collections/new", "narrow-boss").status_code == 204
    assert ask(guarded, "DELETE", "/v1/collections/other", "narrow-boss").status_code == 403


def test_readiness_names_no_collection_to_who_has_no_key(guarded: Any) -> None:
    assert ask(guarded, "GET", "/health/ready").json() == {"status": "ready"}
    told = ask(guarded, "GET", "/health/ready", "reader").json()
    assert (set(told), told["quarantined"]) == ({"status", "encoders", "quarantined"}, [])


def test_an_unknown_path_is_not_found_without_a_key(guarded: Any) -> None:
    assert ask(guarded, "GET", "/v1/nothing").status_code == 404
    assert ask(guarded, "PUT", "/v1/collections").status_code == 405


def test_too_many_a_second_are_told_to_wait(running: Callable[[Settings], Any], tmp_path: Any) -> None:
    entries = tuple(ApiKey(name=name, sha256=hash_of(KEYS[name]), scopes=("read",)) for name in ("reader", "boss"))
    server = running(Settings(indexes=tmp_path, keys=entries, rate=0.01)).opened()
    try:
        assert ask(server, "GET", "/v1/collections", "reader").status_code == 200
        refused = ask(server, "GET", "/v1/collections", "reader")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_often")
        assert 90 <= int(refused.headers["retry-after"]) <= 100
        # The other key has a rate of its own, and a probe none.
        assert ask(server, "GET", "/v1/collections", "boss").status_code == 200
        assert all(ask(server, "GET", "/health/live").status_code == 200 for _ in range(3))
    finally:
        server.stop()


def test_a_command_without_a_key_is_told_where_to_put_one(guarded: Any) -> None:
    with Sheaf(guarded.url) as sheaf, pytest.raises(KeyRefused, match="SHEAF_API_KEY"):
        sheaf.collection("c").describe()


def test_the_schema_says_which_key(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            asked = {scope for one in operation["security"] for scopes in one.values() for scope in scopes}
            assert asked == set(ACCESS[method.upper(), path].scopes), (method, path)


def test_an_evaluation_that_is_a_task_is_asked_by_a_key_that_may_write(guarded: Any) -> None:
    """A task is written into the collection, and takes the turn of its snapshots."""
    body = {"queries": [{"id": "q", "query": "of", "grades": {"a": 1}}], "measures": ["P@1"]}
    path = "/v1/collections/mine/evaluate"
    assert ask(guarded, "POST", path, "reader", json=body).status_code == 200
    refused = ask(guarded, "POST", path, "reader", json={**body, "background": True})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert "at most 500 searches" in refused.json()["detail"]
    settings = [{"name": str(i)} for i in range(16)]
    many = {"queries": [{"id": str(i), "query": "of", "grades": {}} for i in range(32)], "settings": settings}
    assert ask(guarded, "POST", path, "reader", json=many).status_code == 403
    assert ask(guarded, "POST", path, "both", json={**body, "background": True}).status_code == 202


def test_an_evaluation_of_two_collections_needs_a_key_for_both(guarded: Any) -> None:
    def body(other: str) -> dict[str, Any]:
        settings = [{"name": "here"}, {"name": "there", "collection": other}]
        return {"queries": [{"id": "q", "query": "of", "grades": {"a": 1}}], "settings": settings, "measures": ["P@1"]}

    path = "/v1/collections/mine/evaluate"
    assert ask(guarded, "POST", path, "narrow", json=body("also-mine")).status_code == 200
    for name in ("other", "none"):
        for more in ({}, {"background": True}):
            refused = ask(guarded, "POST", path, "narrow", json={**body(name), **more})
            assert (refused.status_code, refused.json()["code"]) == (403, "collection_not_allowed")
    pool = "/v1/collections/mine/judgements/s/pool"
    asked = {"queries": [{"id": "q", "query": "of"}], "settings": [{"name": "there", "collection": "other"}]}
    assert ask(guarded, "POST", pool, "narrow", json=asked).status_code == 403
    accepted = ask(guarded, "POST", path, "both", json={**body("other"), "background": True})
    task = accepted.headers["location"]
    while ask(guarded, "GET", task, "both").json()["finished"] is None:
        pass
    assert ask(guarded, "GET", task, "both").json()["result"]["queries"] == 1
    # The report tells of the other collection, which this key does not reach.
    hidden = ask(guarded, "GET", task, "narrow").json()
    assert (hidden["state"], hidden["result"]) == ("succeeded", None)
    listed = {one["id"]: one for one in ask(guarded, "GET", "/v1/tasks", "narrow").json()["tasks"]}
    assert listed[hidden["id"]]["result"] is None


def test_what_people_searched_is_seen_by_who_judges_it_and_counted_by_who_runs_the_server(guarded: Any) -> None:
    asked = {"logged": 3}
    path = "/v1/collections/mine/judgements/s/pool"
    refused = ask(guarded, "POST", path, "reader", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    # Nothing is kept here.
    assert ask(guarded, "POST", path, "both", json=asked).json()["code"] == "collection_empty"
    report = "/v1/collections/mine/queries/report"
    assert ask(guarded, "GET", report, "both").status_code == 403
    assert ask(guarded, "GET", report, "boss").json()["searches"] == 0
