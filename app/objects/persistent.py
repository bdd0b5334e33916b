"""Requests that are tried again, and conditional puts whose answer was lost, found out: ``Objects`` over any store.

A conditional put that failed without a clear answer may have been applied, may not, and may be applied later still, by
a packet on its way. So it is put again as it was, on the same condition: of all copies one at most is ever applied.
Where the store then says that the condition does not hold, what is there tells whose it is, for nobody else puts the
same bytes. Trusting that refusal instead would report a write as failed that everybody can read; libraries that retry
below us do just that, so they are told not to (``app.objects.bucket``).

The same reading tells apart a condition that fails and a store that only says so for a moment: S3 answers 409 to one of
two puts that meet, also where neither was applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final, TypeVar

from app.errors import Damaged, ObjectChanged, ObjectMissing, ObjectTaken, StoreRefused, StoreUnavailable, Unsure
from app.objects.clock import Clock
from app.objects.protocol import Listed, Requests, Tag, check_name

Result = TypeVar("Result")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_AT_A_TIME: Final = 16


def in_threads(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Their results, in order; run at a time, the first in this thread."""
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(len(calls) - 1, _AT_A_TIME - 1), "objects") as pool:
        others = [pool.submit(call) for call in calls[1:]]
        first = calls[0]()
        return [first, *(other.result() for other in others)]


class Persistent:
    """``Objects`` of a store's requests. deadline_s: of each call, in seconds; a request that is on its way then ends
    by its own time limit."""

    def __init__(
        self,
        requests: Requests,
        deadline_s: float = 10.0,
        clock: Clock | None = None,
        together: Callable[[Sequence[Callable[[], Result]]], list[Result]] = in_threads,
    ) -> None:
        self._requests = requests
        self._deadline_s = deadline_s
        self._clock = clock or Clock()
        self._together = together

    @property
    def place(self) -> str:
        return self._requests.place

    def together(self, calls: Sequence[Callable[[], Result]], /) -> list[Result]:
        return self._together(calls)  # type: ignore[arg-type, return-value]

    def get(self, name: str, /) -> tuple[bytes, Tag]:
        check_name(name)
        return self._again(lambda: self._requests.get(name))

    def read(self, name: str, start: int, length: int, /) -> bytes:
        check_name(name)
        if length == 0:
            return b""
        content = self._again(lambda: self._requests.read(name, start, length))
        if len(content) != length:
            raise Damaged(
                f"{name} in {self.place}: expected {length:,} bytes from byte {start:,} on, got {len(content):,}"
            )
        return content

    def list(self, prefix: str, after: str = "", /) -> list[Listed]:
        return sorted(self._again(lambda: self._requests.list(prefix, after)))

    def put_new(self, name: str, content: bytes, /) -> Tag:
        return self._put(name, content, None, ObjectTaken)

    def replace(self, name: str, content: bytes, tag: Tag | None, /) -> Tag:
        return self._put(name, content, tag, ObjectChanged)

    def put(self, name: str, stream: BinaryIO, /) -> int:
        check_name(name)
        start = stream.tell()
        end = stream.seek(0, 2)

        def send() -> int:
            stream.seek(start)
            self._requests.put(name, stream)
            return end - start

        return self._again(send)

    def remove(self, names: Sequence[str], /) -> None:
        for name in names:
            check_name(name)
        if names:
            self._again(lambda: self._requests.remove(names))

    def _put(self, name: str, content: bytes, tag: Tag | None, refused: type[ObjectTaken | ObjectChanged]) -> Tag:
        check_name(name)
        attempts = _Attempts(self._deadline_s, self._clock)
        lost = False
        while True:
            try:
                if tag is None:
                    return self._requests.put_new(name, content)
                return self._requests.replace(name, content, tag)
            except (ObjectTaken, ObjectChanged) as error:
                there = self._there(name, attempts, error)
                if there is not None and there[0] == content:
                    return there[1]
                if there is not None and there[1] != tag:
                    raise _refusal(refused, self._where(name), there[0]) from None
                if there is None and tag is not None:
                    raise ObjectChanged(f"{self._where(name)} is gone") from None
                # The condition holds after all: two puts met, and the store asks for another try.
                attempts.next(_lost(error, self._where(name)) if lost else _refused(error, self._where(name)))
            except Unsure as error:
                lost = True
                attempts.next(_lost(error, self._where(name)))
            except StoreUnavailable as error:
                attempts.next(_lost(error, self._where(name)) if lost else error)

    def _there(self, name: str, attempts: _Attempts, cause: Exception) -> tuple[bytes, Tag] | None:
        """What has the name now; None: nothing. Unsure where that is not to be found out: it may be ours."""
        while True:
            try:
                return self._requests.get(name)
            except ObjectMissing:
                return None
            except StoreUnavailable:
                attempts.next(_lost(cause, self._where(name)))

    def _again(self, call: Callable[[], Result]) -> Result:
        attempts = _Attempts(self._deadline_s, self._clock)
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                attempts.next(error)

    def _where(self, name: str) -> str:
        return f"{name} in {self.place}"


class _Attempts:
    """Until a deadline, with growing pauses."""

    def __init__(self, deadline_s: float, clock: Clock) -> None:
        self._clock = clock
        self._end = clock.passed() + deadline_s
        self._pause = _FIRST_PAUSE

    def next(self, error: StoreUnavailable) -> None:
        """Waits before another try; raises the error where there is no time for one, or it would not help."""
        if isinstance(error, StoreRefused) or self._clock.passed() + self._pause >= self._end:
            raise error
        self._clock.wait(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _refusal(kind: type[ObjectTaken | ObjectChanged], where: str, there: bytes) -> ObjectTaken | ObjectChanged:
    if kind is ObjectTaken:
        return ObjectTaken(f"{where} is there already ({len(there):,} bytes of another)", there)
    return ObjectChanged(f"{where} is another one by now")


def _lost(error: Exception, where: str) -> Unsure:
    return Unsure(f"{where}: whether it was put is not known yet ({error})")


def _refused(error: Exception, where: str) -> StoreUnavailable:
    return StoreUnavailable(f"{where} was not put, for others were at it: {error}; try again")
