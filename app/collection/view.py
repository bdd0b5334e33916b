"""The parts, deletions and documents of one moment, as one query sees them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np

from app.collection.first_stage import FirstStage, StageRecord
from app.collection.layers import RAW, SPARSE, TOKENS, VALUES
from app.collection.part import Own, View
from app.collection.segment import Segment, SegmentRecord
from app.collection.spec import CollectionSpec
from app.collection.tail import Tail, TailView
from app.columns.column import Column
from app.columns.columns import ColumnsBuilder
from app.compute import deadline
from app.errors import PartsUnreached
from app.filters import Filter, Shape, fields_of, typed, warnings_of
from app.metadata.declared import Declared
from app.metadata.names import OWN, named
from app.schema.notices import Notice
from app.sparse.rows import only_of
from app.store.database import read_state
from app.store.layout import ENCODINGS, SEGMENTS
from app.store.rows import fetch_documents, require_rows
from app.types import F32, I64, Document, Mask, SparseVector

V = TypeVar("V", bound=View)

IDENTIFIED: Final = 1_024
"""Ids that are read at a time."""

_REPLACED: Final = """SELECT id, seq FROM dead JOIN documents USING (seq) WHERE died > :commit AND seq < :next"""
"""Documents that stood as of a commit and stand no more."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The manifest: which segments a collection has, since when and why. Stored in the database as one JSON value."""

    number: int
    segments: tuple[SegmentRecord, ...] = ()
    created: str = ""
    reason: str = "created"
    stage: StageRecord | None = None
    """The first stage of the segments; None: the collection's own, which needs no data, as in the tail."""

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "segments": [{"name": s.name, "passages": s.passages, "crc32": s.crc} for s in self.segments],
            "created": self.created,
            "reason": self.reason,
            "first_stage": None if self.stage is None else self.stage.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Generation:
        if unknown := value.keys() - cls(0).to_json().keys():
            raise KeyError(*sorted(unknown))
        segments = tuple(SegmentRecord(s["name"], s["passages"], s["crc32"]) for s in value["segments"])
        stage = value["first_stage"]
        chosen = None if stage is None else StageRecord.from_json(stage)
        return cls(value["number"], segments, value["created"], value["reason"], chosen)


def new_files(added: Sequence[Segment], stage: StageRecord | None, now: Generation) -> list[tuple[str, str]]:
    """What the next generation names and this one does not: (the collection's folder, name in it) of each."""
    found = [(SEGMENTS, part.record.name) for part in added]
    if stage is not None and stage.file is not None and (now.stage is None or now.stage.file != stage.file):
        found.append((ENCODINGS, stage.file))
    return found


@dataclass(frozen=True, slots=True)
class SegmentView(View):
    """A segment as one snapshot sees it."""

    part: Segment


@dataclass(frozen=True, slots=True)
class TailState(View):
    """The tail as one snapshot sees it."""

    part: TailView


@dataclass(frozen=True, slots=True)
class Published:
    """A collection as of one commit. Immutable; a new one replaces it in one assignment."""

    commit: int
    next_seq: int
    live: int
    digest: int
    generation: Generation
    stage: FirstStage
    """Of the segments."""
    tail_stage: FirstStage
    segments: tuple[SegmentView, ...]
    tail: TailState
    # The writer's growing arrays behind ``tail``; queries never touch them.
    growing: Tail = field(repr=False)
    declared: Declared = field(default_factory=dict)
    """The types of metadata fields."""

    @property
    def views(self) -> tuple[View, ...]:
        """Parts that have a document that stands."""
        views: tuple[View, ...] = (*self.segments, self.tail)
        return tuple(view for view in views if view.live)

    @property
    def passages(self) -> int:
        """Rows of documents that stand."""
        parts: tuple[View, ...] = (*self.segments, self.tail)
        return sum(int(np.count_nonzero(view.part.owners.spread(view.alive))) for view in parts)

    def written(self, gone: I64, next_seq: int, live: int, digest: int) -> Published:
        """After a write: with what was appended to ``growing``, without the versions ``gone``."""
        part = self.growing.view()
        added = np.ones(len(part.seqs) - len(self.tail.part.seqs), bool)
        return replace(
            self,
            commit=self.commit + 1,
            next_seq=next_seq,
            live=live,
            digest=digest % 2**62,
            segments=tuple(_without(view, gone) for view in self.segments),
            tail=TailState(part, np.concatenate([_without(self.tail, gone).alive, added])),
        )

    def swapped(
        self,
        generation: Generation,
        stage: FirstStage,
        added: Sequence[Segment],
        removed: Sequence[Segment],
        sealed_to: int,
        live: I64 | None,
        growing: Tail,
    ) -> tuple[Published, I64]:
        """``added`` in the place of ``removed`` and of the tail below ``sealed_to``, and the dead versions that no part
        has any more.

        generation: without its segments. live: the versions that stand; None where they are those of what goes.
        growing: an empty tail, for what remains of this one.
        """
        gone = [view for view in self.segments if view.part in removed]
        stay = [view for view in self.segments if view.part not in removed]
        tail, sealed = self.tail.part, self.tail.part.seqs < sealed_to
        standing = [view.part.seqs[view.alive] for view in gone]
        standing.append(tail.seqs[self.tail.alive & sealed])
        alive = np.concatenate(standing) if live is None else live
        new = [SegmentView(part, np.isin(part.seqs, alive)) for part in added]
        held = np.concatenate([np.zeros(0, np.int64), *(view.part.seqs[~view.alive] for view in new)])
        left = [view.part.seqs[~view.alive] for view in gone]
        left.append(tail.seqs[~self.tail.alive & sealed])
        left_over = np.flatnonzero(~sealed)
        if len(left_over):
            growing.append(
                tail.seqs[left_over],
                tail.metadata(left_over),
                tail.passages(left_over),
                tail.counts(left_over),
                None if tail.words is None else tail.words.sequences(left_over),
            )
        published = replace(
            self,
            commit=self.commit + 1,
            generation=replace(generation, segments=tuple(view.part.record for view in (*stay, *new))),
            stage=stage,
            segments=(*stay, *new),
            tail=TailState(growing.view(), self.tail.alive[left_over]),
            growing=growing,
        )
        return published, np.setdiff1d(np.concatenate(left), held)

    def locate(self, seqs: Sequence[int]) -> dict[int, tuple[View, int]]:
        """Sequence number -> (view, document of its part), for those that some part holds."""
        found: dict[int, tuple[View, int]] = {}
        wanted = np.asarray(seqs, np.int64)
        for view in (*self.segments, self.tail):
            places, present = _places(view.part.seqs, wanted)
            found.update((int(seq), (view, int(place))) for seq, place in zip(wanted[present], places, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class Reached:
    """segments: of a collection that lies on several machines. answered: for how many of them somebody did."""

    segments: int
    answered: int

    @property
    def partial(self) -> bool:
        return self.answered != self.segments


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``published``, and a read transaction in which every document row that it names can be read."""

    name: str
    published: Published
    connection: sqlite3.Connection = field(repr=False)
    views: tuple[View, ...]
    lost: frozenset[str] = frozenset()
    """Segments for which nobody answers: their documents are not asked."""

    def without(self, error: PartsUnreached) -> Snapshot:
        """With these segments lost, too. Raises the error where that is none more."""
        if error.names <= self.lost:
            raise error
        return replace(self, lost=self.lost | error.names)

    @property
    def reached(self) -> Reached | None:
        """How many of the segments with a document that stands are asked, where not all are."""
        if not self.lost:
            return None
        there = sum(view.live > 0 for view in self.published.segments)
        return Reached(there, there - len(self.lost))

    def unreached(self) -> list[Notice]:
        """Where not all are."""
        found = self.reached
        if found is None:
            return []
        said = (
            f"of {found.segments:,} segments {found.segments - found.answered:,} are not answered for by any shard: "
            "their documents are not among the hits, nor counted"
        )
        return [Notice("segments_unreached", said, "")]

    def identify(self, seqs: Sequence[int]) -> dict[int, bytes]:
        """Sequence numbers -> ids, without reading the texts, and so without their checksums.

        Raises Damaged where a row is missing.
        """
        found: dict[int, bytes] = {}
        for start in range(0, len(seqs), 500):
            part = list(seqs[start : start + 500])
            marks = ",".join("?" * len(part))
            found.update(self.connection.execute(f"SELECT seq, id FROM documents WHERE seq IN ({marks})", part))
        require_rows(found, seqs, self.name)
        return found

    def headed(self, seqs: Sequence[int], characters: int) -> dict[int, tuple[bytes, str]]:
        """Sequence numbers -> ids, and the first characters of titles, without checksums. Raises Damaged,
        TooSlow."""
        found: dict[int, tuple[bytes, str]] = {}
        for start in range(0, len(seqs), 500):
            deadline.check(deadline.current())
            part = list(seqs[start : start + 500])
            marks = ",".join("?" * len(part))
            query = f"SELECT seq, id, substr(title, 1, ?) FROM documents WHERE seq IN ({marks})"
            found.update((seq, head) for seq, *head in self.connection.execute(query, [characters, *part]))
        require_rows(found, seqs, self.name)
        return found

    @property
    def generation(self) -> int:
        return self.published.generation.number

    @property
    def stages(self) -> list[FirstStage]:
        """For each view the first stage that finds candidates in it."""
        now = self.published
        return [now.tail_stage if view is now.tail else now.stage for view in self.views]

    def allowed(self, condition: Filter | None, among: I64 | None = None) -> list[Mask]:
        """For each view the documents that stand and match. among: ascending sequence numbers of the only ones, where
        not all are asked."""
        if among is not None:
            masks = []
            for view in self.views:
                mask = np.zeros(len(view.alive), bool)
                mask[_places(view.part.seqs, among)[0]] = True
                masks.append(mask)
        elif condition is None:
            return [np.zeros_like(one.alive) if self._is_lost(one) else one.alive for one in self.views]
        else:
            masks = [np.ones(len(view.alive), bool) for view in self.views]
        for mask, view in zip(masks, self.views, strict=True):
            mask &= view.alive
            if self._is_lost(view):
                mask[:] = False
            if condition is not None:
                mask &= self.select(view, condition)
        return masks

    def _is_lost(self, view: View) -> bool:
        return bool(self.lost) and isinstance(view.part, Segment) and view.part.record.name in self.lost

    @property
    def declared(self) -> Declared:
        return self.published.declared

    def select(self, view: View, condition: Filter) -> Mask:
        """(documents,) bool, new: those of a view that match, whether they stand or not."""
        asked = fields_of(condition)
        own = {name: self.own(view, name) for name in sorted(asked.intersection(OWN))}
        return view.part.select(typed(condition, self.declared), own)

    def column(self, view: View, field: str) -> Column | None:
        """The values of a field in a view, as the collection declares it; None where no document has one."""
        if field in OWN:
            return self.own(view, field)
        found = view.part.column(field)
        return None if found is None else found.of(self.declared.get(named(field)))

    def shapes(self, field: str) -> Set[Shape]:
        """The shapes of a field's values, as they are stored; versions that were deleted lately count."""
        if field in OWN:
            return {"string"}
        return frozenset().union(*(view.part.shapes(field) for view in self.views))

    @property
    def fields(self) -> Set[str]:
        """The metadata fields that some document has; versions that were deleted lately count."""
        return frozenset().union(*(view.part.fields for view in self.views))

    def unfit(self) -> dict[str, int]:
        """For each declared field how many documents have another value there."""
        return {
            field: sum(int(np.count_nonzero(view.part.unfit(field, kind) & view.alive)) for view in self.views)
            for field, kind in self.declared.items()
        }

    def own(self, view: View, field: str) -> Column:
        """The ids or the titles of a view's documents: read once a part, when they are first asked for."""
        kept = view.part.own.get(field)
        # It may have been read when rows were purged that an older snapshot has.
        if kept is None or bool((view.alive & ~kept.there).any()):
            kept = view.part.own[field] = self._read_own(view.part.seqs, field)
        return kept.column

    def _read_own(self, seqs: I64, field: str) -> Own:
        values: list[Mapping[str, Any]] = [{}] * len(seqs)
        there = np.zeros(len(seqs), bool)
        query = f"SELECT seq, {field.removeprefix('$')} FROM documents WHERE seq BETWEEN ? AND ?"
        rows = self.connection.execute(query, (int(seqs[0]), int(seqs[-1])))
        while some := rows.fetchmany(IDENTIFIED):
            deadline.check(deadline.current())
            places, present = _places(seqs, np.array([seq for seq, _ in some], np.int64))
            there[places] = True
            found = (value for (_, value), is_there in zip(some, present.tolist(), strict=True) if is_there)
            for place, value in zip(places.tolist(), found, strict=True):
                values[place] = {field: value.decode() if isinstance(value, bytes) else value}
        builder = ColumnsBuilder()
        builder.add_named(values)
        return Own(builder.finish().keys[field], there)

    def versions(self, identifiers: Iterable[str]) -> I64:
        """Ascending sequence numbers of what stands under these ids. No text is read."""
        keys, now = sorted({one.encode() for one in identifiers}), self.published
        found: list[int] = []
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self.connection.execute(f"SELECT seq FROM live WHERE id IN ({marks})", some)
            found += [seq for (seq,) in rows if seq < now.next_seq]
        if read_state(self.connection).commits != now.commit:
            wanted = set(keys)
            found += [seq for key, seq in self.connection.execute(_REPLACED, self._moment()) if key in wanted]
        return np.sort(np.array(found, np.int64))

    def warnings(self, condition: Filter | None, at: str = "/filter") -> list[Notice]:
        """Where a filter asks for what no document has; versions that were deleted lately count as documents. at: its
        place in the request."""
        if condition is None or not self.views:
            return []
        return warnings_of(typed(condition, self.declared), self.shapes, lambda: self.fields, at)

    def matching(self, condition: Filter | None) -> I64:
        """Ascending sequence numbers of the documents that match."""
        chosen = [v.part.seqs[mask] for v, mask in zip(self.views, self.allowed(condition), strict=True)]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))

    def listed(self, after: bytes, limit: int, condition: Filter) -> list[int]:
        """The sequence numbers of the first ``limit`` documents, by the ids' bytes, that match and whose id comes after
        ``after``. No text is read."""
        return self.first_by_id(self.matching(condition), limit, after)

    def first_by_id(self, seqs: I64, limit: int, after: bytes = b"") -> list[int]:
        """Of documents that stand (``seqs``, ascending) the first ``limit``, by the ids' bytes, whose id comes after
        ``after``. No text is read. Raises TooSlow."""
        if len(seqs) ** 2 <= limit * self.published.live:
            # Few are sooner identified than come across.
            named = self.identify(seqs.tolist())
            later = sorted((identifier, seq) for seq, identifier in named.items() if identifier > after)
            return [seq for _, seq in later[:limit]]
        found: list[int] = []
        rows = self._standing(after)
        while len(found) < limit and (some := rows.fetchmany(IDENTIFIED)):
            deadline.check(deadline.current())
            standing = np.array([seq for _, seq in some], np.int64)
            found += standing[_places(seqs, standing)[1]].tolist()
        return found[:limit]

    def _standing(self, after: bytes) -> sqlite3.Cursor:
        """(id, sequence number) of what stood when it was published, by id. The connection may be a commit ahead."""
        standing = "SELECT id, seq FROM live WHERE id > :after"
        if read_state(self.connection).commits != self.published.commit:
            standing += f" AND seq < :next UNION ALL {_REPLACED} AND id > :after"
        return self.connection.execute(f"{standing} ORDER BY id", {"after": after, **self._moment()})

    def _moment(self) -> dict[str, int]:
        """The parameters of ``_REPLACED``."""
        return {"next": self.published.next_seq, "commit": self.published.commit}

    def documents(self, seqs: Sequence[int]) -> dict[int, Document]:
        """The versions with these sequence numbers. Raises Damaged."""
        return fetch_documents(self.connection, seqs, self.name)


def _places(seqs: I64, wanted: I64) -> tuple[I64, Mask]:
    """Places of those wanted that are in ascending seqs, and which were."""
    places = np.searchsorted(seqs, wanted)
    present = places < len(seqs)
    present[present] = seqs[places[present]] == wanted[present]
    return places[present].astype(np.int64), present


def _without(view: V, seqs: I64) -> V:
    """The same view where the part has none of them, so that a write costs what it touches."""
    places, _ = _places(view.part.seqs, seqs)
    if not len(places):
        return view
    alive = view.alive.copy()
    alive[places] = False
    return replace(view, alive=alive)


def by_part(published: Published, seqs: Sequence[int]) -> list[tuple[View, list[int], I64]]:
    """Each part that holds some of the versions, with these and their places there."""
    parts: dict[int, tuple[View, list[int], list[int]]] = {}
    for seq, (view, place) in published.locate(seqs).items():
        _, some, places = parts.setdefault(id(view), (view, [], []))
        some.append(seq)
        places.append(place)
    return [(view, some, np.array(places, np.int64)) for view, some, places in parts.values()]


def given_sparse(published: Published, seqs: Sequence[int]) -> dict[int, SparseVector | None]:
    """Callers' sparse vectors of these versions, to the bit; those that no part holds are left out. Raises Damaged."""
    found: dict[int, SparseVector | None] = {}
    for view, some, places in by_part(published, seqs):
        owners = view.part.owners
        rows, own = view.part.ragged(SPARSE).take(owners.rows_of(places)), owners.take(places)
        found.update((seq, only_of(rows, own, i)) for i, seq in enumerate(some))
    return found


def values_of(published: Published, seqs: Sequence[int]) -> dict[int, F32 | None]:
    """What these versions carry, to the bit, (n, the collection's own width) each, None for nothing; those that no part
    holds are left out. Raises Damaged."""
    found: dict[int, F32 | None] = {}
    for view, some, places in by_part(published, seqs):
        rows = view.part.ragged(VALUES).take(view.part.owners.firsts[places])
        found.update((seq, own if len(own) else None) for seq, own in zip(some, rows, strict=True))
    return found


def numbers_of(published: Published, seqs: Sequence[int], include: Set[str], spec: CollectionSpec) -> dict[int, int]:
    """How many numbers are included of each version: of its vectors, and of what it carries."""
    found: dict[int, int] = {}
    for view, some, places in by_part(published, seqs):
        rows = np.cumsum(np.concatenate([[0], view.part.owners.take(places).counts]))
        of_layers = view.part.counts(places)
        counts = np.zeros(rows[-1], np.int64)
        if "vectors" in include:
            own = of_layers.get(RAW if spec.keeps_raw else TOKENS, np.ones(rows[-1], np.int64))
            counts = own * spec.dim + (2 * of_layers[SPARSE] if spec.given_sparse else 0)
        if "values" in include and spec.values is not None:
            counts = counts + of_layers[VALUES] * spec.values.dim
        sums = np.diff(np.cumsum(np.concatenate([[0], counts]))[rows])
        found.update(zip(some, sums.tolist(), strict=True))
    return found
