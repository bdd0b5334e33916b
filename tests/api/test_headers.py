"""The headers of every answer for a browser, and which pages of other origins may read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.api.routes.pages import FOLDER
from app.keys import ApiKey, hash_of
from app.settings import DeterministicModel, Settings

ORIGIN = "https://app.example"


def cross(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/collections", 200),
        ("GET", "/health/live", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/collections", 415),
        ("PUT", "/v1/collections", 405),
        ("GET", "/v1/collections/absent", 404),
    ],
)
def test_every_answer_is_confined(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"


def test_an_unexpected_error_is_confined_too(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.catalogue.catalogue import Catalogue

    def broken(self: Catalogue) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Catalogue, "describe_all", broken)
    answer = client.get("/v1/collections")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/docs", "/docs/start.js", "/docs/swagger-ui.css"])
def test_a_page_runs_no_script_but_its_files(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    scripts = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert scripts in ([], ["script-src 'self'"])
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for name in ("x-content-type-options", "x-frame-options", "referrer-policy", "cross-origin-resource-policy"):
        assert name in answer.headers
    # Each header once: twice, they would be joined.
    assert [answer.headers[name].count(",") for name in ("content-security-policy", "cache-control")] == [0, 0]


def test_no_page_has_a_script_of_its_own() -> None:
    for page in (FOLDER / "index.html", FOLDER.parent / "docs" / "index.html"):
        text = page.read_text()
        assert text.count("<script") == text.count("<script src=") + text.count('<script type="module" src=')
        assert " style=" not in text
        assert " on" not in "".join(part.split(">")[0] for part in text.split("<")[1:]).replace(" one", "")


@pytest.mark.parametrize("origin", [ORIGIN, "null", "http://localhost:3000", "https://evil.example"])
def test_no_other_origin_is_told_of_by_default(client: httpx.Client, origin: str) -> None:
    assert cross(client.get("/v1/collections", headers={"Origin": origin}).headers) == {}
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = client.options("/v1/collections", headers=asked)
    assert preflight.status_code == 405
    assert cross(preflight.headers) == {}


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Any]) -> Iterator[str]:
    key = ApiKey(name="a", sha256=hash_of("a-key"), scopes=("admin",))
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    folder = tmp_path_factory.mktemp("crossing")
    server = running(Settings(indexes=folder, models=models, keys=(key,), cors_origins=(ORIGIN,))).opened()
    yield server.url
    server.stop()


def test_a_listed_origin_may_ask_before_it_has_a_key(crossing: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Sec-Fetch-Site": "cross-site",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "x-api-key, content-type",
    }
    answer = httpx.options(f"{crossing}/v1/collections/c", headers=asked, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_listed_origin_reads_answers_and_refusals(crossing: str) -> None:
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "X-API-Key": "a-key"}
    body = {"name": "c", "encoder": {"model": "words"}}
    made = httpx.post(f"{crossing}/v1/collections", json=body, headers=headers, trust_env=False)
    assert made.status_code == 201
    refused = httpx.get(f"{crossing}/v1/collections", headers={"Origin": ORIGIN}, trust_env=False)
    assert refused.status_code == 401
    for answer in (made, refused):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [f"{ORIGIN}.evil", f"{ORIGIN}:8000", "http://app.example", "null", ORIGIN.upper()])
def test_an_origin_is_listed_as_it_is_written(crossing: str, origin: str) -> None:
    headers = {"Origin": origin, "X-API-Key": "a-key"}
    assert cross(httpx.get(f"{crossing}/v1/collections", headers=headers, trust_env=False).headers) == {}
    writing = {**headers, "Sec-Fetch-Site": "cross-site"}
    refused = httpx.post(f"{crossing}/v1/collections", json={}, headers=writing, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (400, "host_refused")


@pytest.mark.parametrize("origin", ["*", "app.example", "https://app.example/", "https://*.example", "null", ""])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=(origin,))
