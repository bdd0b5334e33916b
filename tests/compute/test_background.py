"""Jobs in the background: woken, never polled; one step at a time; tried again whatever went wrong."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app.compute import background
from app.compute.background import LANES, Background, Job
from app.compute.exclusive import Exclusive
from app.errors import SheafError


@pytest.fixture
def lanes() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_job_runs_when_it_is_woken_until_nothing_is_left(lanes: Background) -> None:
    left = [3]

    def step() -> float | None:
        left[0] -= 1
        return 0.0 if left[0] else None

    job = lanes.job("tasks", "counting", step)
    assert lanes.lanes["tasks"].steps == 0
    job.wake()
    until(lambda: lanes.lanes["tasks"].steps == 3)
    assert left == [0]


def test_what_wakes_a_job_while_it_runs_is_not_lost(lanes: Background) -> None:
    begun, go = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> float | None:
        begun.release()
        assert go.acquire(timeout=60)
        return None

    job = lanes.job("tasks", "held", step)
    job.wake()
    assert begun.acquire(timeout=60)
    job.wake()
    job.wake()
    go.release()
    # Once more for both, and by one thread.
    assert begun.acquire(timeout=60)
    go.release()
    until(lambda: lanes.lanes["tasks"].steps == 2)
    assert not begun.acquire(timeout=0.01)


def test_a_lane_has_few_threads_and_every_job_its_turn(lanes: Background) -> None:
    together, most = 0, 0
    lock, seen = threading.Lock(), set[int]()

    def step(number: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.001)
        with lock:
            together -= 1
            seen.add(number)

    for number in range(100):
        lanes.job("indexing", str(number), lambda number=number: step(number)).wake()  # type: ignore[misc]
    until(lambda: len(seen) == 100)
    assert most == LANES["indexing"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("faiss"), SheafError("no room"), OSError("EIO")])
def test_a_failure_of_any_kind_is_told_counted_and_tried_again(
    lanes: Background, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(background, "RETRY_S", 0.001)
    told: list[str | None] = []

    def step() -> float | None:
        told.append(job.error)
        if len(told) < 4:
            raise error
        return None

    job = lanes.job("learning", "learning of collection c", step)
    with caplog.at_level(logging.WARNING, background.__name__):
        job.wake()
        until(lambda: len(told) == 4 and job.error is None)
    assert told[0] is None
    assert all(
        one is not None and ("no room" in one or "EIO" in one or type(error).__name__ in one) for one in told[1:]
    )
    assert (lanes.lanes["learning"].failures, job.failures) == (3, 0)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["learning of collection c"] * 3


def test_each_pause_is_longer_and_only_haste_shortens_it(lanes: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_S", 100.0)
    tried = threading.Semaphore(0)

    def step() -> float | None:
        tried.release()
        raise ValueError

    def pause() -> float:
        until(lambda: job.due is not None and not job.running)
        assert job.due is not None
        return job.due - time.monotonic()

    job = lanes.job("tasks", "failing", step)
    job.wake()
    assert tried.acquire(timeout=60)
    assert 0 < pause() <= 100
    job.wake()
    assert 0 < pause() <= 100
    for expected in (200, 300, 300):
        job.wake(hurry=True)
        assert tried.acquire(timeout=60)
        assert expected - 90 < pause() <= expected
    assert not tried.acquire(blocking=False)


def test_a_stopped_job_ends_with_its_step_and_is_not_woken_again(lanes: Background) -> None:
    begun, go = threading.Event(), threading.Event()

    def step() -> float | None:
        begun.set()
        assert go.wait(60)
        return 0.0

    job: Job = lanes.job("copies", "held", step)
    job.wake()
    assert begun.wait(60)
    job.stop()
    assert not job.ended
    go.set()
    job.join()
    assert job.ended
    job.wake(hurry=True)
    assert job.due is None
    assert lanes.lanes["copies"].steps == 1


def test_who_could_not_hold_a_lock_is_told_that_it_is_free() -> None:
    lock, freed = Exclusive(), list[bool]()
    lock.freed = lambda: freed.append(lock.taken)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock, lock:
            held.set()
            assert go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    assert lock.taken
    with lock.attempt() as mine:
        assert not mine
    assert freed == []
    go.set()
    thread.join()
    # Once, at the end of the outer block, and not by who did not hold it.
    assert freed == [False]
    with lock.attempt(wait_s=1.0) as mine:
        assert mine
        assert not lock.taken  # by another thread
    assert freed == [False, False]
