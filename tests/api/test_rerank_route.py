"""Reranking over HTTP, by a cross encoder that is known to be right, by an encoder, and by one that does not load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tiny_models import TinyModels

from app.api.schemas.searches import SearchAnswer
from app.settings import CrossEncoderModel, DeterministicModel, Settings

TEXTS = {"a": "the cat read", "b": "the cat read a book", "c": "a zip on the mat", "d": "the dog sat on the mat"}


@pytest.fixture(scope="module")
def reranking(running: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    tiny = TinyModels(tmp_path_factory.mktemp("models"))
    paths = {"zip-lover": tiny.preferring("zip"), "gone": tmp_path_factory.mktemp("none") / "nowhere"}
    models: dict[str, Any] = {
        name: CrossEncoderModel(type="cross_encoder", path=str(path), device="cpu") for name, path in paths.items()
    }
    models |= {name: DeterministicModel(type="deterministic", dim=dim) for name, dim in (("words", 16), ("other", 8))}
    server = running(Settings(indexes=tmp_path_factory.mktemp("indexes"), models=models)).opened()
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).raise_for_status()
            documents = [{"id": key, "text": text} for key, text in TEXTS.items()]
            client.post("/v1/collections/c/documents", json={"documents": documents}).raise_for_status()
            yield client
    finally:
        server.stop()


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    body = {"query": "the cat read", "k": 4, **more}
    return client.post("/v1/collections/c/search", json={key: value for key, value in body.items() if value})


def test_the_first_are_read_once_more_and_keep_their_former_score(reranking: httpx.Client) -> None:
    before = ask(reranking).json()
    assert before["hits"][0]["id"] == "a"
    answer = ask(reranking, rerank={"model": "zip-lover", "top": 4})
    after = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert after.rerank is not None
    assert (after.rerank.model, after.rerank.reranked, after.rerank.of) == ("zip-lover", 4, 4)
    assert after.hits[0].id == "c"
    former = {hit["id"]: hit["score"] for hit in before["hits"]}
    assert {hit.id: hit.former_score for hit in after.hits} == pytest.approx(former, abs=0.05)


def test_a_page_is_a_piece_of_the_reranked_list(reranking: httpx.Client) -> None:
    weights = {"words": 0.2, "tokens": 0.4, "pooled": 0.4}
    rerank = {"model": "zip-lover", "top": 2}
    whole = [hit["id"] for hit in ask(reranking, rerank=rerank, weights=weights).json()["hits"]]
    pages = [
        hit["id"]
        for offset in range(4)
        for hit in ask(reranking, rerank=rerank, weights=weights, k=1, offset=offset).json()["hits"]
    ]
    assert pages == whole


def test_an_encoder_reranks_by_its_own_maxsim(reranking: httpx.Client) -> None:
    found = ask(reranking, rerank={"model": "other", "top": 4}).json()
    assert found["rerank"] == {"model": "other", "reranked": 4, "of": 4}
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert found["hits"][0]["id"] == "a"


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "dense", "lexical"])
def test_every_mode_is_reranked(reranking: httpx.Client, mode: str) -> None:
    found = ask(reranking, mode=mode, rerank={"model": "zip-lover", "top": 4}).json()
    assert found["rerank"]["reranked"] == len(found["hits"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"rerank": {"model": "nothing"}}, "/rerank/model"),
        ({"rerank": {"model": "zip-lover", "top": 0}}, "/rerank/top"),
        ({"rerank": {"model": "zip-lover", "budget_ms": 0}}, "/rerank/budget_ms"),
        ({"rerank": {"model": "zip-lover"}, "query": None, "sort": [{"year": "asc"}]}, "/rerank"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_place(reranking: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    answer = ask(reranking, **body)
    assert answer.status_code == 422
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}


def test_a_model_that_does_not_load_is_unavailable_and_the_others_go_on(reranking: httpx.Client) -> None:
    answer = ask(reranking, rerank={"model": "gone", "top": 2})
    assert answer.status_code == 503
    assert "is not a folder" in answer.json()["detail"]
    models = {one["name"]: one for one in reranking.get("/v1/info").json()["models"]}
    assert models["gone"]["error"]
    assert ask(reranking, rerank={"model": "zip-lover", "top": 2}).status_code == 200
