"""Encoders and rerankers by themselves, asked by the clients of those whose shapes they have, over HTTP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cohere
import httpx
import numpy as np
import openai
import pytest
from tiny_models import TinyModels

from app.encoders.deterministic import DeterministicEncoder
from app.keys import ApiKey, hash_of, make_key
from app.scoring import maxsim
from app.settings import CrossEncoderModel, DeterministicModel, LocalModel, RemoteModel, Settings

DIM = 16
KEY, WRITER = make_key(), make_key()
TEXTS = ["send an email to a friend", "the zip archive is read", "a dog barks at night", "read a zip archive"]
WORDS = DeterministicEncoder(DIM, "multi_vector")


@pytest.fixture(scope="module")
def asked(running: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    tiny = TinyModels(tmp_path_factory.mktemp("models"))
    models: dict[str, Any] = {
        "words": DeterministicModel(type="deterministic", dim=DIM),
        "pairs": CrossEncoderModel(type="cross_encoder", path=str(tiny.preferring("zip")), device="cpu"),
        "late": LocalModel(type="colbert", path=str(tiny.colbert()), device="cpu"),
    }
    settings: dict[str, Any] = {"models": models, "max_documents": 200, "max_answer_bytes": 200_000}
    keys = (
        ApiKey(name="reader", sha256=hash_of(KEY), scopes=("read",), collections=("mine",)),
        ApiKey(name="writer", sha256=hash_of(WRITER), scopes=("write",)),
    )
    server = running(Settings(indexes=tmp_path_factory.mktemp("asked"), keys=keys, **settings)).opened()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(asked: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=f"{asked.url}/v1", max_retries=0) as client:
        yield client


@contextmanager
def cohere_at(url: str, key: str = KEY, kind: Any = cohere.ClientV2) -> Iterator[Any]:
    """It closes nothing by itself."""
    with httpx.Client(trust_env=False) as sending:
        yield kind(api_key=key, base_url=url, httpx_client=sending)


@pytest.fixture(scope="module")
def reranker(asked: Any) -> Iterator[cohere.ClientV2]:
    with cohere_at(asked.url) as client:
        yield client


@pytest.fixture(scope="module")
def older(asked: Any) -> Iterator[cohere.Client]:
    with cohere_at(asked.url, kind=cohere.Client) as client:
        yield client


# OpenAI's client


@pytest.mark.parametrize("given", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_vectors_are_the_encoders_own_in_every_format(client: openai.OpenAI, given: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="words", input=TEXTS, **given)
    found = [np.frombuffer(_bytes(one.embedding), "<f4") for one in answer.data]
    assert np.array_equal(np.stack(found), WORDS.encode_documents(TEXTS).pooled)
    assert [(one.index, one.object) for one in answer.data] == [(place, "embedding") for place in range(4)]
    assert (answer.model, answer.object) == ("words", "list")
    words = sum(len(text.split()) for text in TEXTS)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (words, words)


def _bytes(embedding: Any) -> bytes:
    """What the client hands on where it was asked for base64 is that; else it has numbers."""
    return base64.b64decode(embedding) if isinstance(embedding, str) else np.array(embedding, "<f4").tobytes()


def test_one_text_is_one_vector_by_the_async_client_too(asked: Any) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{asked.url}/v1", max_retries=0) as client:
            return await client.embeddings.create(model="words", input=TEXTS[0], user="somebody")

    (one,) = asyncio.run(ask()).data
    assert one.embedding == WORDS.encode_documents(TEXTS[:1]).pooled[0].tolist()


@pytest.mark.parametrize("given", [{}, {"encoding_format": "float"}])
def test_token_vectors_are_asked_for_by_a_name_of_ours(client: openai.OpenAI, given: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="words", input=TEXTS, extra_body={"vectors": "tokens"}, **given)
    tokens = WORDS.encode_documents(TEXTS).tokens
    assert tokens is not None
    for one, matrix in zip(answer.data, tokens, strict=True):
        shape = getattr(one, "shape", None) or np.shape(one.embedding)
        assert np.array_equal(np.array(one.embedding, np.float32).reshape(shape), matrix)


def test_queries_and_documents_are_told_apart(client: openai.OpenAI) -> None:
    """A ColBERT expands each query to twelve tokens, and has a vector for each of them."""
    sides = {
        side: client.embeddings.create(
            model="late", input="the cat", extra_body={"vectors": "tokens", "input_type": side}
        ).data[0]
        for side in ("query", "document")
    }
    assert sides["query"].shape[0] == 12  # type: ignore[attr-defined]
    assert sides["document"].shape[0] < 12  # type: ignore[attr-defined]


def test_what_is_cut_is_said_and_counted_as_it_was_read(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="words", input=["a short one", "word " * 600])
    assert answer.truncated == [1]  # type: ignore[attr-defined]
    assert answer.usage.total_tokens == 3 + 512
    assert not hasattr(client.embeddings.create(model="words", input="a short one"), "truncated")


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["builtin", "late", "pairs", "words"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "said"),
    [
        ({"input": [1, 2, 3]}, 422, "invalid", "input[0]", "token ids are those of another model's tokenizer"),
        ({"input": [[1, 2], [3]]}, 422, "invalid", "input[0]", "send the text itself"),
        ({"input": ["a", ""]}, 422, "invalid", "input[1]", "an empty text has no vector"),
        ({"input": []}, 422, "invalid", "input", "at least one text"),
        ({"input": ["a"] * 201}, 422, "invalid", "input", "at most 200 texts; got 201"),
        ({"dimensions": 8}, 422, "invalid", "dimensions", "'words' has 16 dimensions"),
        ({"encoding_format": "int8"}, 422, "invalid", "encoding_format", "'float' or 'base64'"),
        ({"model": "ada"}, 404, "model_not_found", None, "no model is named 'ada'; there are builtin, words"),
        ({"model": "pairs"}, 422, "invalid", "model", "'pairs' does not give one vector a text; these do: builtin"),
        ({"model": "late"}, 422, "invalid", "model", "'late' does not give one vector a text"),
        ({"extra_body": {"vector": 1}}, 422, "invalid", "vector", "unknown field; the fields are model, input"),
        ({"input": ["word " * 99] * 99, "extra_body": {"vectors": "tokens"}}, 422, "answer_too_large", None, "fewer"),
    ],
)
def test_what_is_wrong_is_what_the_client_shows(
    client: openai.OpenAI, body: dict[str, Any], status: int, code: str, param: str | None, said: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=said.replace("[", r"\[")) as caught:
        client.embeddings.create(**{"model": "words", "input": "a", **body})
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, code, param)
    assert caught.value.type == "invalid_request_error"


def test_the_same_error_is_problem_details(asked: Any) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{asked.url}/v1/embeddings", json={"model": "words"}, headers=headers, trust_env=False)
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["errors"] == [{"pointer": "/input", "message": "required, but missing"}]
    assert body["error"]["message"] == body["detail"]
    elsewhere = httpx.get(f"{asked.url}/v1/collections/x", headers=headers, trust_env=False)
    assert "error" not in elsewhere.json()


def test_a_key_needs_the_scope_read(asked: Any) -> None:
    for key, kind, said in (("sk-none", openai.AuthenticationError, "none that"),
                            (WRITER, openai.PermissionDeniedError, "scope read")):  # fmt: skip
        with openai.OpenAI(api_key=key, base_url=f"{asked.url}/v1", max_retries=0) as client:
            with pytest.raises(kind, match=said):
                client.embeddings.create(model="words", input="a")
            with pytest.raises(kind, match=said):
                client.models.list()
        with cohere_at(asked.url, key) as reranker, pytest.raises(cohere.core.ApiError, match=said):
            reranker.rerank(model="words", query="a", documents=["a"])


# Cohere's client


def by_maxsim(query: str, texts: list[str]) -> list[tuple[int, float]]:
    (asked,) = WORDS.encode_queries([query]).tokens or ()
    scores = [maxsim.reference(asked, found) / len(asked) for found in WORDS.encode_documents(texts).tokens or ()]
    return sorted(enumerate(scores), key=lambda one: -one[1])


def test_texts_are_ordered_by_the_mean_of_their_maxsims(reranker: cohere.ClientV2) -> None:
    answer = reranker.rerank(model="words", query=TEXTS[3], documents=TEXTS)
    found = [(one.index, one.relevance_score) for one in answer.results]
    assert found == [(place, pytest.approx(score)) for place, score in by_maxsim(TEXTS[3], TEXTS)]
    assert found[0] == (3, pytest.approx(1))
    assert answer.meta is not None
    assert answer.meta.api_version is not None
    assert (answer.meta.api_version.version, bool(answer.id)) == ("2", True)
    best = reranker.rerank(model="words", query=TEXTS[3], documents=TEXTS, top_n=2)
    assert [one.index for one in best.results] == [place for place, _ in found[:2]]


def test_a_cross_encoder_reads_them(reranker: cohere.ClientV2) -> None:
    found = reranker.rerank(model="pairs", query="the cat", documents=["the cat", "zip", "a dog"]).results
    assert found[0].index == 1


def test_no_more_of_a_text_is_read_than_is_asked_for(reranker: cohere.ClientV2) -> None:
    texts = ["read a file", "write a zip archive and then read it"]
    found = reranker.rerank(model="words", query="archive", documents=texts, max_tokens_per_doc=3).results
    expected = by_maxsim("archive", ["read a file", "write a zip"])
    assert [(one.index, one.relevance_score) for one in found] == [(i, pytest.approx(score)) for i, score in expected]
    whole = reranker.rerank(model="words", query="archive", documents=texts).results
    assert (whole[0].index, whole[0].relevance_score) == (1, pytest.approx(1))
    cut = reranker.rerank(model="pairs", query="a", documents=["the cat zip", "the dog"], max_tokens_per_doc=2).results
    assert abs(cut[0].relevance_score - cut[1].relevance_score) < 1


def test_version_1_takes_objects_and_gives_them_back(older: cohere.Client) -> None:
    documents: Any = ["a dog", {"text": "read it", "title": "zip archive", "by": "me"}]
    query = "zip archive. read it"
    answer = older.rerank(
        model="words", query=query, documents=documents, rank_fields=["title", "text"], return_documents=True
    )
    assert [one.index for one in answer.results] == [1, 0]
    assert answer.results[0].relevance_score == pytest.approx(1)
    assert [one.document.dict() for one in answer.results if one.document] == [documents[1], {"text": "a dog"}]
    plain = older.rerank(model="words", query=query, documents=documents)
    assert [one.document for one in plain.results] == [None, None]
    assert plain.results[0].relevance_score < 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "rerank-v3.5"}, 404, "no model that reranks is named 'rerank-v3.5'; there are builtin, late"),
        ({"documents": []}, 422, "/documents: expected at least 1"),
        ({"documents": ["a"] * 201}, 422, "at most 200 texts"),
        ({"top_n": 0}, 422, "/top_n: expected 1 or more"),
        ({"query": ""}, 422, "/query"),
    ],
)
def test_what_cannot_be_reranked_is_said(
    reranker: cohere.ClientV2, body: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(cohere.core.ApiError) as caught:
        reranker.rerank(**{"model": "words", "query": "a", "documents": ["a"], **body})
    assert caught.value.status_code == status
    assert said in caught.value.body["message"] == caught.value.body["detail"]


def test_an_object_without_its_fields_is_refused(older: cohere.Client) -> None:
    with pytest.raises(
        cohere.UnprocessableEntityError, match="/documents/1: expected a string, or an object with text"
    ):
        older.rerank(model="words", query="a", documents=["a", {"title": "a"}])  # type: ignore[list-item]


# Both


def test_time_has_an_end(running: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    server = running(Settings(indexes=tmp_path_factory.mktemp("short"), models=models, search_timeout_ms=1)).opened()
    try:
        with openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError, match=r"took longer than 1 ms.*send fewer texts") as caught:
                client.embeddings.create(model="words", input=["word " * 500] * 500)
            assert (caught.value.type, caught.value.code) == ("server_error", "search_timeout")
    finally:
        server.stop()


def test_one_server_encodes_for_another(
    asked: Any, running: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A remote encoder gives pooled vectors alone: texts are reranked by their cosine."""
    remote = RemoteModel(type="remote", url=f"{asked.url}/v1", model="words", dim=DIM, api_key=KEY)  # type: ignore[arg-type]
    server = running(Settings(indexes=tmp_path_factory.mktemp("near"), models={"far": remote})).opened()
    try:
        with openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client:
            found = client.embeddings.create(model="far", input=TEXTS).data
            with pytest.raises(openai.UnprocessableEntityError, match="does not give a vector for each token"):
                client.embeddings.create(model="far", input="a", extra_body={"vectors": "tokens"})
        pooled = WORDS.encode_documents(TEXTS).pooled
        assert np.array_equal(np.array([one.embedding for one in found], np.float32), pooled)
        with cohere_at(server.url) as reranker:
            ranked = reranker.rerank(model="far", query=TEXTS[3], documents=TEXTS)
        expected = pooled @ pooled[3]
        assert [one.index for one in ranked.results] == np.argsort(-expected).tolist()
        scores = [one.relevance_score for one in ranked.results]
        assert scores == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
    finally:
        server.stop()
