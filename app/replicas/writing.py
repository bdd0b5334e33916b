"""The writer's side: each commit is in the store before it is durable here.

``Writing`` is the ``Home`` of a collection's database (``app.store.directory``). What it puts is never undone
here: where an answer was lost, or this disk refused what the store has, ``settle`` applies it to the local copy before
the next write, as any reader would.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Final

from app.errors import Conflict, Diverged, Fenced, ObjectMissing, StoreUnavailable, Unavailable, Unsure
from app.objects.conditions import check_conditions
from app.objects.protocol import Objects
from app.replicas.applying import advance, after, base_of, read_base
from app.replicas.files import Sending, Unit
from app.replicas.position import Position, position_of, put_position
from app.replicas.rows import changes, note_changes
from app.replication.protocol import Commit, Opened, Stored, Writer
from app.replication.reader import look
from app.store.database import Database
from app.store.directory import Directory
from app.store.faults import reach

log = logging.getLogger(__name__)

_COMMITS: Final = 1_000
"""Commits since the last base at which there is another, at the latest: a new reader reads each of them."""
_BYTES: Final = 2**22
"""Bytes of commits since the last base that need none, however small it was."""
_MOST_BYTES: Final = 2**28
"""And at which there is one, however large it was: whoever begins holds them in memory."""


class Writing:
    """Of one collection, from its claim on until another machine claims it. Used by one write at a time."""

    def __init__(
        self, files: Directory, name: str, objects: Objects, history: str, claim: Callable[[], Writer]
    ) -> None:
        self._files, self._name, self._objects, self.history = files, name, objects, history
        self._claim = claim
        self._writer: Writer | None = None
        self._sent: dict[Unit, Mapping[str, Stored]] = {}
        """Files that were put for a commit that is to come."""
        self._unfinished: Commit | None = None
        """What the store has, or may have, and this copy not yet."""
        self._since, self._base_size = [0, 0], 0
        """Commits, and their bytes, since the last base; and its size."""
        self.fenced = False
        """Whether another machine is the writer now."""
        self.stale = False
        """Whether the copy is to be fetched anew before it can be the writer's."""
        self.on_due: Callable[[], None] = lambda: None
        """Told when there is something to do in the background."""

    # The home of a database

    def watch(self, connection: sqlite3.Connection) -> None:
        try:
            note_changes(connection)
        except BaseException:
            connection.close()
            raise

    def send(self, files: Sequence[tuple[str, str]]) -> None:
        # What fails here and now is found out by the commit, which puts what was not put before.
        if self._writer is None or self._unfinished is not None:
            return
        with self._unless_fenced():
            sent = Sending(self._files, self._name, self._objects, self._writer).put([Unit(*one) for one in files])
        # One work at a time makes files for a commit, and what another one left is not needed any more.
        self._sent = sent
        if sent:
            reach("files.early")

    def put(self, connection: sqlite3.Connection, commits: int) -> None:
        if self._writer is None or self._unfinished is not None:
            raise Unavailable(f"what the store has of collection {self._name} is not known yet: try again")
        writer = self._writer
        with self._unless_fenced():
            names = Sending(self._files, self._name, self._objects, writer, self._sent).send(connection)
            content = changes(connection)
            commit = writer.draft(content, names)
            put_position(connection, self.history, commit.number, commit.chain, commits)
            # The position is each copy's own.
            connection.execute("DELETE FROM changed_meta")
            reach("commit.drafted")
            self._unfinished = commit
            try:
                writer.append(commit)
            except Unsure:
                raise
            except (StoreUnavailable, Fenced):
                self._unfinished = None
                raise
        reach("commit.sent")
        self._since[0] += 1
        self._since[1] += len(content)

    def done(self) -> None:
        self._unfinished = None
        if self.base_due:
            self.on_due()

    def settle(self) -> None:
        with self._unless_fenced():
            if self._writer is None:
                self._claim_late()
                return
            writer, commit = self._writer, self._unfinished
            if writer.unsure is not None:
                commit = writer.settle()
            if commit is not None and commit.number <= writer.number:
                self._apply([commit])
            self._unfinished = None

    # Claiming

    @property
    def claimed(self) -> bool:
        return self._writer is not None

    def claim(self) -> None:
        """Brings the copy up to the end of the history, and becomes its writer: whoever has been it is not disturbed
        by a copy that cannot be.

        Raises StoreUnavailable, Diverged where the copy has commits that the store has not, ``BaseNeeded`` where the
        copy is older than what the log still has.
        """
        try:
            self._follow(look(self._objects))
        except ObjectMissing as error:
            raise StoreUnavailable(
                f"{self._objects.place} has no log of collection {self._name}, though it is listed there: look whether "
                f"the store is mounted, and whole ({error.message})"
            ) from error
        writer = self._claim()
        opened = writer.opened
        self._follow(opened)
        writer.took()
        self._base_size = 0 if opened.base is None else opened.base.size
        self._since = [len(opened.commits), sum(len(commit.content) for commit in opened.commits)]
        self._writer = writer

    def _claim_late(self) -> None:
        try:
            self.claim()
        except BaseNeeded:
            self.stale = True
            self.on_due()
            raise StoreUnavailable(
                f"the copy of collection {self._name} is older than the log in {self._objects.place}, and is fetched "
                "anew: try again in a while"
            ) from None

    def adopt(self) -> None:
        """Claims a history that has nothing yet, and puts the whole copy there. Raises StoreRefused where the store
        keeps no conditions."""
        check_conditions(self._objects)
        writer = self._claim()
        with closing(Database(self._files.path, self._name)) as database:
            with database.write() as txn:
                names = Sending(self._files, self._name, self._objects, writer).send(txn, whole=True)
                opened = writer.opened
                commits = txn.execute("SELECT commits + 1 FROM state").fetchone()[0]
                put_position(txn, self.history, opened.number, opened.chain, commits)
            log.info("collection %s: %d files were put into %s", self._name, len(names), self._objects.place)
        self._writer = writer
        self.rebase()

    def _follow(self, opened: Opened) -> None:
        self._apply(hold_to(self._name, self._position(), opened, self.history, self._commits()))

    def _position(self) -> Position | None:
        with closing(Database(self._files.path, self._name)) as database:
            return position_of(database)[0]

    def _commits(self) -> int:
        with closing(Database(self._files.path, self._name)) as database:
            return position_of(database)[1]

    def _apply(self, commits: list[Commit]) -> None:
        if commits:
            with closing(Database(self._files.path, self._name)) as database:
                position, _ = position_of(database)
                left = after(commits, 0 if position is None else position.number)
                advance(self._files, database, self._objects, self.history, left)

    @contextmanager
    def _unless_fenced(self) -> Iterator[None]:
        """Raises Conflict in the place of Fenced, from the first time on."""
        if self.fenced:
            raise self.refusal()
        try:
            yield
        except Fenced as error:
            self.fenced = True
            log.warning("collection %s: %s", self._name, error.message)
            self.on_due()
            raise self.refusal() from error

    def look(self) -> None:
        """Finds out who the writer is, also where nothing is written. Raises Conflict, StoreUnavailable."""
        with self._unless_fenced():
            if self._writer is not None:
                self._writer.look()

    def refusal(self) -> Conflict:
        return Conflict(
            f"another server has become the writer of collection {self._name} in {self._objects.place}: send writes "
            "there; this server follows it, until it is started again",
            code="collection_busy",
        )

    # Bases

    @property
    def base_due(self) -> bool:
        count, size = self._since
        return count >= _COMMITS or size >= min(max(_BYTES, self._base_size), _MOST_BYTES)

    def rebase(self) -> None:
        """Puts a copy of the database into the store, after which the log begins, and removes what nobody needs any
        more. Beside writes. Raises StoreUnavailable, StorageFull."""
        writer = self._writer
        if writer is None or self.fenced:
            return
        since = list(self._since)
        file = base_of(self._files)
        try:
            number, names = read_base(self._files, file, self._name)
            with self._files.open(file) as stream:
                base = writer.put_file(stream, "base")
            reach("base.sent")
            writer.rebase(number, base, names)
            reach("base.named")
        finally:
            self._files.remove(file)
        self._base_size = base.size
        self._since = [self._since[0] - since[0], self._since[1] - since[1]]
        writer.collect()


class BaseNeeded(Exception):
    """The copy is older than what the log still has: it begins again with a base."""


def hold_to(name: str, position: Position | None, opened: Opened, history: str, commits: int) -> list[Commit]:
    """The commits that a copy lacks. commits: of its database. Raises Diverged, BaseNeeded."""
    if position is None or position.history != history:
        raise Diverged.of(name, "it has another history than the collection of this name in the store")
    if position.commits != commits:
        raise Diverged.of(name, f"{commits - position.commits:,} commits were made without the store")
    if position.number < opened.number:
        raise BaseNeeded
    chains = {opened.number: opened.chain, **{commit.number: commit.chain for commit in opened.commits}}
    if chains.get(position.number) != position.chain:
        raise Diverged.of(name, f"the store's commit {position.number:,} is another, or lost")
    return after(opened.commits, position.number)
