"""The first stage: which vectors find the candidates of a collection, how many, and how it is kept.

The tail has the collection's own first stage, which needs no data. The segments of a generation may have another, which
was fitted to what is stored; the generation names it (``StageRecord``). A fitted encoding lies in
`encodings/ID.safetensors`, written and fsynced before the transaction that names it, checked whole when it is opened,
and removed when no generation names it any more. All segments share it, so that a query is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import numpy as np

from app.collection.layers import ENCODED, POOLED, TOKENS, scored
from app.collection.passages import Passages, decoded, encode
from app.collection.spec import CollectionSpec
from app.encodings import load_encoding
from app.encodings.muvera import Muvera, MuveraParameters
from app.encodings.protocol import Encoding
from app.errors import Invalid
from app.store.directory import Directory
from app.store.files import FileRecord, damaged, read_verified, write_file
from app.store.layout import ENCODINGS
from app.store.system import room
from app.types import F32, I64
from app.vector_index import KINDS

Source: TypeAlias = Literal["fde", "pooled", "segments"]
LAYER_OF: Final[Mapping[Source, str]] = {"fde": ENCODED, "pooled": POOLED, "segments": POOLED}
"""Where the vectors of each source lie."""

WIDTH: Final = 400
"""Candidates of a search that names no width; see docs/decisions.md for the measurement behind it."""

DENSE_WIDTH: Final = 32
"""The same where rows are candidates by the very vectors that score them, so that only codes or a walk can lose one;
see docs/decisions.md. A text that was split is scored by its opening too, and takes WIDTH."""

SEGMENT_WIDTH: Final = 128
"""The same of a sequence: places where a query may begin, and as many segments that each of its own finds."""

WIDENING: Final = 4
"""Rows that codes find for each candidate, in a segment that is searched by codes; see docs/decisions.md."""

PARAMETERS: Final = MuveraParameters(
    repetitions=20, hyperplanes=3, projection=32, fill=False, final_projection=2_048, seed=0
)
"""The default encoding; see docs/decisions.md for the measurement behind it."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """sources: whose candidate lists are interleaved. encoding: makes the FDEs, if `fde` is a source. width: passages
    that are rescored unless the query says otherwise. widening: a cascade of three widths, where a segment is searched
    by codes: they find ``widening * width`` rows of each source, the full vectors order these, the best ``width`` over
    all sources get the exact score. index: the kind of vector index (app.vector_index) of the larger segments, where
    tuning chose one; None: by their size. neighbours: links of each row of a graph that a query's network is followed
    along, in the larger segments of a dense collection; 0 for none.
    """

    sources: tuple[Source, ...]
    encoding: Encoding | None
    width: int
    widening: int = WIDENING
    index: str | None = None
    neighbours: int = 0

    @classmethod
    def default(cls, spec: CollectionSpec) -> FirstStage:
        """A dense collection has only its vectors, a sequence its segments; a multi-vector one takes FDEs and pooled
        vectors in turn."""
        if spec.ordered:
            return cls(("segments",), None, SEGMENT_WIDTH)
        if scored(spec) == POOLED or spec.scanned:
            return cls(("pooled",), None, WIDTH if spec.splits else DENSE_WIDTH)
        return cls(("fde", "pooled"), Muvera(spec.stored_dim, default_parameters(spec)), WIDTH)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of its sources."""
        return tuple(LAYER_OF[source] for source in self.sources)

    @property
    def encoded_dim(self) -> int | None:
        """Numbers of an encoding; None without one."""
        return None if self.encoding is None else self.encoding.encoded_dim

    def to_json(self) -> dict[str, Any]:
        encoding = None if self.encoding is None else self.encoding.to_json()
        return {
            "sources": list(self.sources),
            "encoding": encoding,
            "width": self.width,
            "widening": self.widening,
            "index": self.index,
            "neighbours": self.neighbours,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], content: bytes = b"") -> FirstStage:
        """content: what ``encoding.to_bytes`` gave. Raises Invalid, Damaged."""
        encoding = None if value["encoding"] is None else load_encoding(value["encoding"], content)
        index = value.get("index")
        if index is not None and index not in KINDS:
            raise Invalid(f"expected a kind of vector index, {', '.join(KINDS)}, got {index!r}")
        widening, neighbours = value.get("widening", WIDENING), value.get("neighbours", 0)
        return cls(tuple(value["sources"]), encoding, value["width"], widening, index, neighbours)


def sources_of(spec: CollectionSpec) -> frozenset[Source]:
    """The sources that a first stage of the collection may have."""
    return frozenset({"segments"} if spec.ordered else {"fde", "pooled"})


def default_parameters(spec: CollectionSpec) -> MuveraParameters:
    """Of the encoding that needs no data. Vectors of few dimensions are not projected, and an encoding is never
    sketched to more dimensions than it has.
    """
    parameters = replace(PARAMETERS, projection=None) if spec.stored_dim <= (PARAMETERS.projection or 0) else PARAMETERS
    if parameters.wide_dim(spec.stored_dim) <= (parameters.final_projection or 0):
        parameters = replace(parameters, final_projection=None)
    return parameters


Json = Mapping[str, Any]

LOSS: Final = 0.08
"""Of the exact best, how much less is found of the later documents before a fit is made anew. Five times the
standard deviation between samples of one kind (.015); a fit finds its own documents better by .02 to .03."""


@dataclass(frozen=True, slots=True)
class Known:
    """The encoding of a fit's documents, as the fit found it.

    seqs: (n,) ascending. encoded: (n, encoded_dim) float32. segments: names of those that had these documents then; a
    rebuild may have given them other vectors since.
    """

    seqs: I64
    encoded: F32
    segments: frozenset[str]

    @classmethod
    def sorted(cls, seqs: I64, encoded: F32, segments: frozenset[str]) -> Known:
        """Of documents in any order."""
        order = np.argsort(seqs)
        return cls(seqs[order], encoded[order], segments)

    def of(self, seqs: I64) -> F32 | None:
        """Rows of these documents; None unless all are known."""
        places = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
        return self.encoded[places] if (self.seqs[places] == seqs).all() else None


@dataclass(frozen=True, slots=True)
class StageChoice:
    """A first stage for segments. reason: for the generation, in a few words. recipe: how it is made anew, None for one
    that is not to be. fitted: what it was fitted on, as ``fitting.draw_sample`` says it. report: what was tried,
    measured and chosen. known: of documents that its encoding has met already.
    """

    stage: FirstStage
    reason: str
    recipe: Json | None = None
    fitted: Json = field(default_factory=dict)
    report: Json = field(default_factory=dict)
    known: Known | None = None

    def check(self, spec: CollectionSpec) -> None:
        """Raises Invalid where a collection of this kind cannot have it."""
        stage = self.stage
        if (
            not stage.sources
            or len(set(stage.sources)) != len(stage.sources)
            or not sources_of(spec) >= set(stage.sources)
        ):
            able = ", ".join(sorted(sources_of(spec)))
            raise Invalid(f"a first stage here has its sources among {able}, got {list(stage.sources)}")
        if ("fde" in stage.sources) != (stage.encoding is not None):
            raise Invalid("a first stage has an encoding if fde is one of its sources, and only then")
        if stage.encoding is not None and (scored(spec) != TOKENS or stage.encoding.dim != spec.stored_dim):
            raise Invalid(f"the encoding takes token vectors of {stage.encoding.dim} dimensions; collection is another")
        if not (stage.width >= 1 and stage.widening >= 1):
            raise Invalid(f"expected a width and a widening of at least 1, got {stage.width} and {stage.widening}")


@dataclass(frozen=True, slots=True)
class StageRecord:
    """How the database names a first stage: a ``StageChoice`` as JSON, and the file of what was fitted, where that is.

    description: of ``FirstStage``, or None while a rebuild has taken it away and the recipe is to be followed again.
    """

    description: Json | None
    recipe: Json | None
    fitted: Json
    report: Json
    file: str | None = None
    record: FileRecord | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.description,
            "recipe": self.recipe,
            "fitted": self.fitted,
            "report": self.report,
            "file": None if self.record is None else {"name": self.file, **self.record.to_json()},
        }

    @classmethod
    def from_json(cls, value: Json) -> StageRecord:
        file = value["file"]
        named = (None, None) if file is None else (file["name"], FileRecord.from_json(file))
        return cls(value["stage"], value["recipe"], value["fitted"], value["report"], *named)

    def taken_away(self) -> StageRecord:
        """The same choice, to be made anew."""
        return replace(self, description=None, file=None, record=None)


@dataclass(frozen=True, slots=True)
class Drift:
    """The findings about documents that the fit knew and about later ones. fit: its ``next_seq``, to which it belongs.
    later: how many documents had come since.
    """

    fit: int
    later: int
    found_known: float
    found_later: float

    @property
    def lost(self) -> bool:
        return self.found_known - self.found_later > LOSS


class StageStore:
    """The files of one collection's fitted encodings."""

    def __init__(self, files: Directory) -> None:
        """files: of the collection."""
        self._folder = files.folder(ENCODINGS)

    def write(self, choice: StageChoice) -> StageRecord:
        """The record of a choice, whose file is durable when this returns; its folder is there.

        Raises StorageFull; nothing is left then.
        """
        encoding = choice.stage.encoding
        content = b"" if encoding is None else encoding.to_bytes()
        named: tuple[str, FileRecord] | tuple[None, None] = (None, None)
        if content:
            name = f"{uuid4().hex}.safetensors"
            try:
                with room():
                    self._folder.parent.sync()
                    named = name, write_file(self._folder, name, content)
                    self._folder.sync()
            except BaseException:
                self._folder.remove(name)
                raise
        return StageRecord(choice.stage.to_json(), choice.recipe, choice.fitted, choice.report, *named)

    def load(self, record: StageRecord, otherwise: FirstStage) -> FirstStage:
        """The first stage; ``otherwise`` while it is to be made anew. Raises Damaged."""
        if record.description is None:
            return otherwise
        if record.file is None or record.record is None:
            return FirstStage.from_json(record.description)
        content = read_verified(self._folder, record.file, record.record)
        try:
            return FirstStage.from_json(record.description, content)
        except Invalid as error:
            raise damaged(self._folder, record.file, error.message) from error

    def sweep(self, record: StageRecord | None) -> None:
        """Removes the files that the generation does not name."""
        kept = None if record is None else record.file
        for name in self._folder.list():
            if name != kept:
                self._folder.remove(name)


def recoded(passages: Passages, stage: FirstStage, spec: CollectionSpec) -> Passages:
    """The same passages, encoded for another first stage from their stored vectors."""
    if stage.encoding is None:
        return passages.with_layer(ENCODED, None)
    tokens = decoded(passages.ragged(TOKENS), spec.code)
    return passages.with_layer(ENCODED, encode(stage.encoding, tokens, passages.flat(POOLED), spec))
