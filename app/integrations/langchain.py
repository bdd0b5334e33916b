"""LangChain: a vector store and a retriever. Needs the extra `langchain`.

    store = SheafVectorStore(Sheaf().create("papers"))                   # the server encodes: token vectors and words
    store = SheafVectorStore(Sheaf().create("mine", model=None, kind="dense", dim=768), embedding)  # LangChain does
    retriever = SheafRetriever(collection=Sheaf().collection("papers"), k=5, options={"rerank": {"model": "cross"}})
    retriever = SheafRetriever(collection=Sheaf().collection("papers"), options={"passages": 2})   # not whole documents

With ``passages`` the best ones of each hit are answered in its place, each with where it stands
(``metadata["passage"]``). Filters are Sheaf's own: ``filter={"year": {"gte": 2020}}``. For asyncio the same is done in
a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field

from app.client import Answer, Collection, Hit, Sheaf
from app.client import Document as Sent
from app.integrations.metadata import restored


class SheafVectorStore(VectorStore):
    """A collection as LangChain's. Searches by text are hybrid where the server encodes, as Sheaf's are, and by vectors
    where LangChain does; any option of a search (mode, rerank, boosts ...) may be given to each method."""

    def __init__(self, collection: Collection, embedding: Embeddings | None = None) -> None:
        """embedding: of a dense collection without an encoder; None: the collection has one."""
        self.collection, self._embedding = collection, embedding

    @property
    def embeddings(self) -> Embeddings | None:
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Inserts them, or replaces those whose id is there. Raises ValueError where the lists differ in length."""
        said = list(texts)
        names = [name or uuid4().hex for name in (ids or [None] * len(said))]
        about = metadatas or [{}] * len(said)
        if not len(said) == len(names) == len(about):
            raise ValueError(
                f"expected as many ids and metadatas as texts; got {len(names)}, {len(about)}, {len(said)}"
            )
        vectors = [None] * len(said) if self._embedding is None else self._embedding.embed_documents(said)
        self.collection.write(
            Sent(name, text, "", metadata, vector)
            for name, text, metadata, vector in zip(names, said, about, vectors, strict=True)
        )
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """By ids, or by ``filter``. Raises ValueError without either: everything is deleted with the collection."""
        self.collection.delete(ids, filter=kwargs.get("filter"))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(one.id, one.text, one.metadata) for one in self.collection.get_many(list(ids))]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """With the scores of the search; the larger the better."""
        return _scored(self._by_text(query, k, kwargs))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in _scored(self.collection.search(vectors=embedding, k=k, **kwargs))]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """By the server, of the best ``fetch_k``; 1 - lambda_mult is the weight of its diversity."""
        diversity = {"weight": 1 - lambda_mult, "among": max(k, fetch_k)}
        return [document for document, _ in _scored(self._by_text(query, k, {"diversity": diversity, **kwargs}))]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        diversity = {"weight": 1 - lambda_mult, "among": max(k, fetch_k)}
        return self.similarity_search_by_vector(embedding, k, diversity=diversity, **kwargs)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: Collection | None = None,
        **kwargs: Any,
    ) -> SheafVectorStore:
        """With ``collection``, or a new one of ``name`` at the server ``url``, opened with ``key``, of the embedding's
        dimensions. Raises ValueError without either."""
        if collection is None:
            if "name" not in kwargs:
                raise ValueError("expected a collection, or the name of a new one")
            options: dict[str, Any] = {}
            if embedding is not None:
                options = {"model": None, "kind": "dense", "dim": len(embedding.embed_query("a"))}
            sheaf = Sheaf(kwargs.get("url", "http://127.0.0.1:8000"), kwargs.get("key"))
            collection = sheaf.create(kwargs["name"], **options)
        store = cls(collection, embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _by_text(self, query: str, k: int, options: dict[str, Any]) -> Answer:
        if self._embedding is None:
            return self.collection.search(query, k=k, **options)
        vector = self._embedding.embed_query(query)
        # Words are asked for too where the mode has them.
        text = query if options.get("mode") in ("hybrid", "lexical") else None
        return self.collection.search(
            text, vectors=None if options.get("mode") == "lexical" else vector, k=k, **options
        )

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._embedding is None:
            raise NotImplementedError(
                "scores of words and of MaxSim have no upper end, so they are no relevance of 0 to 1"
            )
        return lambda cosine: (1 + cosine) / 2


class SheafRetriever(BaseRetriever):
    """The best documents of a collection that the server encodes. options: any of a search."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    collection: Collection
    k: int = 10
    options: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        found = self.collection.search(query, **{"k": self.k, **self.options, **kwargs})
        return [document for document, _ in _scored(found)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        ask = self._get_relevant_documents
        made: list[Document] = await run_in_executor(None, ask, query, run_manager=run_manager.get_sync(), **kwargs)
        return made


def _scored(found: Iterable[Hit]) -> list[tuple[Document, float]]:
    """Documents with their scores; where the search asks for passages these in their place, best first of each."""
    made = []
    for hit in found:
        document = _document(hit.id, hit.text, hit.metadata)
        if not hit.passages:
            made.append((document, hit.score))
        for one in hit.passages:
            place = {"start": one.start, "stop": one.stop, "headings": one.headings, "pages": one.pages}
            about = {**document.metadata, "passage": place}
            made.append((Document(id=hit.id, page_content=one.text, metadata=about), hit.score))
    return made


def _document(id: str, text: str, metadata: Any) -> Document:
    return Document(id=id, page_content=text, metadata=restored(metadata)[0])
