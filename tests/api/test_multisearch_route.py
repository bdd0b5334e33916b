"""One search in several collections: against one collection that has all of their documents, and by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app import search as engine
from app.api.schemas.multisearch import MultiBatchAnswer, MultiSearchAnswer
from app.collection.collection import Collection
from app.encoders.together import Together
from app.errors import Damaged, TooSlow
from app.keys import ApiKey, hash_of, make_key
from app.settings import DeterministicModel, Settings
from app.types import Encoded

NAMES = ["left", "right"]


def drawn(count: int, seed: int) -> list[dict[str, Any]]:
    choose = random.Random(seed)
    found = []
    for i in range(count):
        words = choose.choices([f"word{n}" for n in range(12)], k=choose.randint(2, 6))
        metadata = {"n": choose.randint(0, 4), "kind": choose.choice("ab")} if choose.random() < 0.8 else {}
        found.append({"id": f"{choose.randint(0, 99)}-{seed}-{i}", "text": " ".join(words), "metadata": metadata})
    return found


@pytest.fixture(scope="module")
def several(client: httpx.Client) -> Iterator[dict[str, str]]:
    """The addresses of two collections, and of one with the documents of both."""
    parts = {"left": drawn(20, 1), "right": drawn(15, 2)}
    parts["both"] = parts["left"] + parts["right"]
    for name, documents in parts.items():
        assert client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}}).status_code == 201
        for start in range(0, len(documents), 20):
            body = {"documents": documents[start : start + 20]}
            assert client.post(f"/v1/collections/{name}/documents", json=body).status_code == 200
    yield {name: f"/v1/collections/{name}" for name in parts}
    for name in parts:
        client.delete(f"/v1/collections/{name}")


def ask(client: httpx.Client, body: dict[str, Any]) -> MultiSearchAnswer:
    answer = client.post("/v1/search", json={"collections": NAMES, **body})
    assert answer.status_code == 200, answer.text
    return MultiSearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")


@pytest.mark.parametrize("mode", ["semantic", "dense"])
def test_scores_of_one_encoder_are_compared(client: httpx.Client, several: dict[str, str], mode: str) -> None:
    body = {"query": "word1 word7", "mode": mode, "exact": True, "k": 12}
    truth = client.post(f"{several['both']}/search", json=body).json()
    found = ask(client, body)
    assert found.merge == "score"
    assert found.exact
    assert sorted((-hit.score, hit.id) for hit in found.hits) == sorted(
        (-hit["score"], hit["id"]) for hit in truth["hits"]
    )
    assert [hit.score for hit in found.hits] == [hit["score"] for hit in truth["hits"]]
    assert all(hit.own_score == hit.score and hit.collection in NAMES for hit in found.hits)
    assert found.total is not None
    assert found.total.count == 35
    assert [one.collection for one in found.collections] == NAMES
    # Equal ones by collection, then by id.
    order = [(-hit.score, hit.collection, hit.id.encode()) for hit in found.hits]
    assert order == sorted(order)


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic"])
def test_lists_are_merged_by_ranks(client: httpx.Client, several: dict[str, str], mode: str) -> None:
    weights = {"weights": {"words": 0.4, "tokens": 0.3, "pooled": 0.3}} if mode == "hybrid" else {}
    body = {"query": "word1 word7", "mode": mode, "k": 9, "explain": True, **weights}
    merge = {} if mode != "semantic" else {"merge": "reciprocal_rank"}
    found = ask(client, {**body, **merge})
    assert found.merge == "reciprocal_rank"
    own = {name: client.post(f"{several[name]}/search", json=body).json()["hits"] for name in NAMES}
    truth = sorted(
        (-1 / (60 + rank), name, hit["id"]) for name, hits in own.items() for rank, hit in enumerate(hits, 1)
    )[:9]
    assert [(-hit.score, hit.collection, hit.id) for hit in found.hits] == truth
    for hit in found.hits:
        alone = own[hit.collection][hit.own_rank - 1]
        assert (alone["id"], alone["score"]) == (hit.id, hit.own_score)
        assert hit.explanation is not None
    if mode == "hybrid":
        assert all(one.weights == weights["weights"] for one in found.collections)


@pytest.mark.parametrize(
    "body",
    [
        {"sort": [{"n": "desc"}, {"kind": "asc"}]},
        {"sort": [{"kind": "desc"}, {"absent": "asc"}], "include": []},
        {"mode": "browse"},
        {"filter": {"n": {"gte": 2}}},
        {"query": "word1 word2", "mode": "lexical", "sort": [{"n": "asc"}]},
    ],
)
def test_what_is_sorted_is_merged_by_that(client: httpx.Client, several: dict[str, str], body: dict[str, Any]) -> None:
    body = {**body, "k": 40, "facets": {"n": {"terms": 3}, "kind": {"terms": 9}}}
    body["facets"]["absent"] = {"ranges": [{"lt": 2}, {"gte": 2}]}
    truth = client.post(f"{several['both']}/search", json=body).json()
    found = ask(client, body)
    assert [hit.id for hit in found.hits] == [hit["id"] for hit in truth["hits"]]
    assert found.merge is None
    answered = client.post("/v1/search", json={"collections": NAMES, **body}).json()
    assert answered["facets"] == truth["facets"]
    assert answered["total"] == truth["total"]
    assert all(("metadata" in hit) == ("include" not in body) for hit in answered["hits"])


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid", "browse"])
def test_a_page_is_a_piece_of_the_list(client: httpx.Client, several: dict[str, str], mode: str) -> None:
    weights = {"weights": {"words": 0.4, "tokens": 0.3, "pooled": 0.3}} if mode == "hybrid" else {}
    body: dict[str, Any] = {"mode": mode, **({} if mode == "browse" else {"query": "word3 word4"}), **weights}
    whole = [(hit.collection, hit.id, hit.score) for hit in ask(client, {**body, "k": 30}).hits]
    pages = [
        (hit.collection, hit.id, hit.score)
        for offset in range(0, 30, 7)
        for hit in ask(client, {**body, "k": 7, "offset": offset}).hits
    ]
    assert pages[: len(whole)] == whole
    assert len(whole) > 7


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
def test_each_list_ends_at_the_score_that_was_asked_for(
    client: httpx.Client, several: dict[str, str], mode: str
) -> None:
    weights = {"weights": {"words": 0.4, "tokens": 0.3, "pooled": 0.3}} if mode == "hybrid" else {}
    body: dict[str, Any] = {"query": "word3 word4", "mode": mode, "k": 40, **weights}
    whole = ask(client, body).hits
    least = sorted(hit.own_score for hit in whole)[len(whole) // 2]
    found = ask(client, {**body, "min_score": least})
    assert [(hit.id, hit.own_score) for hit in found.hits] == [
        (hit.id, hit.own_score) for hit in whole if hit.own_score >= least
    ]
    assert found.total is not None
    assert found.total.count == len(found.hits) < len(whole)


def test_a_batch_and_an_alias(client: httpx.Client, several: dict[str, str]) -> None:
    client.put("/v1/aliases/port", json={"collection": "left"}).raise_for_status()
    searches = [
        {"collections": ["right", "port"], "query": "word1", "mode": "semantic", "k": 30},
        {"collections": ["right"], "query": "word2", "k": 3, "highlights": {}},
    ]
    answer = client.post("/v1/search/batch", json={"searches": searches})
    first, second = MultiBatchAnswer.model_validate_json(answer.content, strict=True, extra="forbid").results
    assert {hit.collection for hit in first.hits} == {"right", "port"}
    alone = ask(client, {"query": "word1", "mode": "semantic", "k": 30})
    assert [(hit.id, hit.score) for hit in first.hits] == [(hit.id, hit.score) for hit in alone.hits]
    assert all(hit.highlights for hit in second.hits)
    twice = client.post("/v1/search", json={"collections": ["left", "port"], "query": "word1"})
    assert (twice.status_code, twice.json()["errors"][0]["pointer"]) == (422, "/collections/1")
    client.delete("/v1/aliases/port").raise_for_status()


def test_collections_of_several_kinds_are_merged_by_ranks_alone(
    client: httpx.Client, several: dict[str, str], create: Callable[..., str]
) -> None:
    dense = create(encoder={"model": "words", "kind": "dense"}).rpartition("/")[2]
    client.post(f"/v1/collections/{dense}/documents", json={"documents": drawn(5, 3)}).raise_for_status()
    body = {"collections": ["left", dense], "query": "word1", "mode": "semantic"}
    assert client.post("/v1/search", json=body).json()["merge"] == "reciprocal_rank"
    refused = client.post("/v1/search", json={**body, "merge": "score"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/merge")
    body = {"collections": ["left", dense], "query": "word1", "weights": {"tokens": 1}}
    batched = client.post("/v1/search/batch", json={"searches": [{**body, "collections": ["left"]}, body]})
    assert batched.json()["errors"][0]["pointer"] == "/searches/1/weights/tokens"


@pytest.mark.parametrize("name", ["absent", "../left", "Über", "a" * 90])
def test_a_collection_that_is_not_there_is_named(client: httpx.Client, several: dict[str, str], name: str) -> None:
    answer = client.post("/v1/search", json={"collections": ["left", name], "query": "word1"})
    assert (answer.status_code, answer.json()["code"]) == (404, "collection_not_found")
    assert repr(name)[1:-1] in answer.json()["detail"] or name in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"collections": []}, "/collections"),
        ({"collections": ["left"] * 17}, "/collections"),
        ({"collections": ["left", "left"]}, "/collections/1"),
        ({"collections": ["left", ""]}, "/collections/1"),
        ({"collections": ["left", 1]}, "/collections/1"),
        ({"collections": "left"}, "/collections"),
        ({"collections": None}, "/collections"),
        ({"merge": "best"}, "/merge"),
        ({"merge": "score"}, "/merge"),
        ({"merge": "score", "mode": "lexical"}, "/merge"),
        ({"merge": "score", "sort": [{"n": "asc"}]}, "/merge"),
        ({"merge": "score", "query": None}, "/query"),
        ({"cursor": "x"}, "/cursor"),
        ({"rerank": {"model": "words"}}, "/rerank"),
        ({"group_by": {"field": "n"}}, "/group_by"),
        ({"diversity": {}}, "/diversity"),
        ({"offset": 995, "k": 10}, "/offset"),
        ({"vector": [1, 2], "mode": "hybrid"}, "/vector"),
        ({"k": 0}, "/k"),
        ({"boosts": []}, "/boosts"),
    ],
)
def test_what_cannot_be_asked(
    client: httpx.Client, several: dict[str, str], body: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/v1/search", json={"collections": NAMES, "query": "word1", **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert client.post("/v1/search", json={"query": "word1"}).status_code == 422
    like = client.post("/v1/search", json={"collections": NAMES, "like": {"positive": ["a"]}})
    assert (like.status_code, like.json()["errors"][0]["pointer"]) == (422, "/like")


def test_a_key_reaches_its_own_collections_alone(tmp_path: Any, serve: Callable[..., Any]) -> None:
    key, boss = make_key(), make_key()
    keys = (
        ApiKey(name="narrow", sha256=hash_of(key), scopes=("read",), collections=("mine", "other-name")),
        ApiKey(name="boss", sha256=hash_of(boss), scopes=("admin",)),
    )
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = serve(keys=keys, models=models)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        headers = {"Authorization": f"Bearer {boss}"}
        for name in ("mine", "yours"):
            body: dict[str, Any] = {"name": name, "encoder": {"model": "words"}}
            assert client.post("/v1/collections", json=body, headers=headers).status_code == 201
            put = client.put(f"/v1/collections/{name}/documents/a", json={"text": "word1"}, headers=headers)
            assert put.status_code == 201
        client.put("/v1/aliases/other-name", json={"collection": "yours"}, headers=headers).raise_for_status()
        narrow = {"Authorization": f"Bearer {key}"}
        for names, status in (
            (["mine"], 200), (["mine", "other-name"], 200), (["mine", "yours"], 403), (["mine", "absent"], 403)
        ):  # fmt: skip
            body = {"collections": names, "query": "word1"}
            assert client.post("/v1/search", json=body, headers=narrow).status_code == status
            answer = client.post("/v1/search/batch", json={"searches": [body]}, headers=narrow)
            assert answer.status_code == status
        assert client.post("/v1/search", json=body).status_code == 401
        assert isinstance(server.settings, Settings)


def test_what_was_found_in_time_is_answered(
    client: httpx.Client, several: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = engine.search

    def slow(collection: Collection, *asked: Any) -> Any:
        if collection.name == "right":
            raise TooSlow("the time is over")
        return found(collection, *asked)

    monkeypatch.setattr(engine, "search", slow)
    body = {"query": "word1", "mode": "semantic"}
    answer = client.post("/v1/search", json={"collections": NAMES, **body})
    assert (answer.status_code, answer.json()["code"]) == (504, "search_timeout")
    answered = ask(client, {**body, "partial": True})
    assert {hit.collection for hit in answered.hits} == {"left"}
    assert [one.partial for one in answered.collections] == [False, True]
    assert not answered.exact
    assert answered.total is None
    first = client.post("/v1/search", json={"collections": ["right", "left"], **body, "partial": True})
    assert first.status_code == 504


def test_damage_is_said_and_takes_that_collection_out_of_service(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    found = engine.search

    def damaged(collection: Collection, *asked: Any) -> Any:
        if collection.name == "bad":
            raise Damaged("collection bad: a checksum is wrong")
        return found(collection, *asked)

    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        for name in ("good", "bad"):
            client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}}).raise_for_status()
            client.put(f"/v1/collections/{name}/documents/a", json={"text": "word1"}).raise_for_status()
        monkeypatch.setattr(engine, "search", damaged)
        body: dict[str, Any] = {"collections": ["good", "bad"], "query": "word1"}
        for _ in range(2):
            answer = client.post("/v1/search", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "collection_damaged")
            assert "bad" in answer.json()["detail"]
            monkeypatch.undo()
        assert client.post("/v1/search", json={**body, "collections": ["good"]}).status_code == 200


def test_a_text_is_encoded_once_for_all_collections(
    client: httpx.Client, several: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one request, whatever it asks of them; the next encodes anew."""
    asked: list[str] = []
    real = Together.encode_queries

    def counted(self: Together, texts: Any) -> Encoded:
        asked.extend(texts)
        return real(self, texts)

    monkeypatch.setattr(Together, "encode_queries", counted)
    body = {"collections": [*several], "query": "word1 word2", "mode": "semantic"}
    for _ in range(2):
        asked.clear()
        found = client.post("/v1/search", json=body)
        assert found.status_code == 200
        assert asked == ["word1 word2"]
    asked.clear()
    batch = {"searches": [body, {**body, "mode": "hybrid"}, {**body, "query": "word3"}]}
    answered = client.post("/v1/search/batch", json=batch).json()["results"]
    assert asked == ["word1 word2", "word3"]
    assert answered[0]["hits"] == found.json()["hits"]
