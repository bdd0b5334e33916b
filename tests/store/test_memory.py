"""Data that do not fit into memory are refused with the figures, and nothing of them is lost."""

from __future__ import annotations

import re

import pytest
from made import OpenCatalogue

from app.errors import MemoryShort
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.store import memory
from app.types import Document


def test_a_collection_that_does_not_fit_is_not_opened(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_catalogue() as catalogue:
        for name in ("large", "small"):
            collection = catalogue.create(name, model="words", kind="multi_vector")
            write_documents(collection, [Document("a", "text")])
        large = catalogue.get("large")
        write_documents(large, [Document(f"d{i}", "text " * 50) for i in range(200)])
        seal(large)
        write_documents(large, [Document(f"e{i}", "text " * 50) for i in range(200)])
        (segment,) = large.published.segments
        needed = segment.part.loaded
        with large.database.read() as connection:
            needed += connection.execute("SELECT sum(size) FROM tail").fetchone()[0]
        assert 0 < segment.part.loaded < segment.part.nbytes
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with open_catalogue() as catalogue:
        catalogue.serve("http://here")
        with pytest.raises(MemoryShort) as refused:
            catalogue.get("large")
        assert refused.value.status == 503
        figures = [int(found.replace(",", "")) for found in re.findall(r"\b\d[\d,]*", refused.value.message)]
        assert figures[:2] == [needed, needed - 1]
        assert catalogue.quarantined().keys() == {"large"}
        assert catalogue.describe("small").documents == 1
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    with open_catalogue() as catalogue:
        assert catalogue.describe("large").documents == 401
