"""A search by a network over HTTP: there and back, and every fault at its place."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from brute_force import network_score

from app.client import Sheaf, scorer
from app.scoring.networks.network import Layer, Network
from app.types import F32

DIM = 4
VECTORS = np.random.default_rng(0).standard_normal((30, DIM)).astype(np.float32)
HIDDEN, LAST = (np.random.default_rng(1).standard_normal(shape).astype(np.float32) for shape in ((DIM, 5), (5, 1)))
BIAS = np.random.default_rng(2).standard_normal(5).astype(np.float32)
ASKED = scorer([(HIDDEN, BIAS), (LAST, None)], activation="tanh", norm="after")


@pytest.fixture(scope="module")
def address(client: httpx.Client) -> str:
    body = {"name": "networks", "encoder": {"model": None, "kind": "dense", "dim": DIM}, "similarity": "inner_product"}
    assert client.post("/v1/collections", json=body).status_code == 201
    address = "/v1/collections/networks"
    documents = [{"id": f"d{i}", "vector": one.tolist(), "metadata": {"n": i}} for i, one in enumerate(VECTORS)]
    for start in (0, 15):
        written = client.post(f"{address}/documents", json={"documents": documents[start : start + 15]})
        assert written.status_code == 200
    return address


def expected() -> list[str]:
    network = Network((Layer(HIDDEN, BIAS), Layer(LAST)), "tanh", norm="after")
    scores = [network_score(network, vector) for vector in VECTORS]
    return [f"d{i}" for i in np.argsort(-np.array(scores), kind="stable")]


def test_every_way_to_search_takes_it(client: httpx.Client, address: str) -> None:
    body: dict[str, Any] = {"scorer": ASKED, "k": 5, "include": ["metadata"]}
    answer = client.post(f"{address}/search", json={**body, "exact": True, "explain": True}).json()
    assert [hit["id"] for hit in answer["hits"]] == expected()[:5]
    assert (answer["mode"], answer["exact"], answer["total"]["count"]) == ("semantic", True, 30)
    hit = answer["hits"][0]
    assert [share["product"] for share in hit["explanation"]["shares"]] == [hit["score"]]
    page = client.post(f"{address}/search", json={**body, "offset": 3, "k": 4}).json()
    assert [hit["id"] for hit in page["hits"]] == expected()[3:7]
    narrow = client.post(f"{address}/search", json={**body, "filter": {"n": {"lt": 9}}, "k": 20}).json()
    assert [hit["id"] for hit in narrow["hits"]] == [one for one in expected() if int(one[1:]) < 9]
    batch = client.post(f"{address}/search/batch", json={"searches": [body, {"vector": VECTORS[0].tolist()}]}).json()
    assert [hit["id"] for hit in batch["results"][0]["hits"]] == expected()[:5]
    several = client.post("/v1/search", json={**body, "collections": ["networks"]}).json()
    assert [hit["id"] for hit in several["hits"]] == expected()[:5]
    assert several["merge"] == "score"
    recall = client.post(f"{address}/recall", json={"queries": [{"scorer": ASKED}], "k": 5}).json()
    assert (recall["recall"], recall["queries"]) == (1.0, 1)
    with Sheaf(str(client.base_url)) as sheaf:
        found = sheaf.collection("networks").search(scorer=ASKED, k=3)
    assert [hit.id for hit in found] == expected()[:3]


def packed(array: F32, shape: list[int]) -> dict[str, Any]:
    return {"base64": base64.b64encode(array.tobytes()).decode(), "dtype": "float32", "shape": shape}


def changed(layer: int, **fields: Any) -> dict[str, Any]:
    layers = [dict(one) for one in ASKED["layers"]]
    layers[layer] |= fields
    return {"scorer": {**ASKED, "layers": layers}}


ONE = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({"scorer": {}}, "/scorer/layers", "required"),
        ({"scorer": {"layers": []}}, "/scorer/layers", "at least 1"),
        ({"scorer": {"layers": [{"weights": [[1.0]]}] * 17}}, "/scorer/layers", "at most 16"),
        ({"scorer": {**ASKED, "activation": "swish"}}, "/scorer/activation", "relu"),
        ({"scorer": {**ASKED, "norm": True}}, "/scorer/norm", "before"),
        ({"scorer": {**ASKED, "layer": 1}}, "/scorer/layer", "unknown"),
        (changed(0, weights=None), "/scorer/layers/0/weights", "list of vectors"),
        (changed(0, weights=[[1.0], [1.0, 2.0]]), "/scorer/layers/0/weights/1", "1 numbers"),
        (changed(0, weights=packed(ONE, [2, 2])), "/scorer/layers/0/weights/base64", "16 bytes, got 4"),
        (changed(0, weights=packed(ONE * np.float32(np.inf), [1, 1])), "/scorer/layers/0/weights/base64", "finite"),
        (changed(0, weights=HIDDEN[:3].tolist()), "/scorer/layers/0/weights", "expected 4 rows"),
        (changed(0, bias=[1.0]), "/scorer/layers/0/bias", "expected 5 numbers"),
        (changed(1, weights=LAST[:4].tolist()), "/scorer/layers/1/weights", "expected 5 rows"),
        (changed(1, weights=HIDDEN.T.tolist()), "/scorer/layers/1/weights", "1 column"),
        ({"scorer": {**ASKED, "residual": "all"}}, "/scorer/layers/0/weights", "4 inputs to its 5 outputs"),
        ({"scorer": ASKED, "vector": VECTORS[0].tolist()}, "/scorer", "by a scorer, or by vector"),
        ({"scorer": ASKED, "query": "a"}, "/scorer", "by a scorer, or by query"),
        ({"scorer": ASKED, "like": {"positive": ["d1"]}}, "/scorer", "by a scorer, or by like"),
        ({"scorer": ASKED, "mode": "hybrid"}, "/mode", "not of a hybrid one"),
        ({"scorer": ASKED, "mode": "browse"}, "/mode", "browse"),
        ({"scorer": ASKED, "relevance": True}, "/relevance", "not of a scorer's"),
    ],
)
def test_a_fault_is_told_at_its_place(
    client: httpx.Client, address: str, body: dict[str, Any], pointer: str, said: str
) -> None:
    answer = client.post(f"{address}/search", json=body)
    assert answer.status_code == 422, answer.text
    fault = answer.json()["errors"][0]
    assert fault["pointer"] == pointer
    assert said in fault["message"]
    second = client.post(f"{address}/search/batch", json={"searches": [{"k": 1, "filter": {"n": {"eq": 1}}}, body]})
    assert second.json()["errors"][0]["pointer"] == f"/searches/1{pointer}"


def test_a_graph_is_a_task_and_part_of_what_is_described(
    client: httpx.Client, address: str, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    accepted = client.post(f"{address}/neighbours", json={"links": 8})
    assert accepted.status_code == 202
    task = finished(accepted.headers["location"])
    assert (task["state"], task["kind"]) == ("succeeded", "neighbours")
    described = client.get(address).json()
    # So few are sooner scored than walked along.
    assert described["first_stage"]["neighbours"] == {"links": 8, "passages": 0}
    assert described["tail"] == 0
    hits = client.post(f"{address}/search", json={"scorer": ASKED, "k": 5}).json()["hits"]
    assert [hit["id"] for hit in hits] == expected()[:5]
    with Sheaf(str(client.base_url)) as sheaf:
        sheaf.follow(sheaf.collection("networks").link_neighbours(0))
    assert "neighbours" not in client.get(address).json()["first_stage"]
    for body, said in (({"links": 3}, "expected 0, or 4 to 128"), ({"links": 129}, "128"), ({"links": "8"}, "integer")):
        refused = client.post(f"{address}/neighbours", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/links")
        assert said in refused.json()["errors"][0]["message"]
    other = client.post(f"{create()}/neighbours", json={})
    assert (other.status_code, other.json()["code"]) == (409, "not_dense")


def test_a_multi_vector_collection_takes_none(client: httpx.Client, create: Callable[..., str]) -> None:
    answer = client.post(f"{create()}/search", json={"scorer": ASKED})
    assert answer.status_code == 422
    fault = answer.json()["errors"][0]
    assert fault["pointer"] == "/scorer"
    assert "multi_vector" in fault["message"]
