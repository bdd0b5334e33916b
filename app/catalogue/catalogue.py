"""The collections of one folder: found, opened, created, deleted; damaged ones kept apart while the others serve."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack

from app.backup.saved import SavedSnapshots
from app.catalogue.aliases import Aliases
from app.catalogue.creating import Choices, specified
from app.catalogue.homes import Local, folder_of, homes_of
from app.catalogue.info import CollectionInfo, closed_to, info_of, quarantined_info, unknown_collection
from app.catalogue.opened import Opened, close_all, forget_queries
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage
from app.collection.reading import Holders, Resources
from app.collection.spec import DECLARED, fingerprint_to_json
from app.collection.view import Generation
from app.compute.background import Background
from app.compute.native import keep_in
from app.compute.turns import Turns
from app.compute.workers import Workers
from app.encoders.registry import Encoders
from app.errors import (
    Closed,
    Conflict,
    Damaged,
    Diverged,
    FormatTooNew,
    MemoryShort,
    NotFound,
    RequestError,
    SheafError,
    StorageFull,
    StoreError,
    SystemFault,
    Unavailable,
)
from app.indexing.maintenance import Maintenance
from app.metadata.declared import NOTHING
from app.settings import Settings
from app.store import folders
from app.store.layout import DATABASE, WRITER_LOCK, check_name
from app.store.system import NEEDED, SPARE, require_files, room, system_fault
from app.tasks.inherited import inherit
from app.tasks.listing import PAGE, owner_of, page_of, unknown_task
from app.tasks.records import State, Task
from app.tasks.tasks import Handler, Tasks

log = logging.getLogger(__name__)

SERVER_LOCK: Final = ".server.lock"


class Catalogue:
    """Safe from any thread. A script opens what it names; a server calls ``serve``, which opens all."""

    def __init__(
        self,
        folder: Path,
        encoders: Encoders,
        settings: Settings,
        handlers: Mapping[str, Handler] | None = None,
        holders: Holders | None = None,
    ) -> None:
        """handlers: of tasks, by kind, in a server; without them tasks are kept for one. holders: of segments."""
        self.files = folder_of(settings, folder, serves=handlers is not None)
        with room():
            self.files.make()
        folders.put_back(self.files)
        self.folder, self.encoders, self.settings = folder, encoders, settings
        self._handlers = dict(handlers or {})
        self.resources = Resources(settings, encoders, Workers(settings.threads), Workers(settings.threads), holders)
        self.background = Background()
        self._server = self.files.lock(SERVER_LOCK)
        self._lock = threading.RLock()
        """Held while a name comes to mean something else, never while anything is waited for."""
        self._turns = Turns()
        """Of collections: held while one is opened, closed, replaced or removed. Taken before ``_lock``."""
        self.aliases = Aliases(self.files, self._lock)
        self.homes = homes_of(settings, self.files, holders) if handlers is not None else Local(settings.store)
        """Scripts have collections of this disk, whatever home a server gives them."""
        self.aliases.publish = self.homes.publish
        self.snapshots = SavedSnapshots(self.files, self.aliases.resolve)
        self._open: dict[str, Opened] = {}
        self._quarantined: dict[str, StoreError] = {}
        self._closed = self._opening = False
        self.ready = False
        self.progress = 0, 0
        """Collections that are open, of those that ``open_all`` opens."""
        keep_in(settings.compiled)

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *given: object) -> None:
        self.close()

    def serve(self, url: str) -> None:
        """``claim``, then ``open_all``."""
        self.claim(url)
        self.open_all()

    def claim(self, url: str) -> None:
        """Takes the folder for one server. Raises Conflict where another server has it."""
        if not self._server.acquire(url):
            raise Conflict(
                f"the folder {self.folder} is served by another server, at {self._server.note()}: stop it, or set "
                "SHEAF_INDEXES to another folder",
                code="folder_busy",
            )

    def open_all(self) -> None:
        """Removes what a stopped server left, and opens every collection; a damaged one is quarantined.

        From then on the catalogue is ``ready``, and only then tasks go on, which would keep the others waiting. Ends
        early where it is closed meanwhile.
        """
        self._opening = True
        names: list[str] = []
        try:
            folders.sweep(self.files)
            self.snapshots.sweep()
            self.aliases.prune()
            self.homes.begin(self.aliases, lambda: self._closed)
            names = self._names()
        except (OSError, SheafError) as error:
            # The next start removes it; and who asks for a collection has it opened.
            log.error("what a stopped server left is not removed, and not all is opened yet: %s", error)
            with suppress(SystemFault):
                names = self._names()
        with suppress(Unavailable):
            for number, name in enumerate(names):
                self.progress = number, len(names)
                try:
                    self.get(name)
                except (StoreError, RequestError) as error:
                    log.error("collection %s: %s", name, error)
                    self._resume_rebuild(name)
            self.progress = len(names), len(names)
            with self._lock:
                self.ready, self._opening = not self._closed, False
                for opened in self._open.values():
                    opened.begin(self.background)
            self.homes.start(self.background, self.exchange, self.aliases)

    def close(self) -> None:
        """Interrupts tasks and background work, which go on at the next start, and frees every lock."""
        with self._lock:
            self.ready, self._closed = False, True
            closing = list(self._open.values())
            self._open.clear()
        with ExitStack() as every:
            # The last first; each whatever another one raises.
            every.callback(self.resources.background.close)
            every.callback(self.resources.workers.close)
            every.callback(self._server.release)
            # Collections closed before, as a deleted one is, may not have come to its end either.
            every.callback(self.background.close)
            close_all(closing, every)
            every.callback(self.homes.stop)

    def create(
        self,
        name: str,
        *,
        stage: FirstStage | None = None,
        also: Callable[[sqlite3.Connection], None] | None = None,
        **choices: Unpack[Choices],
    ) -> Collection:
        """A new, empty collection, durable when this returns.

        choices: of its specification. stage: its first stage, which must need no data. also: more to do in the
        transaction that makes it. Raises Conflict (the name is taken), Invalid, EncoderError.
        """
        # Said before a model is loaded, which takes seconds; the rename decides.
        self.require_room_for(name, replace=False)
        spec, made_by = specified(self.encoders, name, **choices)
        meta: dict[str, Any] = {record: fingerprint_to_json(one) for record, one in made_by.items()}
        meta["spec"] = spec.to_json()
        meta["first_stage"] = (stage or FirstStage.default(spec)).to_json()
        meta["generation"] = Generation(0).to_json()
        meta[DECLARED] = dict(choices.get("declared", NOTHING))
        with self._turns.of(name):
            with folders.making(self.files, name, meta, also) as made, self.homes.housed(name, made), self._lock:
                self.aliases.require_none(name)
                folders.place(self.files, made, name)
            return self.get(name)

    def get(self, name: str) -> Collection:
        """Raises NotFound, or Damaged for one that is quarantined."""
        return self._find(name).collection

    def opened(self, name: str) -> Collection | None:
        """As ``get``, where the collection is open now; waits for nothing."""
        found = self._open.get(self.aliases.resolve(name))
        return None if found is None else found.collection

    def describe(self, name: str, *, matrix: bool = False) -> CollectionInfo:
        """matrix: with all of that of its similarity. Raises NotFound."""
        name = self.aliases.resolve(name)
        try:
            opened = self._find(name)
        except StoreError as error:
            return quarantined_info(name, error)
        collection = opened.collection
        with self.standing(name):
            # A copy of a store's follows by itself; a request does not wait for the store.
            if not self.homes.is_copy(name):
                with suppress(Unavailable, StorageFull):
                    collection.follow()
            found = info_of(name, collection, closed_to(collection, self._busy), opened.error, matrix=matrix)
            return found if opened.copy is None else replace(found, copy=opened.copy.standing)

    def describe_all(self) -> list[CollectionInfo]:
        """By name, the quarantined ones too."""
        found = []
        for name in self._names():
            # One that has been deleted since it was listed is not there.
            with suppress(NotFound):
                found.append(self.describe(name))
        return found

    @contextmanager
    def standing(self, name: str) -> Iterator[None]:
        """Work on a collection that was found. Raises NotFound where it is deleted meanwhile, once that is done."""
        try:
            yield
        except (Closed, StoreError):
            with self._turns.of(name):
                if not self._holds(name):
                    raise unknown_collection(name) from None
            raise

    def delete(self, name: str) -> None:
        """Raises NotFound, Conflict. A quarantined collection can be deleted too."""
        with self._turns.of(name):
            self.aliases.require_none(name)
            if not self._holds(name):
                raise unknown_collection(name)
            with self._closed_for_good(name), self.homes.housed(name, None), self._lock:
                gone = folders.take_away(self.files, name)
                self._quarantined.pop(name, None)
                self.aliases.prune()
        folders.discard(self.files, gone)

    @contextmanager
    def _closed_for_good(self, name: str) -> Iterator[int]:
        """Closes a collection, whose folder may be moved inside the block; the next sequence number that it had.

        In one's turn. Its background work is told to give up, and not waited for: it makes nothing in
        the folder any more, and changes no database. A later request for the collection has it opened again.
        """
        opened, end = self._open.get(name), 0
        lock = self.files.folder(name).lock(WRITER_LOCK)
        if opened is not None:
            opened.collection.require_writer()
        try:
            if opened is not None:
                opened.close()
                end = opened.collection.published.next_seq
            if not lock.acquire():
                raise Conflict(f"another process writes collection {name}", code="collection_busy")
            yield end
        except BaseException:
            lock.release()
            if opened is not None:
                self._forget(name, opened)
                # Its tasks go on, though nobody asks for it.
                with suppress(SheafError):
                    self._find(name)
            raise
        lock.release()
        if opened is not None:
            self._forget(name, opened)

    def _forget(self, name: str, opened: Opened) -> None:
        with self._lock:
            if self._open.get(name) is opened:
                del self._open[name]

    def require_room_for(self, name: str, *, replace: bool) -> None:
        """Raises Conflict where a collection cannot be restored under this name, as while a task of the one that has it
        has not ended, Invalid where none can have it, and SystemFault where one more would take too many open files.
        """
        check_name(name)
        self.homes.require_writes()
        self.aliases.require_none(name)
        if not self._holds(name):
            require_files(SPARE, "no collection can be added now")
        elif not replace:
            raise folders.taken(name)
        if (opened := self._open.get(name)) is not None:
            opened.tasks.require_ended()

    def install(self, name: str, staged: str, *, replace: bool) -> bool:
        """Gives a complete, verified collection beside the others its name. Whether it took another's place.

        staged: the folder that it has. Durable when this returns. Raises Conflict; it is as it was then.
        """
        with self._turns.of(name):
            self.require_room_for(name, replace=replace)
            with ExitStack() as closed:
                if self._holds(name):
                    idle = name in self._quarantined
                    end = closed.enter_context(self._closed_for_good(name))
                    inherit(self.folder / name, self.folder / staged, name, end, idle=idle)
                closed.enter_context(self.homes.housed(name, self.files.folder(staged)))
                with self._lock:
                    self.aliases.require_none(name)
                    old = folders.put_in_place(self.files, staged, name)
                former = self._quarantined.pop(name, None)
                try:
                    self._start(name)
                except BaseException:
                    with self._lock:
                        folders.take_back(self.files, staged, name, old)
                        self._quarantined.pop(name, None)
                        if former is not None:
                            self._quarantined[name] = former
                    raise
        if old is not None:
            folders.discard(self.files, old)
        return old is not None

    def exchange(self, name: str, staged: folders.Staged, wanted: Callable[[], bool]) -> bool:
        """As ``folders.Exchange`` has it; what has the name then is opened."""
        with self._turns.of(name):
            if not wanted():
                return False
            try:
                if (opened := self._open.get(name)) is not None:
                    opened.close()
                folder = staged()
                with self._lock:
                    old = folders.exchange(self.files, folder, name)
            finally:
                # Who asks for it has it opened again.
                with self._lock:
                    self._open.pop(name, None)
                    self._quarantined.pop(name, None)
        if old is not None:
            folders.discard(self.files, old)
        if folder is not None:
            self.get(name)
        return True

    def quarantined(self) -> dict[str, str]:
        """Names and reasons."""
        return {name: error.message for name, error in sorted(self._quarantined.items())}

    def quarantine(self, collection: Collection, error: StoreError) -> None:
        """Takes a collection out of service, after a read found damage.

        Not the one that has been opened in its place since, to be rebuilt: a late reader must not stop the rebuild.
        """
        name = collection.name
        with self._turns.of(name):
            with self._lock:
                opened = self._open.get(name)
                if opened is None or opened.collection is not collection or collection.salvaged:
                    return
                del self._open[name]
                self._quarantined[name] = error
            # So that it can be rebuilt at once, whatever still works on it.
            opened.close()
        log.error("collection %s is quarantined: %s", name, error)

    def tasks(self, name: str) -> Tasks:
        """The tasks of a collection. Raises NotFound, Damaged."""
        return self._find(name).tasks

    def list_tasks(
        self, mine: Callable[[str], bool] = lambda name: True, limit: int = PAGE, cursor: str | None = None
    ) -> tuple[list[Task], str | None]:
        """Of every collection that is ``mine``, the newest first; as ``page_of``."""
        return page_of((opened.tasks for name, opened in list(self._open.items()) if mine(name)), limit, cursor)

    def task_states(self) -> Counter[State]:
        """How many tasks are in each state, of those that are remembered."""
        return sum((opened.tasks.states for opened in list(self._open.values())), Counter())

    def task(self, identifier: str, errors_after: int = -1) -> Task:
        """Raises NotFound."""
        return self._with_task(identifier, lambda tasks: tasks.get(identifier, errors_after))

    def cancel_task(self, identifier: str) -> Task:
        """Raises NotFound."""
        return self._with_task(identifier, lambda tasks: tasks.cancel(identifier))

    def begin_rebuild(self, name: str) -> Task:
        """Accepts a rebuild, also of a quarantined collection whose document store is whole."""
        name = self.aliases.resolve(name)
        with self._turns.of(name):
            try:
                tasks = self._find(name).tasks
            except StoreError:
                tasks = self._start(name, salvage=True).tasks
        with self.standing(name):
            tasks.collection.require_writer()
            return tasks.submit("rebuild", {})

    def _with_task(self, identifier: str, work: Callable[[Tasks], Task]) -> Task:
        """Raises NotFound, also where the task goes with its collection."""
        tasks = owner_of((opened.tasks for opened in list(self._open.values())), identifier)
        try:
            with self.standing(tasks.collection.name):
                return work(tasks)
        except NotFound:
            raise unknown_task(identifier) from None

    def _find(self, name: str) -> Opened:
        name = self.aliases.resolve(name)
        opened = self._open.get(name)
        if opened is not None:
            return opened
        with self._turns.of(name):
            if (opened := self._open.get(name)) is not None:
                return opened
            if isinstance(error := self._quarantined.get(name), Damaged | FormatTooNew):
                raise error
            if not self._holds(name):
                raise unknown_collection(name)
            try:
                return self._start(name)
            except Damaged:
                if self.ready:  # at the start the system did not let it be read
                    self._resume_rebuild(name)
                raise

    def _start(self, name: str, *, salvage: bool = False) -> Opened:
        """Opens it, in one's turn."""
        if self._closed:
            raise Unavailable("the collections are being closed")
        with ExitStack() as undo:
            try:
                require_files(NEEDED, f"collection {name} is not opened now")
                if (copy := self.homes.open(name)) is not None:
                    undo.callback(copy.close)
                with room():
                    collection = Collection(self.files.folder(name), self.resources, self._busy, salvage=salvage)
                undo.callback(collection.close)
                if copy is not None:
                    copy.attach(collection)
                tasks = Tasks(collection, self._handlers)
            except (Damaged, Diverged, SystemFault, FormatTooNew, MemoryShort) as error:
                self._quarantined[name] = error
                raise
            except (OSError, sqlite3.Error) as error:
                fault = system_fault(error, None if isinstance(error, OSError) else self.folder / name / DATABASE)
                self._quarantined[name] = fault
                raise fault from error
            opened = Opened(collection, tasks, copy=copy)
            if self._handlers and self.homes.writes:
                if not self.resources.settings.log_queries:
                    forget_queries(collection)
                opened.maintenance = Maintenance(collection, self.background)
            with self._lock:
                if self._closed:
                    raise Unavailable("the collections are being closed")
                if not self._opening:
                    opened.begin(self.background)
                self._quarantined.pop(name, None)
                self._open[name] = opened
            undo.pop_all()
        return opened

    def _resume_rebuild(self, name: str) -> None:
        """Goes on with the rebuild of a damaged collection that was accepted before the last stop, if there is one."""
        with self._turns.of(name):
            error = self._quarantined.get(name)
            if not isinstance(error, Damaged | MemoryShort):
                return
            try:
                opened = self._start(name, salvage=True)
            except StoreError:
                self._quarantined[name] = error
                return
            if all(known.kind != "rebuild" for known in opened.tasks.open.values()):
                with self._lock:
                    self._open.pop(name, None)
                    self._quarantined[name] = error
                opened.close()

    def _names(self) -> list[str]:
        return folders.names(self.files)

    def _holds(self, name: str) -> bool:
        return folders.holds(self.files, name)

    def _busy(self) -> str:
        url = "" if self._server.held else self._server.note()
        return f" (the server at {url})" if url else ""
