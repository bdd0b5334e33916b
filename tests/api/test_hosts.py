"""The Host header: loopback and configured names, nothing else."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Scope

from app.api.edge.hosts import host_gate
from app.settings import Settings


def passes(given: str, **settings: object) -> bool:
    headers = [(b"host", given.encode())]
    scope: Scope = {"type": "http", "method": "GET", "headers": headers, "state": {"request_id": "r"}}
    return host_gate(Settings.model_validate(settings))(scope) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost.:80",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
        "search.example",
        "search.example:443",
        "192.168.1.5:8000",
    ],
)
def test_loopback_and_configured_hosts_pass(host: str) -> None:
    assert passes(host, host="192.168.1.5", hosts=["Search.example"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8000",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:evil",
        "[::1",
        "::1",
        "[::2]",
        "[localhost]",
        "0.0.0.0",
        "[::]:8000",
        "128.0.0.1",
        "127.1",
        "2130706433",
    ],
)
def test_other_hosts_do_not(host: str) -> None:
    assert not passes(host, host="0.0.0.0", hosts=["search.example"])


def test_the_refusal_is_a_problem(client: httpx.Client) -> None:
    answer = client.get("/v1/info", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "host_refused"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert client.get("/v1/info", headers={"Host": "search.example"}).status_code == 200


def test_a_page_of_another_site_may_not_write(client: httpx.Client, collection: str) -> None:
    crossing = {"Sec-Fetch-Site": "cross-site"}
    assert client.post(f"{collection}/rebuild", headers=crossing).json()["code"] == "host_refused"
    assert client.delete(collection, headers=crossing).status_code == 400
    assert client.get(collection, headers=crossing).status_code == 200
    assert client.delete(collection, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 204
