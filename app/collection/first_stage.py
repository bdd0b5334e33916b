"""Which vectors find the candidates of a collection, and how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from app.collection.spec import CollectionSpec
from app.encodings import load_encoding
from app.encodings.muvera import Muvera, MuveraParameters
from app.encodings.protocol import Encoding
from app.errors import Invalid
from app.vector_index import KINDS

Source: TypeAlias = Literal["fde", "pooled"]

WIDTH: Final = 400
"""Candidates of a search that names no width; see ARCHITECTURE.md for the measurement behind it."""

WIDENING: Final = 4
"""Rows that codes find for each candidate, in a segment that is searched by codes; see ARCHITECTURE.md."""

PARAMETERS: Final = MuveraParameters(
    repetitions=20, hyperplanes=3, projection=32, fill=False, final_projection=2_048, seed=0
)
"""The default encoding; see ARCHITECTURE.md for the measurement behind it."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """sources: whose candidate lists are interleaved. encoding: makes the FDEs, if `fde` is a source. width: passages
    that are rescored unless the query says otherwise. widening: a cascade of three widths, where a segment is searched
    by codes: they find ``widening * width`` rows of each source, the full vectors order these, the best ``width`` over
    all sources get the exact score. index: the kind of vector index (app.vector_index) of the larger segments, where
    tuning chose one; None: by their size.
    """

    sources: tuple[Source, ...]
    encoding: Encoding | None
    width: int
    widening: int = WIDENING
    index: str | None = None

    @classmethod
    def default(cls, spec: CollectionSpec) -> FirstStage:
        """A dense collection has only its vectors; a multi-vector one takes FDEs and pooled vectors in turn."""
        if spec.kind == "dense":
            return cls(("pooled",), None, WIDTH)
        return cls(("fde", "pooled"), Muvera(spec.dim, default_parameters(spec)), WIDTH)

    def to_json(self) -> dict[str, Any]:
        encoding = None if self.encoding is None else self.encoding.to_json()
        return {
            "sources": list(self.sources),
            "encoding": encoding,
            "width": self.width,
            "widening": self.widening,
            "index": self.index,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], content: bytes = b"") -> FirstStage:
        """content: what ``encoding.to_bytes`` gave. Raises Invalid, Damaged."""
        encoding = None if value["encoding"] is None else load_encoding(value["encoding"], content)
        index = value.get("index")
        if index is not None and index not in KINDS:
            raise Invalid(f"expected a kind of vector index, {', '.join(KINDS)}, got {index!r}")
        return cls(tuple(value["sources"]), encoding, value["width"], value.get("widening", WIDENING), index)


def default_parameters(spec: CollectionSpec) -> MuveraParameters:
    """Of the encoding that needs no data. Vectors of few dimensions are not projected, and an encoding is never
    sketched to more dimensions than it has.
    """
    parameters = replace(PARAMETERS, projection=None) if spec.dim <= (PARAMETERS.projection or 0) else PARAMETERS
    if parameters.wide_dim(spec.dim) <= (parameters.final_projection or 0):
        parameters = replace(parameters, final_projection=None)
    return parameters
