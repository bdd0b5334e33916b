"""Tasks: durable, followed, cancelled, and begun again."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.compute import background
from app.encoders.registry import Encoders
from app.errors import EncoderRefused, EncoderUnavailable, Invalid, NotFound, StorageFull
from app.settings import Settings
from app.tasks import tasks as module
from app.tasks.records import ENDED, Task, TaskError
from app.tasks.tasks import Failed, Handler, Running, Tasks

Open = Callable[..., Tasks]
T = TypeVar("T")


@pytest.fixture
def open_tasks(tmp_path: Path) -> Iterator[Open]:
    """The tasks of one collection, with handlers of the test's own."""
    with ExitStack() as stack:

        def opened(**handlers: Handler) -> Tasks:
            settings = Settings(indexes=tmp_path, threads=1)
            catalogue = stack.enter_context(Catalogue(tmp_path, Encoders({}), settings, handlers))
            if not (tmp_path / "c").exists():
                catalogue.create("c", model=None, kind="dense", dim=2)
            stack.callback(catalogue.close)
            return catalogue.tasks("c")

        yield opened


def wait(tasks: Tasks, task: Task, *states: str) -> Task:
    deadline = time.monotonic() + 60
    while (now := tasks.get(task.id)).state not in (states or ENDED):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return now


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_server_opens_all_before_tasks_go_on(tmp_path: Path) -> None:
    """They would keep it from being ready."""
    settings = Settings(indexes=tmp_path, threads=1)
    with Catalogue(tmp_path, Encoders({}), settings) as catalogue:
        for name in ("a", "b"):
            catalogue.create(name, model=None, kind="dense", dim=2)
        task = catalogue.tasks("a").submit("work", {})
    found: list[tuple[bool, tuple[int, int]]] = []

    def work(collection: Collection, running: Running) -> None:
        found.append((again.ready, again.progress))

    with Catalogue(tmp_path, Encoders({}), settings, {"work": work}) as again:
        again.claim("http://here")
        get = again.get
        opened: list[str] = []

        def slow(name: str) -> Collection:
            opened.append(name)
            collection = get(name)
            time.sleep(0.1)
            return collection

        again.get = slow  # type: ignore[method-assign]
        again.open_all()
        assert opened == ["a", "b"]
        assert wait(again.tasks("a"), task).state == "succeeded"
    assert found == [(True, (2, 2))]


def test_a_task_tells_how_far_it_is(open_tasks: Open) -> None:
    step, stepped = threading.Semaphore(0), threading.Semaphore(0)

    def work(collection: Collection, running: Running) -> None:
        assert running.task.params == {"what": [1, "x"]}
        running.update(phase="counting", done=0, total=4)
        for done in range(1, 5):
            stepped.release()
            assert step.acquire(timeout=60)
            running.update(done=done)

    tasks = open_tasks(work=work)
    task = tasks.submit("work", {"what": [1, "x"]})
    assert (task.state, task.phase, task.finished) == ("queued", "queued", None)
    for done in range(4):
        assert stepped.acquire(timeout=60)
        now = tasks.get(task.id)
        assert (now.state, now.phase, now.done, now.total) == ("running", "counting", done, 4)
        if done:
            assert now.rate > 0
            assert now.eta_s == pytest.approx((4 - done) / now.rate)
        step.release()
    ended = wait(tasks, task)
    assert (ended.state, ended.phase, ended.done, ended.eta_s) == ("succeeded", "done", 4, None)
    assert ended.finished is not None
    assert tasks.all() == [ended]


def test_one_after_the_other_in_the_order_they_came(open_tasks: Open) -> None:
    order: list[str] = []
    tasks = open_tasks(work=lambda collection, running: order.append(running.task.id))
    submitted = [tasks.submit("work", {}) for _ in range(5)]
    for task in submitted:
        wait(tasks, task)
    assert order == [task.id for task in submitted]
    assert [task.id for task in tasks.all()] == order[::-1]


def test_a_snapshot_waits_for_no_other_task(open_tasks: Open) -> None:
    begun, release, order = threading.Event(), threading.Event(), []

    def long(collection: Collection, running: Running) -> None:
        begun.set()
        while not release.wait(0.001):
            running.check()
        order.append(running.task.id)

    def copy(collection: Collection, running: Running) -> None:
        order.append(running.task.id)

    tasks = open_tasks(work=long, snapshot=copy)
    works = [tasks.submit("work", {}) for _ in range(2)]
    assert begun.wait(60)
    copies = [tasks.submit("snapshot", {}) for _ in range(3)]
    for one in copies:
        wait(tasks, one)
    assert [tasks.get(one.id).state for one in works] == ["running", "queued"]
    release.set()
    for one in works:
        wait(tasks, one)
    assert order == [one.id for one in (*copies, *works)]


def test_nothing_waits_for_a_snapshot_and_a_stop_ends_both(open_tasks: Open) -> None:
    begun, ended = threading.Barrier(3, timeout=60), threading.Event()

    def endless(collection: Collection, running: Running) -> None:
        begun.wait()
        while not ended.wait(0.001):
            running.check()

    tasks = open_tasks(work=endless, snapshot=endless)
    given = [tasks.submit(kind, {}) for kind in ("snapshot", "work")]
    begun.wait()
    assert [tasks.get(one.id).state for one in given] == ["running"] * 2
    assert tasks.cancel(given[0].id).state in ("running", "cancelled")
    assert wait(tasks, given[0]).state == "cancelled"
    tasks.stop()
    # Neither ended: both go on at the next start.
    assert tasks.get(given[1].id).state == "running"


def raising(error: BaseException) -> Handler:
    def work(collection: Collection, running: Running) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "errors"),
    [
        (EncoderRefused("another model"), [TaskError(0, "encoder_refused", "another model")]),
        (Invalid.at("/x", "wrong"), [TaskError(0, "invalid", "/x: wrong")]),
        (Failed(), []),
        (ZeroDivisionError("secret"), [TaskError(0, "internal", "ZeroDivisionError; the log has the details")]),
    ],
)
def test_a_failed_task_says_why_and_the_next_one_runs(
    open_tasks: Open, error: BaseException, errors: list[TaskError]
) -> None:
    tasks = open_tasks(bad=raising(error), good=lambda collection, running: None)
    bad, good = tasks.submit("bad", {}), tasks.submit("good", {})
    assert wait(tasks, good).state == "succeeded"
    ended = tasks.get(bad.id)
    assert (ended.state, list(ended.errors), ended.errors_total) == ("failed", errors, len(errors))


@pytest.mark.parametrize(
    "error",
    [
        StorageFull("full"),
        EncoderUnavailable("it is down"),
        OSError(errno.EIO, "Input/output error"),
        MemoryError(),
    ],
)
def test_a_task_waits_for_what_may_come_back_and_goes_on(
    open_tasks: Open, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(background, "RETRY_S", 0.01)
    attempts: list[int] = []

    def work(collection: Collection, running: Running) -> None:
        attempts.append(running.task.done)
        if len(attempts) < 4:
            running.update(done=len(attempts))
            raise error

    tasks = open_tasks(work=work)
    ended = wait(tasks, tasks.submit("work", {}))
    assert (ended.state, ended.errors, attempts) == ("succeeded", (), [0, 1, 2, 3])


def test_what_cannot_be_removed_stops_no_task(open_tasks: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = open_tasks(work=lambda collection, running: None)
    identifier, unlink = "f" * 32, Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.name == tasks.file(identifier):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    tasks.folder.make()
    tasks.folder.create(tasks.file(identifier)).close()
    assert wait(tasks, tasks.submit("work", {}, identifier)).state == "succeeded"
    assert wait(tasks, tasks.submit("work", {})).state == "succeeded"
    tasks.stop()
    tasks.collection.close()
    # Nor the next start, which tries again.
    again = open_tasks(work=lambda collection, running: None)
    assert wait(again, again.submit("work", {})).state == "succeeded"
    assert again.folder.list() == [again.file(identifier)]


def test_a_waiting_task_can_be_cancelled(open_tasks: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not kept waiting for the end of its pause."""
    monkeypatch.setattr(background, "RETRY_S", 1_000)
    tasks = open_tasks(work=raising(StorageFull("full")))
    task = tasks.submit("work", {})
    wait(tasks, task, "running")
    tasks.cancel(task.id)
    assert wait(tasks, task).state == "cancelled"


def test_an_end_that_the_disk_does_not_take_is_tried_again_after_a_pause(
    open_tasks: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once, again and again, though it was asked to stop."""
    go, full = threading.Event(), threading.Event()
    refused: list[None] = []

    def work(collection: Collection, running: Running) -> None:
        assert go.wait(60)
        running.check()

    tasks = open_tasks(work=work)
    record = tasks.collection.record

    def recorded(given: Callable[[sqlite3.Connection], T]) -> T:
        if full.is_set():
            refused.append(None)
            raise StorageFull("full")
        return record(given)

    monkeypatch.setattr(tasks.collection, "record", recorded)
    monkeypatch.setattr(background, "RETRY_S", 1_000)
    task = tasks.submit("work", {})
    wait(tasks, task, "running")
    full.set()
    tasks.cancel(task.id)
    go.set()
    job = tasks.jobs[0]
    # Once more at once, since it was asked while it ran; from then on it waits.
    until(lambda: job.failures == 2 and not job.running)
    assert (len(refused), job.error) == (2, "full")
    assert job.due is not None
    assert job.due > time.monotonic() + 60
    full.clear()
    tasks.cancel(task.id)
    assert wait(tasks, task).state == "cancelled"
    until(lambda: job.error is None)


def test_cancelling(open_tasks: Open) -> None:
    go = threading.Event()
    ran: list[str] = []

    def work(collection: Collection, running: Running) -> None:
        ran.append(running.task.id)
        assert go.wait(60)
        running.update(done=1)
        running.check()
        ran.append("went on")

    tasks = open_tasks(work=work)
    first, second = tasks.submit("work", {}), tasks.submit("work", {})
    wait(tasks, first, "running")
    assert tasks.cancel(second.id).state == "cancelled"
    assert tasks.cancel(first.id).state == "running"
    go.set()
    ended = wait(tasks, first)
    assert (ended.state, ended.done) == ("cancelled", 1)
    assert tasks.cancel(first.id) == ended
    assert wait(tasks, tasks.submit("work", {})).state == "succeeded"
    assert second.id not in ran
    with pytest.raises(NotFound) as caught:
        tasks.cancel("no")
    assert caught.value.code == "task_not_found"


def test_a_cancelled_task_never_succeeds(open_tasks: Open) -> None:
    """The cancellation's answer holds, whatever moment it comes at."""
    tasks = open_tasks(work=lambda collection, running: running.check())
    for _ in range(60):
        task = tasks.submit("work", {})
        if tasks.cancel(task.id).state == "cancelled":
            marker = tasks.submit("work", {})
            wait(tasks, marker)
            assert tasks.get(task.id).state == "cancelled"
        else:
            wait(tasks, task)


def test_a_stop_interrupts_and_a_start_goes_on(open_tasks: Open) -> None:
    go = threading.Event()

    def first(collection: Collection, running: Running) -> None:
        running.update(done=5, phase="half")
        go.set()
        while True:
            running.check()
            time.sleep(0.001)

    seen: list[tuple[int, str]] = []

    def second(collection: Collection, running: Running) -> None:
        seen.append((running.task.done, running.task.phase))

    tasks = open_tasks(work=first)
    one, two = tasks.submit("work", {}), tasks.submit("work", {})
    assert go.wait(60)
    tasks.stop()
    tasks.collection.close()
    tasks = open_tasks(work=second)
    assert wait(tasks, two).state == wait(tasks, one).state == "succeeded"
    assert seen == [(5, "half"), (0, "queued")]


def test_the_files_of_ended_tasks_are_removed(open_tasks: Open) -> None:
    go = threading.Event()

    def work(collection: Collection, running: Running) -> None:
        assert go.wait(60)

    tasks = open_tasks(work=work)
    tasks.folder.make()
    first, second = tasks.submit("work", {}), tasks.submit("work", {})
    for task in (first, second):
        tasks.folder.create(tasks.file(task.id)).close()
    tasks.cancel(second.id)
    assert tasks.folder.list() == [tasks.file(first.id)]
    go.set()
    wait(tasks, first)
    for _ in range(3_000):
        if not tasks.folder.list():
            break
        time.sleep(0.01)
    assert tasks.folder.list() == []


def test_old_tasks_are_forgotten(open_tasks: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 5)

    def work(collection: Collection, running: Running) -> None:
        running.fail_lines([TaskError(line, "invalid", "bad") for line in (1, 2, 1)])

    tasks = open_tasks(work=work)
    submitted = [wait(tasks, tasks.submit("work", {})) for _ in range(9)]
    assert [task.id for task in tasks.all()] == [task.id for task in submitted[:-6:-1]]
    assert tasks.get(submitted[-1].id).errors_total == 2
    with pytest.raises(NotFound):
        tasks.get(submitted[0].id)
    with tasks.collection.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM task_errors").fetchone() == (10,)
