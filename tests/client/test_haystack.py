"""Haystack's own mixins, against a live server, and what they do not ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as suites_async
from haystack.utils import Secret
from haystack.utils.filters import document_matches_filter
from running import Running

from app.integrations.haystack import SheafDocumentStore
from app.integrations.haystack_retrievers import SheafEmbeddingRetriever, SheafHybridRetriever, SheafTextRetriever

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
Store = Callable[..., SheafDocumentStore]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make(server: Running) -> Iterator[Store]:
    made: list[SheafDocumentStore] = []

    def store(**options: Any) -> SheafDocumentStore:
        made.append(SheafDocumentStore(f"h{next(_NUMBERS)}", url=server.url, **options))
        return made[-1]

    yield store
    for one in made:
        one.close()


class Equal:
    """In any order, for Sheaf lists by ids; embeddings as float32 has them."""

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        def read(documents: list[Document]) -> list[Document]:
            rounded = [
                replace(one, embedding=None if one.embedding is None else np.float32(one.embedding).tolist())
                for one in documents
            ]
            return sorted(rounded, key=lambda one: one.id)

        assert read(received) == read(expected)


class TestStore(
    Equal,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
):
    @pytest.fixture
    def document_store(self, make: Store) -> SheafDocumentStore:
        return make(embedding_dim=768)

    def test_write_documents(self, document_store: SheafDocumentStore) -> None:
        """What no policy means is each store's own: here, as everywhere in Sheaf, the last one stands."""
        assert document_store.write_documents([Document(id="1", content="one")]) == 1
        assert document_store.write_documents([Document(id="1", content="two")]) == 1
        self.assert_documents_are_equal(document_store.filter_documents(), [Document(id="1", content="two")])


class TestStoreAsync(
    Equal,
    suites_async.CountDocumentsAsyncTest,
    suites_async.CountDocumentsByFilterAsyncTest,
    suites_async.CountUniqueMetadataByFilterAsyncTest,
    suites_async.DeleteAllAsyncTest,
    suites_async.DeleteByFilterAsyncTest,
    suites_async.DeleteDocumentsAsyncTest,
    suites_async.FilterDocumentsAsyncTest,
    suites_async.GetMetadataFieldMinMaxAsyncTest,
    suites_async.GetMetadataFieldUniqueValuesAsyncTest,
    suites_async.GetMetadataFieldsInfoAsyncTest,
    suites_async.UpdateByFilterAsyncTest,
    suites_async.WriteDocumentsAsyncTest,
):
    @pytest.fixture
    def document_store(self, make: Store) -> SheafDocumentStore:
        return make(embedding_dim=768)

    async def test_write_documents_async(self, document_store: SheafDocumentStore) -> None:  # type: ignore[override]
        assert await document_store.write_documents_async([Document(id="1", content="one")]) == 1
        assert await document_store.write_documents_async([Document(id="1", content="two")]) == 1
        assert [one.content for one in await document_store.filter_documents_async()] == ["two"]


WHOLE = [
    Document(id="plain", content="one", embedding=[1.0, 2.0]),
    Document(id="none", content=None, embedding=[0.5, -2.0]),
    Document(id="bare", content="no embedding"),
    Document(id="zeros", content="nothing", embedding=[0.0, 0.0]),
    Document(id="blob", content="with", blob=ByteStream(b"\x00\xff", {"a": 1}, "x/y"), embedding=[1.0, 0.0]),
    Document(id="sparse", content="with", sparse_embedding=SparseEmbedding([3, 1], [0.5, -1.0]), embedding=[1.0, 0.0]),
    Document(
        id="odd",
        content="meta",
        meta={"none": None, "file.path": "/a", "list": [1, 2.5], "in": {"a": [{"b": None}]}, "a-b": 1, "_split": [{}]},
        embedding=[3.0, 1.0],
    ),
]


def test_every_part_of_a_document_comes_back(make: Store) -> None:
    store = make(embedding_dim=2)
    assert store.write_documents(WHOLE) == len(WHOLE)
    Equal.assert_documents_are_equal(store.filter_documents(), WHOLE)
    assert store.update_by_filter({"field": "meta.list", "operator": "==", "value": [1, 2.5]}, {"new": [None]}) == 1
    (odd,) = store.filter_documents({"field": "id", "operator": "==", "value": "odd"})
    assert odd.meta == {**WHOLE[-1].meta, "new": [None]}
    assert odd.embedding == [3.0, 1.0]
    many = [Document(id=str(number), content="x", embedding=[1.0, number]) for number in range(1_500)]
    assert store.write_documents(many) == 1_500
    assert store.count_documents() == 1_500 + len(WHOLE)


FILTERED = [
    Document(id="a", content="one", meta={"n": 1, "s": "x", "d": "2024-01-01T00:00:00+00:00"}),
    Document(id="b", content="two", meta={"n": 2.0, "s": ["x"], "d": "2024-01-01T02:00:00+02:00"}),
    Document(id="c", content="three", meta={"n": True, "in": {"s": "x"}, "d": "2024-01-02"}),
    Document(id="d", content=None, meta={"n": None, "a-b": 3}),
]


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        *(("meta.n", operator, value) for operator in ("==", "!=") for value in (1, 2, True, None, 1.0)),
        *(("meta.n", operator, [1, None]) for operator in ("in", "not in")),
        ("meta.n", "in", []),
        ("n", "==", 2),
        ("meta.s", "==", "x"),
        ("meta.s", "==", ["x"]),
        ("meta.s", "!=", ["x"]),
        ("meta.in.s", "==", "x"),
        ("meta.a-b", ">", 2),
        ("meta.d", "==", "2024-01-01T00:00:00+00:00"),
        ("meta.d", "==", "2024-01-01T01:00:00+01:00"),
        ("meta.d", ">", "2024-01-01T12:00:00+00:00"),
        ("meta.d", "<=", "2024-01-01T00:00:00+00:00"),
        ("id", "in", ["a", "d"]),
        ("content", "==", "two"),
        ("content", "==", None),
    ],
)
def test_filters_mean_what_haystacks_own_function_means(make: Store, field: str, operator: str, value: Any) -> None:
    store = make(embedding_dim=2)
    store.write_documents(FILTERED)
    asked = {"field": field, "operator": operator, "value": value}
    for filters in (
        asked,
        {"operator": "NOT", "conditions": [asked]},
        {"operator": "OR", "conditions": [asked, asked]},
    ):
        expected = [one.id for one in FILTERED if document_matches_filter(filters, one)]
        assert [one.id for one in store.filter_documents(filters)] == expected
        assert store.count_documents_by_filter(filters) == len(expected)
    assert store.delete_by_filter(asked) == sum(document_matches_filter(asked, one) for one in FILTERED)


def test_what_is_wrong_is_said_before_what_is_slow(make: Store) -> None:
    store = make(embedding_dim=2)
    slow = {"field": "id", "operator": "==", "value": "a"}
    with pytest.raises(FilterError, match="'value' key missing"):
        store.filter_documents({"operator": "AND", "conditions": [slow, {"field": "n", "operator": "=="}]})
    with pytest.raises(FilterError, match="unknown operator"):
        store.filter_documents({"field": "n", "operator": "~", "value": 1})
    with pytest.raises(ValueError, match="the server encodes"):
        make(model="words").write_documents([WHOLE[0]])


def test_retrievers_find_by_embedding_by_words_and_by_both(make: Store) -> None:
    store = make(embedding_dim=2)
    documents = [
        Document(id="a", content="part number X-100", embedding=[1.0, 0.1], meta={"n": 1}),
        Document(id="b", content="part number Y-200", embedding=[0.1, 1.0], meta={"n": 2}),
        Document(id="c", content="without an embedding", meta={"n": 3}),
    ]
    store.write_documents(documents)
    near = SheafEmbeddingRetriever(store, top_k=3).run(query_embedding=[1.0, 0.0])["documents"]
    # The third has no vector, whatever stands in its place.
    assert [one.id for one in near] == ["a", "b"]
    assert near[0].score == pytest.approx(1 / np.hypot(1, 0.1), abs=1e-3)
    words = SheafTextRetriever(store).run(query="Y-200", filters={"field": "meta.n", "operator": "!=", "value": 1})
    assert [one.id for one in words["documents"]] == ["b"]
    both = SheafHybridRetriever(store, top_k=2).run(query="X-100", query_embedding=[0.0, 1.0])["documents"]
    assert {one.id for one in both} == {"a", "b"}
    slow = SheafEmbeddingRetriever(store, filters={"field": "id", "operator": "==", "value": "b"})
    assert [one.id for one in slow.run(query_embedding=[1.0, 0.0])["documents"]] == ["b"]
    none = {"field": "id", "operator": "==", "value": "z"}
    assert slow.run(query_embedding=[1.0, 0.0], filters=none)["documents"] == []


async def test_the_server_encodes_where_no_embedding_comes(make: Store) -> None:
    store = make(model="words")
    await store.write_documents_async([Document(id="a", content="a cat"), Document(id="b", content="a dog")])
    retriever = SheafTextRetriever(store, top_k=1)
    found = await retriever.run_async(query="a dog")
    assert [one.content for one in found["documents"]] == ["a dog"]
    with pytest.raises(ValueError, match="ask by text"):
        SheafEmbeddingRetriever(store).run(query_embedding=[1.0])


def test_a_pipeline_is_written_down_and_read_again(make: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "none")
    store = make(embedding_dim=2, api_key=Secret.from_env_var("KEY_OF_TESTS"))
    store.write_documents([WHOLE[0]], policy=DuplicatePolicy.OVERWRITE)
    pipeline = Pipeline()
    pipeline.add_component("by_vector", SheafEmbeddingRetriever(store, top_k=2, filter_policy="merge"))
    pipeline.add_component("by_both", SheafHybridRetriever(store, options={"exact": True}))
    pipeline.add_component("by_text", SheafTextRetriever(store))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["app.integrations.*"])
    assert again.to_dict() == pipeline.to_dict()
    found = again.run({"by_vector": {"query_embedding": [1.0, 2.0]}, "by_text": {"query": "one"},
                       "by_both": {"query": "one", "query_embedding": [1.0, 2.0]}})  # fmt: skip
    assert {name: [one.id for one in answer["documents"]] for name, answer in found.items()} == {
        name: ["plain"] for name in ("by_vector", "by_both", "by_text")
    }
    for name in ("by_vector", "by_both", "by_text"):
        again.get_component(name).document_store.close()
