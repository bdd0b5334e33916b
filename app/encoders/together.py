"""Queries that arrive together are encoded together, and a lone one waits for nothing.

There is no window of time. A query that comes while fewer passes run than there are cores is encoded at once, by its
own thread. Others wait, and the thread that waits longest takes everything with it into one pass as soon as one ends;
so the busier the machine, the larger the passes, and the longest wait for a start is one pass.

A pass of several callers that fails is made again by each caller for itself: an error reaches the one whose text it
is. An encoder that is not available at all is not asked again; all of the pass are told so. A pass has the deadline of
the caller who makes it: where that is over, the others are the first ones of the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from app.compute import deadline
from app.errors import EncoderUnavailable, TooSlow
from app.types import Encoded

MOST: Final = 64
"""Texts in one pass, unless one caller alone has more."""


class _Asked:
    """One caller's texts, and what becomes of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.decided = threading.Event()
        self.gone = False
        # The decision: those that the caller takes into its pass, or its answer; neither is "for itself".
        self.group: list[_Asked] = []
        self.answer: Encoded | EncoderUnavailable | None = None


class Together:
    """Gathers the queries of one encoder, for any number of threads."""

    def __init__(self, encode: Callable[[Sequence[str]], Encoded], at_once: int) -> None:
        """encode: as ``Encoder.encode_queries``. at_once: passes that may run at the same time."""
        self._encode = encode
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: deque[_Asked] = deque()
        self._closed = False

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """As the encoder's own, and raises it; also EncoderUnavailable after ``close``, TooSlow past the deadline."""
        asked = _Asked(texts)
        with self._lock:
            if self._closed:
                raise _closed()
            if self._free:
                self._free -= 1
                asked.group = [asked]
            else:
                self._waiting.append(asked)
        if not asked.group and not asked.decided.wait(deadline.left()):
            with self._lock:
                # One who was just called to run a pass runs it, for others rely on it.
                if not asked.group:
                    if asked in self._waiting:
                        self._waiting.remove(asked)
                    asked.gone = True
                    raise deadline.over()
        if asked.group:
            try:
                return self._pass(asked.group)
            finally:
                self._pass_on()
        if isinstance(asked.answer, EncoderUnavailable):
            raise EncoderUnavailable(asked.answer.message) from asked.answer
        return self._encode(texts) if asked.answer is None else asked.answer

    def close(self) -> None:
        """Those who wait are told that the encoder is not available; passes that run end by themselves."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for asked in waiting:
            asked.answer = _closed()
            asked.decided.set()

    def _pass(self, group: list[_Asked]) -> Encoded:
        """One pass over the group's texts; tells the others and returns the first one's part."""
        first, *others = group
        if not others:
            return self._encode(first.texts)
        try:
            found = self._encode([text for asked in group for text in asked.texts])
        except EncoderUnavailable as error:
            for asked in others:
                asked.answer = error
            raise
        except TooSlow:
            # This caller's time is over, not theirs.
            with self._lock:
                self._waiting.extendleft(asked for asked in reversed(others) if not asked.gone)
            others = []
            raise
        except Exception:  # noqa: BLE001 - each finds out for itself, and its own error is raised then
            return self._encode(first.texts)
        else:
            start = 0
            for asked in group:
                asked.answer = _part(found, start, start + len(asked.texts))
                start += len(asked.texts)
            assert isinstance(first.answer, Encoded)
            return first.answer
        finally:
            for asked in others:
                asked.decided.set()

    def _pass_on(self) -> None:
        """Hands the right to run a pass to the one who waits longest, with what waits behind it."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            first = self._waiting.popleft()
            group, size = [first], len(first.texts)
            while self._waiting and size + len(self._waiting[0].texts) <= MOST:
                group.append(self._waiting.popleft())
                size += len(group[-1].texts)
            first.group = group
        first.decided.set()


def _part(encoded: Encoded, start: int, stop: int) -> Encoded:
    """Of the texts start to stop, views."""
    tokens = None if encoded.tokens is None else encoded.tokens.slice(start, stop)
    return Encoded(encoded.pooled[start:stop], tokens, encoded.truncated[start:stop])


def _closed() -> EncoderUnavailable:
    return EncoderUnavailable("the encoder was closed; the server is stopping")
