"""A collection as it is described to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from app.errors import StoreError
from app.types import Kind, Precision, Similarity


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as it stands. documents: what a search finds now; segments: of the generation; tail: documents not
    yet in it. first_stage: of the segments, and why so. bytes: on disk. read_only: why it takes no writes or no text
    from here. error: what is wrong with it."""

    name: str
    model: str | None
    kind: Kind
    dim: int
    similarity: Similarity
    precision: Precision
    keep_vectors: bool
    documents: int
    passages: int
    bytes: int
    generation: int
    segments: int
    tail: int
    first_stage: dict[str, Any]
    read_only: str | None
    state: Literal["ready", "quarantined"]
    error: str | None


def quarantined_info(name: str, error: StoreError) -> CollectionInfo:
    """Of a collection that cannot be opened, all that is known."""
    return CollectionInfo(
        name, None, "multi_vector", 0, "cosine", "float16", True, 0, 0, 0, 0, 0, 0, {}, error.message, "quarantined",
        error.message,
    )  # fmt: skip
