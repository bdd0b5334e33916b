"""Haystack: a document store. Needs the extra `haystack`; its retrievers are in ``haystack_retrievers``.

    store = SheafDocumentStore("papers", embedding_dim=768)     # Haystack embeds
    store = SheafDocumentStore("papers")                        # the server encodes: token vectors and words

The collection is made where it is missing. Documents come back as they were written, embeddings in float32. For asyncio
the same is done in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack.utils.filters import document_matches_filter

from app.client import Answer, Collection, Sheaf
from app.client import Document as Sent
from app.errors import NotFound, PreconditionFailed
from app.integrations.haystack_filters import Inexpressible, to_filter
from app.integrations.metadata import EVERYTHING, restored, stored

BARE: Final = "_no_embedding"
"""Marks a document without an embedding; in its place stands a vector that no retrieval sees."""
_WITH: Final = {"not": {BARE: {"eq": True}}}
Policy = Literal["cosine", "inner_product"]


class SheafDocumentStore:
    """A collection of a Sheaf server as Haystack's document store."""

    def __init__(
        self,
        collection: str = "haystack",
        *,
        url: str = "http://127.0.0.1:8000",
        api_key: Secret | None = None,
        embedding_dim: int | None = None,
        similarity: Policy = "cosine",
        model: str = "builtin",
        options: dict[str, Any] | None = None,
    ) -> None:
        """embedding_dim: of the embeddings that documents bring; None: the server encodes their content by ``model``.
        options: others of a new collection. Nothing is asked of the server yet."""
        self.name, self.url, self.api_key = collection, url, api_key
        self.embedding_dim, self.similarity, self.model, self.options = embedding_dim, similarity, model, options
        self._sheaf: Sheaf | None = None
        self._collection: Collection | None = None

    def to_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = default_to_dict(
            self,
            collection=self.name,
            url=self.url,
            api_key=None if self.api_key is None else self.api_key.to_dict(),
            embedding_dim=self.embedding_dim,
            similarity=self.similarity,
            model=self.model,
            options=self.options,
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SheafDocumentStore:
        if data["init_parameters"].get("api_key") is not None:
            data["init_parameters"]["api_key"] = Secret.from_dict(data["init_parameters"]["api_key"])
        made: SheafDocumentStore = default_from_dict(cls, data)
        return made

    @property
    def collection(self) -> Collection:
        """Opened, and made where it is missing, at first use."""
        if self._collection is None:
            self._sheaf = Sheaf(self.url, None if self.api_key is None else self.api_key.resolve_value())
            found = self._sheaf.collection(self.name)
            try:
                found.describe()
            except NotFound:
                found = self._create()
            self._collection = found
        return self._collection

    def close(self) -> None:
        """Its connections; the next use opens new ones."""
        if self._sheaf is not None:
            self._sheaf.close()
        self._sheaf = self._collection = None

    def count_documents(self) -> int:
        return self.collection.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """All that match, by their ids."""
        try:
            asked = to_filter(filters)
        except Inexpressible:
            found = [_document(one) for one in self.collection.documents(include=["text", "metadata", "vectors"])]
            return [document for document in found if document_matches_filter(filters or {}, document)]
        listed = self.collection.documents(filter=asked, include=["text", "metadata", "vectors"])
        return [_document(one) for one in listed]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """How many were written. Without a policy those that are there are replaced, many in a request. `fail` and
        `skip` ask for each document by itself, so that none is ever replaced by another's.

        Raises ValueError for what is no document, or has an embedding that cannot be; DuplicateDocumentError."""
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise ValueError("expected a list of Haystack documents")
        sent = [self._sent(one) for one in documents]
        if policy in (DuplicatePolicy.NONE, DuplicatePolicy.OVERWRITE):
            return self.collection.write(sent).written
        written = 0
        for one in sent:
            try:
                self.collection.put(one, new=True)
                written += 1
            except PreconditionFailed:
                if policy == DuplicatePolicy.FAIL:
                    raise DuplicateDocumentError(f"document {one.id!r} is there already") from None
        return written

    def delete_documents(self, document_ids: list[str]) -> None:
        self.collection.delete(document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """recreate_index: makes the collection anew, which needs a key with the scope admin."""
        if recreate_index:
            self.collection.drop()
            self._create()
        else:
            self.collection.delete(filter=EVERYTHING)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        try:
            return self.collection.delete(filter=to_filter(filters) or EVERYTHING)
        except Inexpressible:
            return self.collection.delete([one.id for one in self.filter_documents(filters)])

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets these fields of all that match; each by itself, and none over a change that came meanwhile."""
        found = self.filter_documents(filters)
        for one in found:
            while not self._changed(one.id, meta):
                pass
        return len(found)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        try:
            return self.collection.count(to_filter(filters))
        except Inexpressible:
            return len(self.filter_documents(filters))

    # Of all that match: the whole collection is read.

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        metas = self._metas(filters)
        return {field: len(_distinct(metas, _bare(field))) for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        names = {bool: "boolean", int: "integer", float: "float", str: "text", list: "list", dict: "object"}
        found: dict[str, dict[str, str]] = {}
        for meta in self._metas(None):
            for field, value in meta.items():
                found.setdefault(field, {"type": names.get(type(value), "null")})
        return found

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        values = _distinct(self._metas(None), _bare(metadata_field))
        return {"min": min(values, default=None), "max": max(values, default=None)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int | None = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """A page of the values, ordered by their texts, and how many there are. search_term: that is in them."""
        values = _distinct(self._metas(filters), _bare(metadata_field))
        term = (search_term or "").casefold()
        kept = sorted(
            (one for one in values if term in str(one).casefold()), key=lambda one: (str(one), repr(type(one)))
        )
        return kept[from_ : None if size is None else from_ + size], len(kept)

    # For asyncio

    async def count_documents_async(self) -> int:
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        await asyncio.to_thread(self.delete_all_documents, recreate_index)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int | None = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        ask = self.get_metadata_field_unique_values
        return await asyncio.to_thread(ask, metadata_field, search_term, from_, size, filters)

    # For retrievers

    def search(
        self,
        query: str | None = None,
        embedding: list[float] | None = None,
        *,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[Document]:
        """The best documents, with their scores. options: any of a search.

        Raises ValueError for an embedding where the server encodes."""
        if embedding is not None and self.embedding_dim is None:
            raise ValueError("the server encodes this store's texts: ask by text, or make a store with embedding_dim")
        ids: list[str] | None = None
        try:
            asked = to_filter(filters)
        except Inexpressible:
            asked, ids = None, [one.id for one in self.filter_documents(filters)]
            if not ids:
                return []
        if embedding is not None:
            asked = _WITH if asked is None else {"and": [asked, _WITH]}
        found: Answer = self.collection.search(
            query,
            vectors=embedding,
            k=top_k,
            filter=asked,
            ids=ids,
            include=["text", "metadata", "vectors"] if self.embedding_dim is not None else ["text", "metadata"],
            **options,
        )
        bodies = [Sent(hit.id, hit.text, "", hit.metadata, hit.vectors) for hit in found]
        return [_document(body, hit.score) for body, hit in zip(bodies, found, strict=True)]

    def _create(self) -> Collection:
        assert self._sheaf is not None, "opened"
        of: dict[str, Any] = {"model": self.model}
        if self.embedding_dim is not None:
            of = {"model": None, "kind": "dense", "dim": self.embedding_dim, "similarity": self.similarity}
        return self._sheaf.create(self.name, **of, **(self.options or {}))

    def _sent(self, document: Document) -> Sent:
        beside: dict[str, Any] = {}
        if document.content is None:
            beside["content"] = None
        if document.blob is not None:
            beside["blob"] = document.blob.to_dict()
        if document.sparse_embedding is not None:
            beside["sparse"] = document.sparse_embedding.to_dict()
        meta = stored(document.meta, beside)
        vector: Any = document.embedding
        if self.embedding_dim is None:
            if vector is not None:
                raise ValueError(
                    f"document {document.id!r} has an embedding, but the server encodes this store's texts"
                )
        elif vector is None or not np.any(vector):
            # A vector of zeros has no cosine with anything; it is kept beside it.
            if vector is not None:
                beside["zeros"] = True
            vector = np.eye(1, self.embedding_dim)[0]
            meta = {**stored(document.meta, beside), BARE: True}
        return Sent(document.id, document.content or "", "", meta, vector)

    def _changed(self, id: str, meta: Mapping[str, Any]) -> bool:
        """Whether it was, or is gone; False where another wrote meanwhile."""
        try:
            one = self.collection.get(id)
            given, beside = restored({name: value for name, value in one.metadata.items() if name != BARE})
            new: dict[str, Any] = stored({**given, **meta}, beside)
            bare = {BARE: one.metadata[BARE]} if BARE in one.metadata else {}
            self.collection.patch(id, {**new, **bare}, replace=True, version=one.version)
        except NotFound:
            return True
        except PreconditionFailed:
            return False
        return True

    def _metas(self, filters: dict[str, Any] | None) -> list[dict[str, Any]]:
        try:
            found: Iterable[Any] = self.collection.documents(filter=to_filter(filters), include=["metadata"])
            return [_document(one).meta for one in found]
        except Inexpressible:
            return [one.meta for one in self.filter_documents(filters)]


def _document(one: Sent, score: float | None = None) -> Document:
    kept = dict(one.metadata)
    bare = kept.pop(BARE, False)
    meta, beside = restored(kept)
    embedding: list[float] | None = None
    if one.vectors is not None and (not bare or "zeros" in beside):
        embedding = [0.0] * len(np.asarray(one.vectors)) if bare else np.asarray(one.vectors).tolist()
    return Document(
        id=one.id,
        content=beside.get("content", one.text),
        meta=meta,
        embedding=embedding,
        blob=ByteStream.from_dict(beside["blob"]) if "blob" in beside else None,
        sparse_embedding=SparseEmbedding.from_dict(beside["sparse"]) if "sparse" in beside else None,
        score=score,
    )


def _distinct(metas: Iterable[Mapping[str, Any]], field: str) -> list[Any]:
    """The values of a field, 1 and 1.0 and true apart."""
    found: dict[tuple[type, str], Any] = {}
    for meta in metas:
        value = meta.get(field)
        if value is not None:
            found.setdefault((type(value), str(value)), value)
    return list(found.values())


def _bare(field: str) -> str:
    return field.removeprefix("meta.")
