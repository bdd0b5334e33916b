"""The schema of a collection over HTTP: declared, changed, held, and carried along."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from running import Running

from app.client import Sheaf

DOCUMENTS = [
    {"id": "vienna", "text": "a city",
     "metadata": {"on": "2024-05-01T00:30:00+02:00", "at": {"lat": 48.2, "lon": 16.4}}},
    {"id": "fiji", "text": "islands", "metadata": {"on": "2024-05-01", "at": {"lat": -17.7, "lon": 178}}},
    {"id": "odd", "text": "nowhere",
     "metadata": {"on": "some day", "at": None, "$x y": {'q"': [1, 1.0, 10**40, None]}}},
]  # fmt: skip
BEFORE_MAY: dict[str, Any] = {"filter": {"on": {"lt": "2024-05-01"}}}
NEAR_SUVA: dict[str, Any] = {"filter": {"at": {"geo_distance": {"lat": -17.7, "lon": -178, "distance_m": 500_000}}}}


def found(client: httpx.Client, address: str, **asked: Any) -> list[str]:
    answer = client.post(f"{address}/search", json=asked)
    assert answer.status_code == 200, answer.text
    return sorted(hit["id"] for hit in answer.json()["hits"])


def test_a_schema_comes_and_goes(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    assert client.get(address).json()["schema"] == {}
    assert client.post(f"{address}/documents", json={"documents": DOCUMENTS}).status_code == 200
    # As strings: by code point.
    assert found(client, address, **BEFORE_MAY) == []
    changed = client.patch(address, json={"schema": {"on": "date", "at": "geo"}})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["schema"], changed.json()["unfit"]) == ({"on": "date", "at": "geo"}, {"on": 1, "at": 0})
    assert client.get(address).json() == changed.json()
    assert found(client, address, **BEFORE_MAY) == ["vienna"]
    assert found(client, address, **NEAR_SUVA) == ["fiji"]
    assert found(client, address, query="city", **BEFORE_MAY) == ["vienna"]
    assert client.get(f"{address}/documents/odd").json()["metadata"] == DOCUMENTS[2]["metadata"]
    refused = client.put(f"{address}/documents/new", json={"text": "x", "metadata": {"on": ["2024-05-01", "?"]}})
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/metadata/on/1"]
    refused = client.patch(f"{address}/documents/fiji", json={"metadata": {"at": {"lat": 91}}})
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/metadata/at"]
    assert client.patch(address, json={"schema": {"at": None}}).json()["schema"] == {"on": "date"}
    assert client.patch(address, json={"schema": None}).json()["schema"] == {}
    assert found(client, address, **BEFORE_MAY) == []


def test_the_fields_that_there_are_are_told(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    assert client.get(f"{address}/fields").json() == {"fields": []}
    assert client.post(f"{address}/documents", json={"documents": DOCUMENTS}).status_code == 200
    assert client.patch(address, json={"schema": {"on": "date"}}).status_code == 200
    told = {one["name"]: (one["shapes"], one["type"]) for one in client.get(f"{address}/fields").json()["fields"]}
    assert told == {
        "on": (["string"], "date"),
        "at": (["null", "object"], None),
        "at.lat": (["number"], None),
        "at.lon": (["number"], None),
        '"$x y"': (["object"], None),
        '"$x y"."q\\""': (["null", "numbers"], None),
    }
    # Each is a name that a search takes.
    for name in told:
        asked = {"facets": {name: {"terms": 1}}, "sort": [{name: "asc"}], "filter": {name: {"exists": True}}}
        assert client.post(f"{address}/search", json=asked).json()["total"]["count"] > 0
    assert client.get("/v1/collections/none/fields").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/schema"),
        ({"schema": {"a": "text"}}, "/schema/a"),
        ({"schema": {"a b": "date"}}, "/schema/a b"),
        ({"schema": []}, "/schema"),
        ({"name": "x", "schema": {}}, "/name"),
    ],
)
def test_faults_of_a_schema(client: httpx.Client, collection: str, body: Any, pointer: str) -> None:
    answer = client.patch(collection, json=body)
    assert answer.status_code == 422, answer.text
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert client.patch("/v1/collections/never", json={"schema": {}}).status_code == 404


def test_it_survives_a_restart_and_travels_in_snapshots(serve: Callable[..., Running]) -> None:
    first = serve()
    with Sheaf(first.url) as sheaf:
        places = sheaf.create("places", model="words", schema={"on": "date", "at": "geo", '"$x y"."q\\""': "number"})
        places.write(DOCUMENTS[:2])
        assert places.declare({"on": None})["schema"] == {"at": "geo", '"$x y"."q\\""': "number"}
        places.write(DOCUMENTS[2:])
        assert places.declare({"on": "date"})["unfit"]["on"] == 1
        task = sheaf.follow(places.snapshot())
        archive = httpx.get(f"{first.url}/v1/collections/places/snapshots/{task.id}").content
    before = httpx.get(f"{first.url}/v1/collections/places").json()
    first.stop()
    with httpx.Client(base_url=serve().url, trust_env=False, timeout=60) as client:
        kept = client.put(
            "/v1/collections/copy/restore", content=archive, headers={"Content-Type": "application/x-tar"}
        )
        assert kept.status_code == 201, kept.text
        for name in ("places", "copy"):
            address = f"/v1/collections/{name}"
            described = client.get(address).json()
            assert [described[key] for key in ("schema", "unfit")] == [before[key] for key in ("schema", "unfit")]
            assert found(client, address, **BEFORE_MAY) == ["vienna"]
            assert found(client, address, **NEAR_SUVA) == ["fiji"]
            assert found(client, address, filter={'"$x y"."q\\""': 10**40}) == ["odd"]
            read = client.get(f"{address}/documents/odd").json()["metadata"]
            assert json.dumps(read) == json.dumps(DOCUMENTS[2]["metadata"])
            refused = client.put(f"{address}/documents/new", json={"text": "x", "metadata": {"on": 7}})
            assert refused.status_code == 422
