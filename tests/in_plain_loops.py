"""The truth that orders, counts and groups of documents are held to: dictionaries and loops, document by document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from app.collection.collection import Collection
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.results.sorting import SortKey
from app.types import F32, Document

VALUES: dict[str, list[Any]] = {
    "n": [0, -0.0, 1, 1.0, -1, 0.5, 2**53, 2**53 + 1, float(2**53)],
    "mixed": [True, False, 1, 0, "1", "", "é", "e\u0301", "b", "\U0001f600", "\uffee", ["a"], 3.5],
    "kind": ["function", "class"],
    "tags": [["x"], ["x", "y"], [], ["z"]],
    "day": ["2024-01-05", "2024-01-31", "2024-02-01", "2023-12-31T23:59:59Z", "no day"],
}


def drawn(count: int, seed: int = 0, dim: int = 3) -> list[Document]:
    """Documents with few values, some of them missing, and ids in no order of writing; whole numbers as vectors."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        metadata = {
            field: values[int(random.integers(len(values)))]
            for field, values in VALUES.items()
            if random.random() < 0.8
        }
        vectors: F32 = random.integers(-2, 3, (int(random.integers(1, 4)), dim)).astype(np.float32)
        vectors[~vectors.any(axis=1), 0] = 1
        text = " ".join(f"word{int(word)}" for word in random.integers(0, 12, 6))
        found.append(Document(f"{'é' if i % 7 == 0 else ''}{random.integers(1_000)}-{i}", text, "", metadata, vectors))
    return found


def fill(collection: Collection, documents: Sequence[Document], every: int) -> dict[str, Document]:
    """Writes them in segments of ``every`` and a tail, replaces some and deletes some; what stands."""
    stands: dict[str, Document] = {}
    for start in range(0, len(documents), every):
        batch = list(documents[start : start + every])
        old = list(stands)[::9]
        batch += [Document(i, stands[i].text, "", {"n": 7}, stands[i].vectors) for i in old]
        write_documents(collection, batch)
        stands.update((one.id, one) for one in batch)
        gone = list(stands)[3::8]
        delete_ids(collection, gone)
        for identifier in gone:
            del stands[identifier]
        if start + every < len(documents):
            seal(collection)
    return stands


def place(value: Any, *, descending: bool) -> tuple[int, Any]:
    """The key that a value is compared by, in a sort that is reversed where it descends."""
    if value is None or isinstance(value, list):
        return (-1 if descending else 9), 0
    return (0 if isinstance(value, bool) else 1 if isinstance(value, int | float) else 2), value


def in_order(documents: Iterable[Document], keys: Sequence[SortKey]) -> list[str]:
    """Their ids: one stable sort a key, the last key first, the bytes of the id before all."""
    found = sorted(documents, key=lambda one: one.id.encode())
    for key in reversed(keys):
        descending = key.descending
        alike: dict[tuple[int, Any], list[Document]] = {}
        for one in found:
            alike.setdefault(place(one.metadata.get(key.field), descending=descending), []).append(one)
        found = [one for value in sorted(alike, reverse=descending) for one in alike[value]]
    return [one.id for one in found]
