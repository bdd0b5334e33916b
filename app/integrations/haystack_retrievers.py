"""Retrievers over ``SheafDocumentStore``: by embedding, by text, by both. Need the extra `haystack`."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from app.integrations.haystack import SheafDocumentStore


class _Settings(Protocol):
    document_store: SheafDocumentStore
    filters: dict[str, Any] | None
    top_k: int
    options: dict[str, Any]
    filter_policy: FilterPolicy


def _set(retriever: Any, store: SheafDocumentStore, filters: dict[str, Any] | None, top_k: int,
         options: dict[str, Any] | None, policy: str | FilterPolicy) -> None:  # fmt: skip
    if not isinstance(store, SheafDocumentStore):
        raise ValueError(f"expected a SheafDocumentStore, got {type(store).__name__}")
    retriever.document_store, retriever.filters, retriever.top_k = store, filters, top_k
    retriever.options = options or {}
    retriever.filter_policy = policy if isinstance(policy, FilterPolicy) else FilterPolicy.from_str(policy)


def _as_dict(retriever: _Settings) -> dict[str, Any]:
    made: dict[str, Any] = default_to_dict(
        retriever,
        document_store=retriever.document_store.to_dict(),
        filters=retriever.filters,
        top_k=retriever.top_k,
        options=retriever.options,
        filter_policy=retriever.filter_policy.value,
    )
    return made


def _of_dict(kind: Any, data: dict[str, Any]) -> Any:
    given = data["init_parameters"]
    given["document_store"] = SheafDocumentStore.from_dict(given["document_store"])
    return default_from_dict(kind, data)


def _found(retriever: _Settings, query: str | None, embedding: list[float] | None, filters: dict[str, Any] | None,
           top_k: int | None, **more: Any) -> dict[str, list[Document]]:  # fmt: skip
    asked = apply_filter_policy(retriever.filter_policy, retriever.filters, filters)
    k = retriever.top_k if top_k is None else top_k
    found = retriever.document_store.search(query, embedding, top_k=k, filters=asked, **{**more, **retriever.options})
    return {"documents": found}


@component
class SheafEmbeddingRetriever:
    """The documents whose embeddings are nearest. options: any of Sheaf's searches, such as exact."""

    def __init__(
        self,
        document_store: SheafDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        options: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        _set(self, document_store, filters, top_k, options, filter_policy)

    def to_dict(self) -> dict[str, Any]:
        return _as_dict(self)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SheafEmbeddingRetriever:
        made: SheafEmbeddingRetriever = _of_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return _found(self, None, query_embedding, filters, top_k)  # type: ignore[arg-type]

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return await asyncio.to_thread(self.run, query_embedding, filters, top_k)


@component
class SheafTextRetriever:
    """The documents that answer a text: by words and by meaning where the server encodes, else by words (BM25)."""

    def __init__(
        self,
        document_store: SheafDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        options: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        _set(self, document_store, filters, top_k, options, filter_policy)

    def to_dict(self) -> dict[str, Any]:
        return _as_dict(self)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SheafTextRetriever:
        made: SheafTextRetriever = _of_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return _found(self, query, None, filters, top_k)  # type: ignore[arg-type]

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return await asyncio.to_thread(self.run, query, filters, top_k)


@component
class SheafHybridRetriever:
    """The documents that answer a text by its words and its embedding together, in one order of the server's."""

    def __init__(
        self,
        document_store: SheafDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        options: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        _set(self, document_store, filters, top_k, options, filter_policy)

    def to_dict(self) -> dict[str, Any]:
        return _as_dict(self)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SheafHybridRetriever:
        made: SheafHybridRetriever = _of_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        return _found(self, query, query_embedding, filters, top_k, mode="hybrid")  # type: ignore[arg-type]

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        return await asyncio.to_thread(self.run, query, query_embedding, filters, top_k)
