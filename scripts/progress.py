"""How a long command says how far it is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final, TextIO

from tqdm import tqdm

EVERY_S: Final = 15.0
"""Between lines where there is no terminal."""


class Progress:
    """One phase of work. ``update`` says how much is done; what else there is to say comes as ``note``."""

    def __init__(self, name: str, unit: str, total: int | None, out: TextIO = sys.stderr) -> None:
        self._name, self._unit, self._total, self._out = name, unit, total, out
        self._bar: Any = None
        if out.isatty():
            scaled = unit == "B"
            # A terminal of unknown width says 0, at which tqdm would show nothing.
            known = os.get_terminal_size(out.fileno()).columns > 0
            self._bar = tqdm(
                desc=name,
                total=total,
                unit=unit if scaled else f" {unit}",
                unit_scale=scaled,
                dynamic_ncols=known,
                ncols=None if known else 80,
                nrows=None if known else 20,
                file=out,
            )
        self._started = time.monotonic()
        self._first: int | None = None
        self._said = self._started
        self._done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._line("")

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """done and total in the unit; a total may become known late."""
        self._total = total if total is not None else self._total
        if self._first is None:
            self._first = 0 if self._bar is not None else done
        self._done = done
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            self._bar.refresh()
        elif time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            self._line(note)

    def say(self, message: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(message, file=self._out)
        else:
            self._out.write(message + "\n")
            self._out.flush()

    def _line(self, note: str) -> None:
        elapsed = time.monotonic() - self._started
        rate = (self._done - (self._first or 0)) / elapsed if elapsed > 0 else 0.0
        text = f"{self._name}: {self._done:,}"
        if self._total:
            text += f" of {self._total:,} {self._unit} ({self._done / self._total:.0%})"
            if 0 < self._done < self._total and rate > 0:
                text += f", {clock((self._total - self._done) / rate)} left"
        else:
            text += f" {self._unit}"
        self._out.write(text + (f", {note}" if note else "") + f", {clock(elapsed)} so far\n")
        self._out.flush()


def clock(seconds: float) -> str:
    """`minutes:seconds`.

    >>> clock(125.4)
    '2:05'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
