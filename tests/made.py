"""The types that the fixtures of conftest.py make, by name. (A conftest cannot be imported from: there are several.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import SearchResult
from app.settings import Settings
from app.sources.protocol import Entry
from app.types import Document, Encoded, Kind

DIM = 32
OpenCatalogue = Callable[..., Catalogue]
MakeCollection = Callable[..., Collection]


def write_in_segments(collection: Collection, documents: Sequence[Document], every: int) -> None:
    """Segments of ``every``, the last of them in the tail."""
    for start in range(0, len(documents), every):
        write_documents(collection, documents[start : start + every])
        if start + every < len(documents):
            seal(collection)


def pages(ask: Callable[[str | None], SearchResult]) -> Iterator[SearchResult]:
    """Every page of a list, each asked for by the cursor of the one before."""
    cursor: str | None = None
    while True:
        page = ask(cursor)
        yield page
        if page.next is None:
            return
        cursor = page.next


class CountingEncoder(DeterministicEncoder):
    """The deterministic encoder, which remembers the texts that it was given."""

    def __init__(self, dim: int, kind: Kind) -> None:
        super().__init__(dim, kind)
        self.texts: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        self.texts += texts
        return super().encode_documents(texts)


class OneEncoder(Encoders):
    """Gives one encoder, the test's own, under every name, to documents and to queries."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings.models)
        self._encoder = encoder

    def get(self, name: str, kind: Kind, dim: int | None = None, *, patient: bool = False) -> Encoder:
        return self._encoder

    def encode_queries(
        self, name: str, kind: Kind, texts: Sequence[str], dim: int | None = None, *, alone: bool = False
    ) -> Encoded:
        return self._encoder.encode_queries(texts)


class Listed:
    """A source of documents."""

    name = "listed"
    unit: Literal["bytes", "documents"] = "documents"
    skipped = 0

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents, self.total, self.done = documents, len(documents), 0

    def entries(self) -> Iterator[Entry]:
        for document in self._documents:
            self.done += 1
            yield Entry(self.done, document)
