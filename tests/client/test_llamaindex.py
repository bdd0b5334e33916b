"""LlamaIndex's filters, modes and nodes against a live server, held to its own in-memory meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from app.client import Collection
from app.integrations.llamaindex import SheafVectorStore

pytestmark = pytest.mark.anyio
New = Callable[..., Collection]
Op, Mode = FilterOperator, VectorStoreQueryMode


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def node(id: str, text: str = "", vector: Any = (1.0, 0.0), of: str | None = None, **metadata: Any) -> TextNode:
    made = TextNode(id_=id, text=text or id, embedding=list(vector), metadata=metadata)
    if of is not None:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=of)
    return made


NODES = [
    node("a", n=1, s="x", tags=["red", "green"], note=""),
    node("b", n=2.0, s="xy", tags=["green"], empty=[]),
    node("c", n=1.0, s="z", tags=[], deep={"s": "x"}),
    node("d", n=-3, yes=True, numbers=[1, 2]),
    node("e", none=None, s="X"),
]
FILTERS: list[tuple[str, Any, FilterOperator]] = [
    *(("n", value, op) for value in (1, 2, 2.5) for op in (Op.EQ, Op.NE, Op.GT, Op.GTE, Op.LT, Op.LTE)),
    *(("s", value, op) for value in ("x", "q") for op in (Op.EQ, Op.NE, Op.CONTAINS, Op.TEXT_MATCH)),
    ("s", "X", Op.TEXT_MATCH_INSENSITIVE),
    *((key, values, op) for key, values in (("n", [1, 7]), ("s", ["x", "z"]), ("s", [])) for op in (Op.IN, Op.NIN)),
    ("s", "xyz", Op.IN),
    *(("tags", values, op) for values in (["red"], ["red", "green"], ["blue"], []) for op in (Op.ANY, Op.ALL)),
    *(("tags", value, Op.CONTAINS) for value in ("green", "gree", "blue")),
    ("numbers", 2, Op.CONTAINS),
    ("tags", ["green"], Op.EQ),
    ("tags", ["green"], Op.NE),
    ("tags", "green", Op.EQ),
    *((key, None, Op.IS_EMPTY) for key in ("note", "empty", "tags", "none", "deep", "n", "absent")),
    ("none", None, Op.EQ),
    ("n", None, Op.NE),
    ("yes", 1, Op.EQ),
    ("a-b", 1, Op.NE),
]


@pytest.fixture(scope="module")
def both(sheaf: Any) -> tuple[SheafVectorStore, SimpleVectorStore]:
    ours = SheafVectorStore(sheaf.create("llama-filters", model=None, kind="dense", dim=2))
    ours.add(NODES)
    theirs = SimpleVectorStore()
    theirs.add(NODES)
    return ours, theirs


def one(key: str, value: Any, operator: FilterOperator) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=operator)


@pytest.mark.parametrize("condition", [FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT])
@pytest.mark.parametrize(("key", "value", "operator"), FILTERS)
def test_every_filter_means_what_it_means_in_memory(
    both: tuple[SheafVectorStore, SimpleVectorStore],
    key: str,
    value: Any,
    operator: FilterOperator,
    condition: FilterCondition,
) -> None:
    ours, theirs = both
    filters = MetadataFilters(filters=[one(key, value, operator), one("n", 1, Op.GTE)], condition=condition)
    query = VectorStoreQuery(query_embedding=[1.0, 0.5], similarity_top_k=9, filters=filters)
    expected = set(theirs.query(query).ids or [])
    assert set(ours.query(query).ids or []) == expected
    assert {found.node_id for found in ours.get_nodes(filters=filters)} == expected


def test_filters_within_filters(both: tuple[SheafVectorStore, SimpleVectorStore]) -> None:
    inner = MetadataFilters(filters=[one("s", "x", Op.EQ), one("s", "z", Op.EQ)], condition=FilterCondition.OR)
    for extra, expected in ((one("n", 1, Op.EQ), {"a", "c"}), (one("s", "z", Op.TEXT_MATCH), {"c"})):
        outer = MetadataFilters(filters=[inner, extra])
        assert {found.node_id for found in both[0].get_nodes(filters=outer)} == expected
    none = MetadataFilters(filters=[inner], condition=FilterCondition.NOT)
    assert {found.node_id for found in both[0].get_nodes(filters=none)} == {"b", "d", "e"}
    assert len(both[0].get_nodes(filters=MetadataFilters(filters=[]))) == 5


def test_nodes_come_back_whole(new: New) -> None:
    store = SheafVectorStore(new(model=None, kind="dense", dim=2))
    whole = [
        node("a", "text", of="source", deep={"x": [1, {"y": None}]}, **{"a-b": 1, "not": [1.5, None]}),
        IndexNode(id_="b", text="index", index_id="other", embedding=[0.5, 1.0], metadata={"k": 1}),
        ImageNode(id_="c", text="image", image_url="http://x/y.png", embedding=[0.0, 1.0]),
        TextNode(
            id_="d", text="", start_char_idx=3, end_char_idx=9, embedding=[1.0, 1.0], excluded_embed_metadata_keys=["k"]
        ),
    ]
    assert store.add(whole) == ["a", "b", "c", "d"]
    assert [found.to_dict() for found in store.get_nodes()] == [given.to_dict() for given in whole]
    assert [found.node_id for found in store.get_nodes(["c", "none", "a"])] == ["c", "a"]
    (found,) = store.query(VectorStoreQuery(query_embedding=[0.5, 1.0])).nodes or ()
    assert found.to_dict() == whole[1].to_dict()


def test_deletions_are_by_source_by_id_and_by_filter(new: New) -> None:
    store = SheafVectorStore(new(model=None, kind="dense", dim=2))
    store.add([node("a", of="x", n=1), node("b", of="x", n=2), node("c", of="y", n=1), node("d", n=1), node("e", n=2)])
    store.delete("x")
    assert [found.node_id for found in store.get_nodes()] == ["c", "d", "e"]
    store.delete_nodes(["d", "e"], MetadataFilters(filters=[one("n", 1, Op.EQ)]))
    assert [found.node_id for found in store.get_nodes()] == ["c", "e"]
    store.delete_nodes(filters=MetadataFilters(filters=[one("n", None, Op.IS_EMPTY)]))
    with pytest.raises(ValueError, match="clear deletes every node"):
        store.delete_nodes()
    store.clear()
    assert store.get_nodes() == []


@pytest.fixture(scope="module")
def parts(sheaf: Any) -> SheafVectorStore:
    store = SheafVectorStore(sheaf.create("llama-modes", model=None, kind="dense", dim=2))
    store.add(
        [
            node("a", "part number X-100", (1.0, 0.0), of="x"),
            node("b", "part number Y-200", (0.9, 0.1), of="x"),
            node("c", "something else", (0.0, 1.0), of="y"),
            node("d", "more of it", (0.6, 0.6), of="y"),
        ]
    )
    return store


def ask(store: SheafVectorStore, vector: Any = None, text: str | None = None, **more: Any) -> list[str]:
    k = more.pop("k", 2)
    found = store.query(VectorStoreQuery(query_embedding=vector, query_str=text, similarity_top_k=k, **more))
    assert found.similarities == sorted(found.similarities or [], reverse=True) or more["mode"] == Mode.MMR
    assert [one.node_id for one in found.nodes or ()] == found.ids
    return found.ids or []


def test_modes_ask_what_they_say(parts: SheafVectorStore) -> None:
    assert ask(parts, [1.0, 0.0]) == ["a", "b"]
    exact = parts.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=4)).similarities or []
    assert exact[:2] == pytest.approx([1, 0.9 / np.hypot(0.9, 0.1)], abs=1e-3)
    for mode in (Mode.TEXT_SEARCH, Mode.SPARSE):
        assert ask(parts, text="Y-200", mode=mode, k=1) == ["b"]
    for mode in (Mode.HYBRID, Mode.SEMANTIC_HYBRID):
        assert ask(parts, [0.0, 1.0], "X-100", mode=mode, alpha=0.0, k=1) == ["a"]
        assert ask(parts, [0.0, 1.0], "X-100", mode=mode, alpha=1.0, k=1) == ["c"]
        assert len(ask(parts, [0.0, 1.0], "X-100", mode=mode, hybrid_top_k=3)) == 3
    assert set(ask(parts, [1.0, 0.2], mode=Mode.MMR, mmr_threshold=1.0)) == {"a", "b"}
    assert set(ask(parts, [1.0, 0.2], mode=Mode.MMR, mmr_threshold=0.1)) != {"a", "b"}


def test_a_query_is_of_nodes_and_of_documents(parts: SheafVectorStore) -> None:
    assert ask(parts, [1.0, 0.0], doc_ids=["y"]) == ["d", "c"]
    assert ask(parts, [1.0, 0.0], node_ids=["c", "b"]) == ["b", "c"]
    assert ask(parts, [1.0, 0.0], node_ids=[]) == []
    slow = MetadataFilters(filters=[one("absent", None, Op.IS_EMPTY)])
    assert ask(parts, [1.0, 0.0], node_ids=["c", "b"], doc_ids=["y"], filters=slow) == ["c"]


@pytest.mark.parametrize("mode", [Mode.SVM, Mode.LOGISTIC_REGRESSION, Mode.LINEAR_REGRESSION])
def test_what_no_server_does_is_said(parts: SheafVectorStore, mode: VectorStoreQueryMode) -> None:
    with pytest.raises(ValueError, match=f"{mode.value} fits a model"):
        ask(parts, [1.0, 0.0], "a", mode=mode)
    with pytest.raises(ValueError, match="hybrid needs query_str"):
        ask(parts, [1.0, 0.0], mode=Mode.HYBRID)
    with pytest.raises(ValueError, match="default needs query_embedding"):
        ask(parts, text="a")


async def test_the_server_encodes(new: New) -> None:
    store = SheafVectorStore(new())
    assert not store.is_embedding_query
    await store.async_add([TextNode(id_="a", text="a cat sleeps"), TextNode(id_="b", text="a dog barks")])
    found = await store.aquery(VectorStoreQuery(query_str="a dog", similarity_top_k=1))
    assert found.ids == ["b"]
    assert ask(store, text="a dog", mode=Mode.HYBRID, alpha=0.5, k=1) == ["b"]
    assert [one.node_id for one in await store.aget_nodes()] == ["a", "b"]
    await store.adelete_nodes(["a"])
    await store.adelete("none")
    assert [one.node_id for one in await store.aget_nodes()] == ["b"]
    await store.aclear()
    assert await store.aget_nodes() == []
