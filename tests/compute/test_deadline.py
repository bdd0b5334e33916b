"""Deadlines: looked at between slices, in the threads of the pool too, and gone afterwards."""

from __future__ import annotations

import time

import pytest

from app.compute.deadline import Deadline, current, deadline
from app.compute.workers import PATIENT, Workers
from app.errors import TooSlow


def test_it_holds_inside_alone() -> None:
    until = time.monotonic() + 60
    with deadline(until):
        assert current() == Deadline(until)
    assert current() is None
    with pytest.raises(TooSlow), deadline(time.monotonic() - 1):
        raise AssertionError("it is over before it begins")
    assert current() is None


def test_slices_end_with_it() -> None:
    done: list[int] = []

    def work(start: int, stop: int) -> int:
        time.sleep(0.05)
        done.append(stop - start)
        return stop - start

    workers = Workers(2)
    try:
        with pytest.raises(TooSlow), deadline(time.monotonic() + 0.2):
            workers.map_slices(100 * PATIENT, work)
        assert 0 < len(done) < 100
        with deadline(time.monotonic() + 60):
            assert workers.map_slices(3 * PATIENT + 1, lambda start, stop: stop - start) == [PATIENT] * 3 + [1]
    finally:
        workers.close()
