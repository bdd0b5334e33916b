"""The first stage of a generation's segments: chosen, fitted, kept, and why it is as it is.

A generation names it (``StageRecord``); what was fitted lies in `encodings/ID.safetensors`, written and fsynced before
the transaction that names it, checked whole when it is opened, and removed when no generation names it any more. All
segments of a generation share it, so that a query is encoded once; the tail keeps to the collection's own first stage,
which needs no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import numpy as np

from app.collection.first_stage import FirstStage
from app.collection.passages import Passages, decoded, encode
from app.collection.spec import CollectionSpec
from app.errors import Invalid
from app.store.directory import Directory
from app.store.files import FileRecord, damaged, read_verified, write_file
from app.store.layout import ENCODINGS
from app.store.system import room
from app.types import F32, I64

Json = Mapping[str, Any]

LOSS: Final = 0.08
"""Of the exact best, how much less is found of the later documents before a fit is made anew. Five times the
standard deviation between samples of one kind (.015); a fit finds its own documents better by .02 to .03."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a fit found its documents to be encoded as.

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
            or not {"fde", "pooled"} >= set(stage.sources)
        ):
            raise Invalid(f"a first stage has the sources fde, pooled or both, got {list(stage.sources)}")
        if ("fde" in stage.sources) != (stage.encoding is not None):
            raise Invalid("a first stage has an encoding if fde is one of its sources, and only then")
        if stage.encoding is not None and (spec.kind == "dense" or stage.encoding.dim != spec.dim):
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
    """What was found of the documents that the fit knew and of later ones. fit: its ``next_seq``, to which it belongs.
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
        """The record of a choice, whose file is durable when this returns. Raises StorageFull; nothing is left then."""
        encoding = choice.stage.encoding
        content = b"" if encoding is None else encoding.to_bytes()
        named: tuple[str, FileRecord] | tuple[None, None] = (None, None)
        if content:
            name = f"{uuid4().hex}.safetensors"
            try:
                with room():
                    self._folder.make()
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
    if stage.encoding is None or passages.tokens is None:
        return replace(passages, encoded=None)
    return replace(passages, encoded=encode(stage.encoding, decoded(passages.tokens, spec.code), passages.pooled, spec))
