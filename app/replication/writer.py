"""The one writer of a log: how it becomes that, and how a former one finds out that it is not any more.

A commit is one put of a new object under the next number of the writer's epoch. No clock decides who may: a claim
raises the epoch in the head by compare-and-swap, then *seals* the epochs before, each by a record under the first
number that is free in it. What the former writer put before the seal is in the log; whatever it tries afterwards meets
the seal, today or in a year. Three things make that hold:

- A put of a new object succeeds wherever an object was removed. So seals are never removed. Commits are: a writer that
  is not sure of one puts that same one again, which where it was removed makes garbage of a commit that is in the
  history anyway; any other of its puts is under the number of the seal.
- A claim that slept while another one was made, and its garbage collected, would seal at a number that is free only
  because its record was removed. So after sealing it looks at the head again: as long as that is its own, nobody has
  collected anything.
- A lost answer is settled by putting the same record under the same number, never by leaving the number aside: it
  may still arrive.

What a claim reads from the store decides what is in the log; a local database that has more than that is ahead of it,
and is to be taken back (its number and chain tell).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import BinaryIO, Final

from app.errors import Damaged, Fenced, Invalid, ObjectChanged, ObjectMissing, ObjectTaken, StoreUnavailable, Unsure
from app.objects.clock import Clock
from app.objects.protocol import Objects, Tag, check_name
from app.replication.head import HEAD, Gone, Head, Position, Records, encode_head, read_head
from app.replication.leases import live_numbers
from app.replication.protocol import Commit, Fetch, Opened, Stored
from app.replication.records import Record, decode, encode, record_name
from app.replication.terms import Terms
from app.replication.trail import Trail

FILES: Final = "files/"
_FILE: Final = re.compile(rf"{FILES}\d{{12}}/[A-Za-z0-9]+/[A-Za-z0-9._-]+")
_CLAIMS: Final = 8
"""How often a claim is begun anew because the head changed under it."""
_PIECE: Final = 1 << 20


def claim(
    objects: Objects, fetch: Fetch, *, terms: Terms | None = None, clock: Clock | None = None, note: str = ""
) -> LogWriter:
    """Makes this process the writer; whoever was it is fenced. A log that is not there begins here.

    fetch: reads the base, while the log is read. note: who this is, for messages of those it fences. Raises Fenced
    where another claim came after this one, Damaged.
    """
    terms, clock = terms or Terms(), clock or Clock()
    head, tag = _claimed(objects, terms, clock, note)
    trail = Trail(objects, head.start)

    def fetched() -> ObjectMissing | None:
        try:
            fetch(head.base)
        except ObjectMissing as error:
            return error
        return None

    listed, missing = objects.together(
        [lambda: objects.list("log/", record_name(head.start.epoch, head.start.number)), fetched]
    )
    commits = trail.read(listed)  # type: ignore[arg-type]
    while trail.position.epoch < head.epoch:
        commits += _sealed(objects, trail, clock, note)
    if not still(objects, tag):
        raise Fenced(f"another writer has claimed {objects.place} at the same time; nothing was changed")
    if missing is not None:
        raise Damaged(f"{objects.place}: the base that its head names is missing: {missing}") from missing  # type: ignore[misc]
    opened = Opened(head.base, head.start.number, head.start.chain, tuple(commits))
    return LogWriter(objects, head, tag, trail, opened, clock)


def still(objects: Objects, tag: Tag) -> bool:
    """Whether the head is the one that has the tag."""
    return read_head(objects)[1] == tag


def _claimed(objects: Objects, terms: Terms, clock: Clock, note: str) -> tuple[Head, Tag]:
    for _ in range(_CLAIMS):
        try:
            before, tag = read_head(objects)
        except ObjectMissing:
            nonce = clock.nonce()
            start = Position(1, 0, hashlib.sha256(nonce.encode()).hexdigest())
            head = Head(1, nonce, note, terms.grace_s, terms.lease_s, start)
            expected: Tag | None = None
        else:
            head = replace(
                before,
                epoch=before.epoch + 1,
                nonce=clock.nonce(),
                note=note,
                grace_s=terms.grace_s,
                lease_s=terms.lease_s,
            )
            expected = tag
        try:
            return head, objects.replace(HEAD, encode_head(head), expected)
        except ObjectChanged:
            continue
    raise StoreUnavailable(
        f"{objects.place}: its head changed {_CLAIMS} times while it was claimed; try again when others do not"
    )


def _sealed(objects: Objects, trail: Trail, clock: Clock, note: str) -> list[Commit]:
    """Seals the trail's epoch at the first free number: commits that came before it."""
    epoch, number = trail.next
    seal = Record("seal", epoch, number, trail.position.chain, clock.nonce(), note=note)
    content, _ = encode(seal)
    try:
        objects.put_new(record_name(epoch, number), content)
    except ObjectTaken as error:
        content = error.content
    commit = trail.take(content)
    return [] if commit is None else [commit, *trail.read()]


class LogWriter:
    """``Writer`` (``app.replication.protocol``), made by ``claim``."""

    def __init__(self, objects: Objects, head: Head, tag: Tag, trail: Trail, opened: Opened, clock: Clock) -> None:
        self._objects = objects
        self._head = head
        self._tag = tag
        self._clock = clock
        self._position = trail.position
        self._places = dict(trail.places)
        self._files = {commit.number: commit.files for commit in opened.commits}
        self._uploaded: set[str] = set()
        self._opened = opened
        self._drafted: tuple[Commit, bytes] | None = None
        self._unsure = False
        self._fenced = ""
        # Over requests to the log, over requests to the head, and over what both look up.
        self._logging, self._heading, self._memory = Lock(), Lock(), Lock()

    @property
    def opened(self) -> Opened:
        return self._opened

    def took(self) -> None:
        self._opened = replace(self._opened, commits=())

    @property
    def epoch(self) -> int:
        return self._head.epoch

    @property
    def number(self) -> int:
        return self._position.number

    @property
    def unsure(self) -> Commit | None:
        drafted = self._drafted
        return drafted[0] if self._unsure and drafted else None

    def draft(self, content: bytes, files: Sequence[str] = (), /) -> Commit:
        with self._logging:
            self._require_sure()
            number = self._position.number + 1
            named = tuple(check_name(name) for name in files)
            record = Record(
                "commit", self.epoch, number, self._position.chain, self._clock.nonce(), named, content=content
            )
            encoded, chain = encode(record)
            commit = Commit(number, content, named, chain)
            self._drafted = commit, encoded
            return commit

    def append(self, commit: Commit, /) -> None:
        with self._logging:
            self._require_sure()
            if self._drafted is None or self._drafted[0] != commit:
                raise Invalid(f"commit {commit.number} is not the one that was drafted last")
            self._put()

    def settle(self) -> Commit | None:
        with self._logging:
            self._require_own()
            if not self._unsure or self._drafted is None:
                return None
            commit = self._drafted[0]
            try:
                self._put()
            except StoreUnavailable as error:
                raise Unsure(f"commit {commit.number} is not settled yet: {error}") from error
            return commit

    def _put(self) -> None:
        assert self._drafted is not None
        commit, encoded = self._drafted
        name = record_name(self.epoch, commit.number)
        # Until there is a clear answer: whatever else is raised on the way (no memory, Ctrl-C) says nothing of it.
        before, self._unsure = self._unsure, True
        try:
            self._objects.put_new(name, encoded)
        except Unsure:
            raise
        except StoreUnavailable:
            self._unsure = before
            raise
        except ObjectTaken as error:
            self._unsure = before
            raise self._fence(name, error.content) from None
        with self._memory:
            self._places[commit.number] = Position(self.epoch, commit.number, commit.chain)
            self._files[commit.number] = commit.files
            self._uploaded -= set(commit.files)
        self._position = Position(self.epoch, commit.number, commit.chain)
        self._drafted, self._unsure = None, False

    def put_file(self, stream: BinaryIO, label: str, /) -> Stored:
        self._require_own()
        name = check_name(f"{FILES}{self.epoch:012}/{self._clock.nonce()}/{label}")
        start = stream.tell()
        checksum = hashlib.sha256()
        while piece := stream.read(_PIECE):
            checksum.update(piece)
        stream.seek(start)
        with self._memory:
            self._uploaded.add(name)
        return Stored(name, self._objects.put(name, stream), checksum.hexdigest())

    def rebase(self, number: int, base: Stored, files: Iterable[str], /) -> None:
        needed = tuple(sorted(set(files) - {base.name}))

        def begun_later(head: Head) -> Head:
            if not head.start.number <= number <= self.number:
                raise Invalid(f"a base is of a commit from {head.start.number} to {self.number}, not of {number}")
            with self._memory:
                start = self._places.get(number, head.start)
                named = dict(self._files)
                records = self._removable(number)
            later = {name for of, names in named.items() if of > number for name in names}
            before = {*head.files, *(name for names in named.values() for name in names)}
            before |= {head.base.name} if head.base else set()
            names = before - {*needed, base.name} - later
            gone = Gone(number, self._clock.now(), tuple(sorted(names)), records)
            return replace(head, start=start, base=base, files=needed, gone=(*head.gone, gone))

        with self._heading:
            self._swap(begun_later)

    def collect(self) -> list[str]:
        with self._heading:
            self._require_own()
            now = self._clock.now()
            old = now - self._head.grace_s
            # What else lies there is not this log's to remove.
            listed = [one for one in self._objects.list(FILES) if _FILE.fullmatch(one.name)]
            lowest, ended = live_numbers(self._objects, now, self._head.lease_s, self._head.grace_s)
            # What was listed until now is no later writer's, as long as the head is still this one's.
            self._look()
            due = [gone for gone in self._head.gone if collectable(gone, old, lowest)]
            known = self._known()
            # Of writers that ended before they named them: no state has or had them.
            orphans = [one.name for one in listed if one.name not in known and one.modified <= old]
            names = [name for gone in due for name in (*gone.names, *_names(gone.records))] + orphans + ended
            self._objects.remove(names)
            if due:
                self._swap(lambda head: replace(head, gone=tuple(gone for gone in head.gone if gone not in due)))
            return names

    def _known(self) -> set[str]:
        """Files that are not to be taken as nobody's."""
        head = self._head
        with self._memory:
            known = {*head.files, *self._uploaded, *(name for names in self._files.values() for name in names)}
        known |= {head.base.name} if head.base else set()
        return known | {name for gone in head.gone for name in gone.names}

    def _removable(self, number: int) -> tuple[Records, ...]:
        """Commits after the start up to ``number``: all there is but the seals."""
        by_epoch: dict[int, list[int]] = {}
        for of, place in self._places.items():
            if of <= number:
                by_epoch.setdefault(place.epoch, []).append(of)
        return tuple(Records(epoch, min(numbers), max(numbers)) for epoch, numbers in sorted(by_epoch.items()))

    def _swap(self, change: Callable[[Head], Head]) -> None:
        """Replaces the head by what ``change`` makes of it. Raises Fenced where it is another writer's."""
        self._require_own()
        for _ in range(_CLAIMS):
            changed = replace(change(self._head), nonce=self._clock.nonce())
            try:
                tag = self._objects.replace(HEAD, encode_head(changed), self._tag)
            except ObjectChanged:
                self._look()
            else:
                self._adopt(changed, tag)
                return
        raise StoreUnavailable(f"{self._objects.place}: its head could not be replaced; try again")

    def look(self) -> None:
        with self._heading:
            self._require_own()
            self._look()

    def _look(self) -> None:
        """At the head: it may be one that this writer put and was told nothing of. Raises Fenced."""
        head, tag = read_head(self._objects)
        if head.epoch != self.epoch:
            raise self._fence_by(head.epoch, head.note)
        self._adopt(head, tag)

    def _adopt(self, head: Head, tag: Tag) -> None:
        self._head, self._tag = head, tag
        with self._memory:
            self._files = {of: names for of, names in self._files.items() if of > head.start.number}
            self._places = {of: place for of, place in self._places.items() if of > head.start.number}
            self._uploaded -= {*head.files, head.base.name if head.base else ""}

    def _require_own(self) -> None:
        if self._fenced:
            raise Fenced(self._fenced)

    def _require_sure(self) -> None:
        self._require_own()
        if self._unsure and self._drafted:
            raise Unsure(f"whether commit {self._drafted[0].number} is in the log is not known yet: settle it first")

    def _fence(self, name: str, content: bytes) -> Fenced | Damaged:
        """Why a number is not free: another writer sealed the epoch."""
        record, _ = decode(content, f"{name} in {self._objects.place}")
        if record.kind != "seal":
            return Damaged(f"{name} in {self._objects.place}: a commit that this writer did not put has its number")
        return self._fence_by(self.epoch + 1, record.note)

    def _fence_by(self, epoch: int, note: str) -> Fenced:
        self._fenced = (
            f"another writer ({note or 'without a name'}) has taken over {self._objects.place} from epoch {epoch} on: "
            f"this one, of epoch {self.epoch}, commits no more; open anew to follow, or to take over"
        )
        return Fenced(self._fenced)


def collectable(gone: Gone, old: float, lowest: float) -> bool:
    """Whether nobody reads it any more. old: the time before which the grace period has passed. lowest: the number of
    the oldest state that a live lease stands at."""
    return gone.since <= old and gone.number <= lowest


def _names(records: Iterable[Records]) -> Iterator[str]:
    for one in records:
        for number in range(one.first, one.last + 1):
            yield record_name(one.epoch, number)
