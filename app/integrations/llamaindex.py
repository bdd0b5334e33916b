"""LlamaIndex: a vector store. Needs the extra `llamaindex`.

    store = SheafVectorStore(Sheaf().create("mine", model=None, kind="dense", dim=768))   # LlamaIndex embeds
    store = SheafVectorStore(Sheaf().collection("papers"))                              # the server encodes

Nodes come back whole. Modes: default (by vectors; where the server encodes, as Sheaf searches), hybrid and
semantic_hybrid, text_search and sparse (BM25), mmr; the learners of LlamaIndex are no search of a server. For asyncio
the same is done in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import (
    build_metadata_filter_fn,
    metadata_dict_to_node,
    node_to_metadata_dict,
)
from pydantic import PrivateAttr

from app.client import Collection, Document
from app.integrations.metadata import EVERYTHING, NOTHING, Filter, any_of, filterable, filtered, is_scalar, word

NODE: Final = "_node_content"
TYPE: Final = "_node_type"
REF: Final = "_ref_doc_id"
ITEMS: Final = "._items"
"""The end of the name of a list's field, so that a list is never taken for one of its values."""
_ORDERED: Final = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}
_WORDS: Final = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_BOTH: Final = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
_PREFETCH: Final = 4
"""Times ``similarity_top_k`` that mmr chooses among, as LlamaIndex's own stores do."""


class Inexpressible(Exception):
    """Sheaf has no such filter: a substring, a list as a value. LlamaIndex's own function is asked of every node."""


class SheafVectorStore(BasePydanticVectorStore):
    """A collection as LlamaIndex's vector store."""

    stores_text: bool = True
    flat_metadata: bool = False
    _collection: Collection = PrivateAttr()
    _kind: str = PrivateAttr()

    def __init__(self, collection: Collection) -> None:
        """Asks the server what the collection is. Raises NotFound."""
        about = collection.describe()["encoder"]
        super().__init__(is_embedding_query=about["model"] is None)
        self._collection, self._kind = collection, about["kind"]

    @property
    def client(self) -> Collection:
        return self._collection

    @classmethod
    def class_name(cls) -> str:
        return "SheafVectorStore"

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Inserts them, or replaces those whose id is there. Raises ValueError for a node without an embedding, where
        the server does not encode."""
        self._collection.write(self._document(node) for node in nodes)
        return [node.node_id for node in nodes]

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Of these ids, that pass the filters; without either all."""
        found = self._chosen(node_ids, filters)
        return [_node(document) for document in found]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self._collection.delete(filter={REF: {"eq": ref_doc_id}})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Of these ids, that pass the filters. Raises ValueError without either: ``clear`` deletes everything."""
        if node_ids is None and filters is None:
            raise ValueError("expected node_ids or filters; clear deletes every node")
        self._collection.delete([one.id for one in self._chosen(node_ids, filters)])

    def clear(self) -> None:
        self._collection.delete(filter=EVERYTHING)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """kwargs: any option of a search, such as rerank. Raises ValueError for a mode that no server has, and for a
        query without what its mode needs."""
        ids = query.node_ids
        asked: list[Filter] = [] if query.doc_ids is None else [any_of(REF, query.doc_ids)]
        try:
            asked += [] if query.filters is None else [self._filter(query.filters)]
        except Inexpressible:
            ids = [one.id for one in self._chosen(ids, query.filters)]
        if ids == []:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        options = {**self._mode(query), **kwargs}
        hits = self._collection.search(
            options.pop("text"),
            filter={"and": asked} if asked else None,
            ids=ids,
            include=["text", "metadata", "vectors"] if self.is_embedding_query else ["text", "metadata"],
            **options,
        ).hits
        documents = [Document(hit.id, hit.text, "", hit.metadata, hit.vectors) for hit in hits]
        return VectorStoreQueryResult(
            nodes=[_node(one) for one in documents],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await asyncio.to_thread(self.delete, ref_doc_id)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    async def aclear(self) -> None:
        await asyncio.to_thread(self.clear)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _document(self, node: BaseNode) -> Document:
        whole = node_to_metadata_dict(node, remove_text=True)
        metadata = {**filtered(node.metadata, ITEMS), NODE: whole[NODE], TYPE: whole[TYPE]}
        if node.ref_doc_id is not None:
            metadata[REF] = node.ref_doc_id
        vector = node.get_embedding() if self.is_embedding_query else None
        return Document(node.node_id, node.get_content(MetadataMode.NONE), "", metadata, vector)

    def _mode(self, query: VectorStoreQuery) -> dict[str, Any]:
        """What the mode asks of the server, with its text."""
        mode, k = query.mode, query.similarity_top_k
        if mode in (VectorStoreQueryMode.SVM, VectorStoreQueryMode.LOGISTIC_REGRESSION,
                    VectorStoreQueryMode.LINEAR_REGRESSION):  # fmt: skip
            raise ValueError(f"{mode.value} fits a model to each query, which the server does not; ask by another mode")
        by_text = mode in (*_WORDS, *_BOTH) or not self.is_embedding_query
        if by_text and not query.query_str:
            raise ValueError(f"the mode {mode.value} needs query_str")
        if self.is_embedding_query and mode not in _WORDS and query.query_embedding is None:
            raise ValueError(f"the mode {mode.value} needs query_embedding")
        asked: dict[str, Any] = {"text": query.query_str if by_text else None, "k": k}
        if mode in _WORDS:
            return {**asked, "mode": "lexical", "k": query.sparse_top_k or k}
        if self.is_embedding_query:
            asked["vectors"] = query.query_embedding
        if mode in _BOTH:
            asked |= {"mode": "hybrid", "k": query.hybrid_top_k or k}
            if query.alpha is not None:
                meaning = "pooled" if self._kind == "dense" else "tokens"
                asked["weights"] = {"words": 1 - query.alpha, meaning: query.alpha}
        if mode == VectorStoreQueryMode.MMR:
            weight = 1 - (0.5 if query.mmr_threshold is None else query.mmr_threshold)
            asked["diversity"] = {"weight": weight, "among": _PREFETCH * k}
        return asked

    def _chosen(self, ids: list[str] | None, filters: MetadataFilters | None) -> list[Document]:
        """Of these ids, that pass the filters, with everything."""
        try:
            asked = None if filters is None else self._filter(filters)
            passing = None
        except Inexpressible:
            asked, passing = None, filters
        parts: Any = ["text", "metadata", "vectors"] if self.is_embedding_query else ["text", "metadata"]
        if ids is not None and asked is None:
            found = self._collection.get_many(ids, include=parts)
        else:
            wanted = None if ids is None else set(ids)
            listed = self._collection.documents(filter=asked, include=parts)
            found = [one for one in listed if wanted is None or one.id in wanted]
        return found if passing is None else [one for one in found if _passes(passing, _node(one).metadata)]

    def _filter(self, filters: MetadataFilters) -> Filter:
        made = [
            self._filter(one) if isinstance(one, MetadataFilters) else self._comparison(one) for one in filters.filters
        ]
        if not made:
            return EVERYTHING
        if filters.condition == FilterCondition.NOT:
            return {"not": {"or": made}}
        return {"or" if filters.condition == FilterCondition.OR else "and": made}

    def _comparison(self, one: MetadataFilter) -> Filter:
        name, value, operator = one.key, one.value, one.operator
        if not filterable(name) or not filterable(f"{name}{ITEMS}"):
            raise Inexpressible
        if operator in (FilterOperator.EQ, FilterOperator.NE):
            return _negated(self._one_of(name, [value]), operator == FilterOperator.NE)
        if operator in (FilterOperator.IN, FilterOperator.NIN):
            return _negated(self._one_of(name, value), operator == FilterOperator.NIN)
        if operator in _ORDERED:
            if not is_scalar(value) or isinstance(value, bool):
                raise Inexpressible
            return {name: {_ORDERED[operator]: value}}
        # An empty list, an object and a missing field look alike in a collection (IS_EMPTY), and texts are not searched
        # for substrings (TEXT_MATCH, and CONTAINS, ANY, ALL where the field is a text anywhere).
        if operator not in (FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL):
            raise Inexpressible
        if self._collection.count({name: {"exists": True}}):
            raise Inexpressible
        values = [value] if operator == FilterOperator.CONTAINS else value
        if not isinstance(values, list) or not all(isinstance(part, str) for part in values):
            raise Inexpressible
        items = [{f"{name}{ITEMS}": {"eq": word(part)}} for part in values]
        if operator == FilterOperator.ALL:
            return {"and": [{f"{name}{ITEMS}": {"exists": True}}, *items]}
        return {"or": items} if items else NOTHING

    def _one_of(self, name: str, values: Any) -> Filter:
        if not isinstance(values, list) or not all(one is None or is_scalar(one) for one in values):
            raise Inexpressible
        return any_of(name, [one for one in values if one is not None])


def _negated(made: Filter, negated: bool) -> Filter:
    return {"not": made} if negated else made


def _passes(filters: MetadataFilters, metadata: dict[str, Any]) -> bool:
    """As LlamaIndex's own function has it, which does not take nested filters."""
    kept = [
        _passes(one, metadata)
        if isinstance(one, MetadataFilters)
        else build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[one]))("")
        for one in filters.filters
    ]
    if not kept:
        return True
    if filters.condition == FilterCondition.NOT:
        return not any(kept)
    return any(kept) if filters.condition == FilterCondition.OR else all(kept)


def _node(document: Document) -> BaseNode:
    metadata = {NODE: document.metadata[NODE], TYPE: document.metadata[TYPE]}
    node: BaseNode = metadata_dict_to_node(metadata, text=document.text)
    if document.vectors is not None:
        vectors: Any = document.vectors
        node.embedding = vectors.tolist()
    return node
