"""Work in the background: a few threads that sleep until something is due, and try again what failed.

Nothing polls. A job is woken by what gives it something to do, and runs step by step until nothing is left; between two
steps other jobs of its lane have their turn. Lanes are apart, so that what is short waits for nothing that is long. At
rest no thread wakes, however many jobs there are. A step may fail with any exception at all: it is logged, counted,
told by ``Job.error``, and tried again after a pause that grows.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from app.errors import SheafError

log = logging.getLogger(__name__)

LANES: Final[Mapping[str, int]] = {"indexing": 2, "merging": 1, "learning": 2, "tasks": 4, "copies": 2, "following": 4}
"""Threads of each, at most. indexing: tails are sealed. merging: segments are merged. learning: first stages are
fitted. tasks: what changes a collection. copies: what only reads one. following: what an object store has is read."""
RETRY_S = 30.0
"""From what failed to the next attempt; twice as long after each further failure."""
LONGEST_S: Final = 300.0

Step = Callable[[], float | None]
"""A piece of work. Seconds until the next is due: 0 is at once, None is when the job is woken."""


class Job:
    """Work that comes again and again, one step at a time. Safe from any thread."""

    def __init__(self, lane: Lane, name: str, step: Step) -> None:
        self.name, self.step = name, step
        self.stopping = False
        """Whether its step is to give up."""
        self.error: str | None = None
        """Why the last attempt failed."""
        self.failures = 0
        """In a row."""
        self._lane = lane
        # The following are the lane's, under its lock.
        self.due: float | None = None
        self.running = self.again = self.hurried = False
        self.held = 0.0
        """Until when it is not tried, for it failed."""

    def wake(self, *, hurry: bool = False) -> None:
        """There may be something to do. hurry: also where it waits after a failure."""
        self._lane.wake(self, hurry=hurry)

    def stop(self) -> None:
        """For good; ``join`` waits for the step that is under way."""
        self._lane.stop(self)

    def join(self) -> None:
        """After ``stop``."""
        self._lane.join(self)

    @property
    def ended(self) -> bool:
        """Whether it was stopped and nothing of it is under way."""
        return self.stopping and not self.running

    def attempt(self) -> float | None:
        """One step; when the next is due. After a failure, which ``failures`` counts: when it is tried again."""
        try:
            after = self.step()
        except BaseException as error:  # nobody is above: a thread that dies takes its lane with it
            if self.stopping:
                return None
            self.failures += 1
            self.error = _told(error)
            log.warning("%s: %s", self.name, self.error, exc_info=None if _expected(error) else error)
            return float(min(RETRY_S * 2 ** (self.failures - 1), LONGEST_S))
        self.failures, self.error = 0, None
        return after


class Lane:
    """Threads that are begun when there is work for them, and then the jobs that are due, in that order."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self._most = name, threads
        self.steps = self.failures = 0
        """Since the start."""
        lock = threading.Lock()
        self._changed, self._ended = threading.Condition(lock), threading.Condition(lock)
        self._queue: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._asleep = 0
        self._closed = False

    def job(self, name: str, step: Step) -> Job:
        """A new one, asleep."""
        return Job(self, name, step)

    def wake(self, job: Job, *, hurry: bool) -> None:
        with self._changed:
            if hurry:
                job.held = 0.0
            if job.running:
                job.again, job.hurried = True, job.hurried or hurry
            else:
                self._put(job, max(job.held, time.monotonic()))

    def stop(self, job: Job) -> None:
        with self._changed:
            job.stopping, job.due = True, None

    def join(self, job: Job) -> None:
        with self._ended:
            self._ended.wait_for(lambda: not job.running)

    def close(self) -> None:
        """Once the step that each thread is at has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, job: Job, at: float) -> None:
        if job.stopping or self._closed or (job.due is not None and job.due <= at):
            return
        job.due = at
        heapq.heappush(self._queue, (at, next(self._order), job))
        if len(self._queue) > self._asleep and len(self._threads) < self._most:
            name = f"{self.name}-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()
        self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            after = job.attempt()
            with self._changed:
                now = time.monotonic()
                self.steps += 1
                at = now if after is None or job.hurried else now + after
                if job.failures:
                    self.failures += 1
                    job.held = at
                elif job.again:
                    at = now
                again = job.again or after is not None
                job.running = job.again = job.hurried = False
                if again:
                    self._put(job, at)
                self._ended.notify_all()

    def _next(self) -> Job | None:
        """The job that is due, once one is; None at the end."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._queue and self._queue[0][2].due != self._queue[0][0]:
                    heapq.heappop(self._queue)  # stopped, or due at another time
                if self._queue and self._queue[0][0] <= now:
                    job = heapq.heappop(self._queue)[2]
                    job.due, job.running = None, True
                    return job
                self._asleep += 1
                self._changed.wait(self._queue[0][0] - now if self._queue else None)
                self._asleep -= 1
            return None


class Background:
    """The lanes of one process."""

    def __init__(self) -> None:
        self.lanes = {name: Lane(name, threads) for name, threads in LANES.items()}

    def job(self, lane: str, name: str, step: Step) -> Job:
        return self.lanes[lane].job(name, step)

    def close(self) -> None:
        """After every job was stopped."""
        for lane in self.lanes.values():
            lane.close()


def _expected(error: BaseException) -> bool:
    return isinstance(error, SheafError | OSError | sqlite3.Error)


def _told(error: BaseException) -> str:
    """Without the exception itself, whose frames hold what it was about."""
    if isinstance(error, SheafError):
        return error.message
    if _expected(error):
        return f"the disk refuses what is made in the background: {error}"
    return f"the background failed ({type(error).__name__}) and tries again; the log has the details"
