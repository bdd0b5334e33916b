"""Turns and slices: how many at once, in which order, and who does the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.compute.deadline import Deadline, current, deadline
from app.compute.workers import Workers
from app.errors import TooSlow

SOON = 30


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2)
    yield made
    made.close()


def slices(workers: Workers, size: int) -> list[tuple[int, int]]:
    return workers.map_slices(size, lambda start, stop: (start, stop))


def test_slices_cover_everything_once_in_order(workers: Workers) -> None:
    for size in range(8):
        assert [row for piece in slices(workers, size) for row in range(*piece)] == list(range(size))
    assert workers.map_slices(7, lambda start, stop: stop - start, smallest=4) == [7]


def test_a_search_alone_has_every_core_and_two_have_one_each(workers: Workers) -> None:
    assert len(slices(workers, 10)) == 2
    with workers.turn():
        assert len(slices(workers, 10)) == 2
        with workers.turn():
            assert slices(workers, 10) == [(0, 10)]
        assert len(slices(workers, 10)) == 2


def test_turns_are_bounded_and_in_the_order_of_coming(workers: Workers) -> None:
    order: list[int] = []
    release, entered = [threading.Event() for _ in range(6)], [threading.Event() for _ in range(6)]

    def take(number: int) -> None:
        with workers.turn():
            order.append(number)
            entered[number].set()
            assert release[number].wait(SOON)

    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            pool.submit(take, number)
            if number < 2:
                assert entered[number].wait(SOON)
            else:
                while len(workers._waiting) < number - 1:
                    pass
        assert order == [0, 1]
        for number, following in ((1, 2), (0, 3), (2, 4), (3, 5)):
            release[number].set()
            assert entered[following].wait(SOON)
        release[4].set()
        release[5].set()
    assert order == list(range(6))
    assert len(slices(workers, 10)) == 2


def test_a_turn_ends_with_an_error_too(workers: Workers) -> None:
    for _ in range(5):
        with pytest.raises(ValueError, match="mine"), workers.turn():
            raise ValueError("mine")
    with workers.turn(), workers.turn():
        pass


def test_slices_wait_for_no_other_work_in_the_pool(workers: Workers) -> None:
    """Both threads of the pool are taken: the caller does its slices alone."""
    gate, begun = threading.Event(), threading.Barrier(4, timeout=SOON)

    def block(start: int, stop: int) -> None:
        begun.wait()
        assert gate.wait(SOON)

    blocking = threading.Thread(target=workers.map_slices, args=(2, block))
    more = workers._pool.submit(block, 0, 1)
    blocking.start()
    begun.wait()
    assert slices(workers, 10) == [(0, 5), (5, 10)]
    gate.set()
    blocking.join()
    more.result()


def test_an_error_in_a_slice_is_raised_after_the_others_have_ended(workers: Workers) -> None:
    for broken in (0, 5):

        def work(start: int, stop: int, broken: int = broken) -> int:
            if start == broken:
                raise ValueError("a slice")
            return start

        with pytest.raises(ValueError, match="a slice"):
            workers.map_slices(10, work)
    assert len(slices(workers, 10)) == 2


def test_each_slice_sees_the_deadline_that_is_set(workers: Workers) -> None:
    both = threading.Barrier(2)

    def seen(start: int, stop: int) -> Deadline | None:
        # One in each thread.
        both.wait(SOON)
        return current()

    with deadline(time.monotonic() + SOON):
        assert workers.map_slices(2, seen) == [current()] * 2
    assert workers.map_slices(2, seen) == [None] * 2


def test_who_waits_past_the_deadline_leaves_the_queue(workers: Workers) -> None:
    with workers.turn(), workers.turn():
        with pytest.raises(TooSlow), deadline(time.monotonic() + 0.05), workers.turn():
            pass
        assert not workers._waiting
    with deadline(time.monotonic() + SOON), workers.turn(), workers.turn():
        pass
