"""The layers of a collection: every array that it keeps of its passages, declared once.

Holders, writers, readers and copiers of vectors (the tail, its chunks, segments, merges, snapshots, archives) loop over
this table and know no layer by name; what gives a layer its meaning (an index, a score) knows that one alone. A
new layer is an entry here, and whatever makes and uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from app.collection.spec import CollectionSpec

POOLED: Final = "pooled"
"""One dense vector a passage; in a dense collection the vector itself, in a sequence a segment."""
TOKENS: Final = "tokens"
"""Token vectors as codes (app.codes)."""
NORMS: Final = "norms"
"""At least the length of the longest vector of a passage that exact scoring reads."""
ENCODED: Final = "encoded"
"""The first stage's encodings of the token vectors."""
SPANS: Final = "spans"
"""Where a passage of a text begins and ends in it, in characters."""
SPARSE: Final = "sparse"
"""Sparse vectors (app.sparse.rows), a model's or callers' own."""
VALUES: Final = "values"
"""Vectors that documents carry for whoever finds them: of a document's first row. Hits read them."""
RAW: Final = "raw"
"""Callers' vectors as they came."""

Check: TypeAlias = Literal["vectors", "norms", "finite", "spans", "sparse"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One array. Of n rows it has n values, or, ragged, a run of values each, beside n + 1 offsets.

    width: numbers of a value; None is one number and no axis. stored: their type in a segment. held: their type in
    memory and in the tail's chunks, where each is one that ``stored`` holds. hot: whether queries read it; what is cold
    lies on disk alone. whole: whether a segment reads it when it is opened, else it is mapped. staged: whether another
    first stage makes it anew. empty: whether a run may have no value. check: what a stranger's numbers are held to,
    beside shape and type: `vectors` are finite and not too long, `norms` are true of the scored layer, `spans` end
    behind their beginning, `sparse` are rows of app.sparse, `finite` are just that.
    """

    name: str
    width: int | None
    stored: np.dtype[Any]
    held: np.dtype[Any]
    check: Check
    ragged: bool = False
    hot: bool = True
    whole: bool = False
    staged: bool = False
    empty: bool = False

    def shape(self, values: int | None) -> tuple[int | None, ...]:
        """Of so many values."""
        return (values,) if self.width is None else (values, self.width)

    def to_json(self) -> dict[str, Any]:
        """The facts that a reader of its file must know."""
        return {
            "name": self.name,
            "held": self.held.str,
            "ragged": self.ragged,
            "whole": self.whole,
            "staged": self.staged,
        }


def layers(spec: CollectionSpec, encoded_dim: int | None) -> tuple[Layer, ...]:
    """The layers of a collection whose first stage makes encodings of ``encoded_dim`` numbers, None for none.

    Here is asked what kind of collection it is: whoever has the layers need not.
    """
    float32 = np.dtype(np.float32)
    found = [
        Layer(POOLED, spec.stored_dim, float32, float32, "vectors"),
        Layer(NORMS, None, float32, float32, "norms", whole=True),
    ]
    if scored(spec) == TOKENS:
        code = spec.code
        found.append(Layer(TOKENS, code.width, code.dtype, code.dtype, "vectors", ragged=True))
    if encoded_dim is not None:
        found.append(Layer(ENCODED, encoded_dim, spec.encoded_dtype, float32, "finite", staged=True))
    if spec.splits:
        int32 = np.dtype(np.int32)
        found.append(Layer(SPANS, 2, int32, int32, "spans"))
    if spec.sparse is not None:
        pairs = np.dtype(np.int32)
        found.append(Layer(SPARSE, 2, pairs, pairs, "sparse", ragged=True, empty=True))
    if spec.values is not None:
        found.append(Layer(VALUES, spec.values.dim, float32, float32, "finite", ragged=True, empty=True))
    if spec.keeps_raw:
        # Where they are normalised before they are used, callers' vectors may have any length.
        check: Check = "finite" if spec.measure.unit else "vectors"
        found.append(Layer(RAW, spec.dim, float32, float32, check, ragged=True, hot=False))
    return tuple(found)


def vector_field(spec: CollectionSpec) -> str:
    """The member in which a document or a query brings its vectors."""
    return "vector" if spec.kind == "dense" else "vectors"


def scored(spec: CollectionSpec) -> str:
    """The layer of exact scores."""
    return TOKENS if spec.kind == "multi_vector" else POOLED
