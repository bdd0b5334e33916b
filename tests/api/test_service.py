"""The service behind the routes: readiness, and damage that a request meets."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.service import Lanes, Service
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import Damaged, NotFound
from app.main import create_app
from app.settings import Settings


def get(app: ASGIApp, path: str, method: str = "GET") -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.request(method, path)

    return anyio.run(run)


def test_before_the_start_it_lives_and_is_not_ready() -> None:
    app = create_app(Settings())
    assert get(app, "/health/live").status_code == 200
    for path in ("/health/ready", "/v1/collections"):
        answer = get(app, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_no_bytes_are_told_for_a_body_that_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings())
    with caplog.at_level(logging.INFO, "app.api.edge.frame"):
        body = get(app, "/health/live").content
        get(app, "/health/live", "HEAD")
    told = [record.__dict__["fields"] for record in caplog.records if record.name == "app.api.edge.frame"]
    assert [(one["method"], one["bytes_out"]) for one in told] == [("GET", len(body)), ("HEAD", 0)]


def test_it_is_ready_while_the_collections_are_open(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path)
    with Catalogue(tmp_path, Encoders({}), settings) as catalogue:
        app = create_app(settings)

        async def serving(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"service": Service(settings, catalogue, Lanes(settings))}
            await app(scope, receive, send)

        assert get(serving, "/health/ready").status_code == 503
        catalogue.serve("http://localhost")
        assert get(serving, "/health/ready").status_code == 200
        catalogue.close()
        assert get(serving, "/health/ready").status_code == 503


def test_damage_that_a_request_meets_takes_the_collection_out_of_service(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path)

    def damaged(collection: Collection) -> None:
        raise Damaged("a block is not what was written")

    def refused(collection: Collection) -> None:
        raise NotFound("no such document")

    with Catalogue(tmp_path, Encoders({}), settings) as catalogue:
        service = Service(settings, catalogue, Lanes(settings))
        for name in ("bad", "good"):
            catalogue.create(name, model=None, kind="dense", dim=2)
        with pytest.raises(NotFound):
            service.on("good", refused)
        with pytest.raises(Damaged):
            service.on("bad", damaged)
        assert catalogue.quarantined() == {"bad": "a block is not what was written"}
        assert service.on("good", lambda collection: collection.name) == "good"
        with pytest.raises(Damaged):
            service.on("bad", lambda collection: collection.name)
