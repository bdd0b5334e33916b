"""The map of a collection, over HTTP."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest

C = "/v1/collections/mapped"


def test_documents_are_points(client: httpx.Client) -> None:
    body = {"name": "mapped", "encoder": {"kind": "dense", "dim": 2, "model": None}, "similarity": "inner_product"}
    assert client.post("/v1/collections", json=body).status_code == 201
    empty = client.get(f"{C}/map").json()
    assert empty == {"ids": [], "titles": [], "x": "", "y": "", "variance": [0, 0], "generation": 0, "of": 0}
    places = [[3, 0], [-3, 0], [0, 1], [0, -1]]
    documents = [{"id": f"d{i}", "title": "é" * 90, "text": "", "vector": own} for i, own in enumerate(places)]
    assert client.post(f"{C}/documents", json={"documents": documents}).status_code == 200
    found = client.get(f"{C}/map", params={"points": 4}).json()
    assert (found["ids"], found["titles"], found["of"]) == (["d0", "d1", "d2", "d3"], ["é" * 80] * 4, 4)
    x, y = (np.frombuffer(base64.b64decode(found[axis]), "<f4") for axis in "xy")
    np.testing.assert_allclose(np.stack([x, y], 1), np.array(places) / 3, atol=1e-6)
    assert found["variance"] == pytest.approx([0.9, 0.1])
    assert client.get(f"{C}/map", params={"points": 2}).json()["ids"] == ["d0", "d2"]


@pytest.mark.parametrize("points", ["1", "20001", "-5", "many", "2.5", ""])
def test_points_that_cannot_be_are_told(client: httpx.Client, points: str) -> None:
    client.post("/v1/collections", json={"name": "any-map", "encoder": {"model": "words"}})
    answer = client.get("/v1/collections/any-map/map", params={"points": points})
    assert answer.status_code == 422
    assert "points" in answer.json()["errors"][0]["pointer"]
    assert client.get("/v1/collections/absent-map/map").status_code == 404
