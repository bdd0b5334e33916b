"""LangChain's own suites, against a live server, and what they do not ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from app.client import Collection, Sheaf
from app.integrations.langchain import SheafRetriever, SheafVectorStore
from app.integrations.metadata import EVERYTHING

pytestmark = pytest.mark.anyio
New = Callable[..., Collection]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, new: New) -> SheafVectorStore:
        embedding = self.get_embeddings()
        return SheafVectorStore(new(model=None, kind="dense", dim=6), embedding)


class TestVectorStoreOfText(VectorStoreIntegrationTests):
    """The server encodes."""

    @pytest.fixture
    def vectorstore(self, new: New) -> SheafVectorStore:
        return SheafVectorStore(new())


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def animals(self, new: New) -> None:
        self.collection = new()
        self.collection.write({"id": name, "text": f"a {name} sleeps"} for name in ("cat", "dog", "hen", "cow", "owl"))

    @property
    def retriever_constructor(self) -> type[SheafRetriever]:
        return SheafRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"collection": self.collection}

    @property
    def retriever_query_example(self) -> str:
        return "a dog"


ODD = [
    {"note": None},
    {"by": {"name": "Ada", "born": [1815, 12, 10]}},
    {"pages": [1, 2, 3]},
    {"flags": [True, None]},
    {"of": [{"a": 1}, {"b": [[]]}]},
    {"a-b": 1, "c d": 2, "e:f": 3, "\u00fc": 4, "1st": 5, "not": 6, "": 7},
    {"big": 2**70, "whole": 1.0, "yes": True},
    {"_lossless": "mine"},
]


@pytest.mark.parametrize("metadata", ODD, ids=lambda one: next(iter(one)) or "empty")
def test_any_metadata_come_back(new: New, metadata: dict[str, Any]) -> None:
    store = SheafVectorStore(new())
    store.add_documents([Document(id="a", page_content="one", metadata=metadata)])
    for (found,) in (store.get_by_ids(["a"]), store.similarity_search("one")):
        assert repr(found.metadata) == repr(metadata)


def test_filters_reach_what_they_can(new: New) -> None:
    store = SheafVectorStore(new())
    store.add_texts(["one", "two"], [{"by": {"name": "Ada"}, "pages": [1, 22]}, {"by": {"name": "Bob"}, "n": None}])
    for filter, text in (
        ({"by.name": {"eq": "Bob"}}, "two"),
        ({"pages": {"eq": 22}}, "one"),
        ({"n": {"eq": None}}, "two"),
        ({"pages": {"exists": False}}, "two"),
    ):
        assert [one.page_content for one in store.similarity_search("one", filter=filter)] == [text]


def test_words_and_vectors_of_langchain_together(new: New) -> None:
    embedding = DeterministicFakeEmbedding(size=6)
    store = SheafVectorStore.from_texts(
        ["a part number X-100", "a part number Y-200", "nothing"],
        embedding,
        ids=["x", "y", "n"],
        collection=new(model=None, kind="dense", dim=6),
    )
    assert store.similarity_search("nothing", k=1)[0].id == "n"
    assert [one.id for one in store.similarity_search("Y-200", k=1, mode="lexical")] == ["y"]
    (best, score), *_ = store.similarity_search_with_relevance_scores("nothing", k=3)
    assert (best.id, score) == ("n", pytest.approx(1, abs=1e-3))
    assert store.similarity_search_by_vector(embedding.embed_query("nothing"), k=1)[0].id == "n"
    both = store.similarity_search("part Y-200", k=3, mode="hybrid")
    assert {one.id for one in both} == {"x", "y", "n"}


def test_marginal_relevance_is_the_servers(new: New) -> None:
    store = SheafVectorStore(new())
    store.add_texts(["read a zip archive", "read a zip archive now", "send an email to read"], ids=["a", "b", "c"])
    assert [one.id for one in store.similarity_search("read zip", k=2)] == ["a", "b"]
    assert {one.id for one in store.max_marginal_relevance_search("read zip", k=2, lambda_mult=0.1)} == {"a", "c"}
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 1, "filter": {"x": {"exists": False}}})
    assert len(retriever.invoke("zip")) == 1


def test_passages_are_answered_in_the_place_of_their_documents(new: New) -> None:
    collection = new(passages={"size": 32, "overlap": 0})
    text = "# Owls\n\n" + "An owl hunts at night. " * 20 + "\n\n# Wrens\n\n" + "A wren sings at dawn. " * 20
    collection.write([{"id": "birds", "text": text, "metadata": {"n": 1}}])
    (whole,) = SheafRetriever(collection=collection).invoke("wren sings")
    assert whole.page_content == text
    first, second = SheafRetriever(collection=collection, options={"passages": 2}).invoke("wren sings")
    for one in (first, second):
        place = one.metadata["passage"]
        assert one.page_content == text[place["start"] : place["stop"]]
        assert (one.id, one.metadata["n"], place["pages"]) == ("birds", 1, None)
        assert place["headings"] == (["Owls"] if place["start"] < text.index("# Wrens") else ["Wrens"])
    assert first.metadata["passage"] != second.metadata["passage"]


def test_what_cannot_be_is_said(new: New, sheaf: Sheaf) -> None:
    store = SheafVectorStore(new())
    with pytest.raises(NotImplementedError, match="no upper end"):
        store.similarity_search_with_relevance_scores("a")
    with pytest.raises(ValueError, match="as many ids and metadatas as texts; got 1, 2, 2"):
        store.add_texts(["a", "b"], ids=["x"])
    with pytest.raises(ValueError, match="a collection, or the name of a new one"):
        SheafVectorStore.from_texts(["a"], None)
    with pytest.raises(ValueError, match="exactly one of ids and filter"):
        store.delete()
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.add_texts(["a"], [{"when": object()}])
    named = SheafVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=6), name="from-langchain", url=sheaf.url)
    assert named.collection.count() == 1
    named.delete(filter=EVERYTHING)
    assert named.collection.count() == 0
    named.collection.sheaf.close()
