"""The tasks of many collections: listed by page, found by id, without reading more than what is shown."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

from app.errors import Damaged, Invalid, NotFound, SystemFault, Unavailable
from app.tasks.records import Task
from app.tasks.tasks import Tasks

PAGE: Final = 100
"""Tasks of a page where nobody says how many."""
SHOWN: Final = 10
"""Errors of each task in a page, the first ones; all are had by asking for the task."""

_Place: TypeAlias = tuple[str, int, str]
"""When it was created, its number, its id: the newest is the largest."""


def page_of(collections: Iterable[Tasks], limit: int, cursor: str | None = None) -> tuple[list[Task], str | None]:
    """The newest first, those after the cursor; and where to go on, None at the end. Raises Invalid (no such cursor).

    Without those of collections that are just being closed, or cannot be read.
    """
    last = None if cursor is None else _parse(cursor)
    places: list[tuple[_Place, Tasks]] = []
    for tasks in collections:
        for identifier, known in tasks.known.items():
            place = known.created, known.number, identifier
            if last is None or place < last:
                places.append((place, tasks))
    chosen = heapq.nlargest(limit, places, key=lambda one: one[0])
    found = []
    for (_, _, identifier), tasks in chosen:
        # One that was forgotten meanwhile is not there.
        with suppress(NotFound, Unavailable, Damaged, SystemFault):
            found.append(tasks.get(identifier, most=SHOWN))
    more = len(places) > limit
    return found, _cursor(chosen[-1][0]) if more else None


def owner_of(collections: Iterable[Tasks], identifier: str) -> Tasks:
    """Whose task it is. Raises NotFound."""
    for tasks in collections:
        if identifier in tasks.known:
            return tasks
    raise unknown_task(identifier)


def unknown_task(identifier: str) -> NotFound:
    return NotFound(f"there is no task {identifier!r}", code="task_not_found")


def _cursor(place: _Place) -> str:
    created, number, identifier = place
    return f"{created}/{number}/{identifier}"


def _parse(cursor: str) -> _Place:
    created, _, rest = cursor.partition("/")
    number, _, identifier = rest.partition("/")
    if not (created and number.isdecimal() and len(number) < 20 and identifier):
        raise Invalid.at("/cursor", "expected the cursor of a former page")
    return created, int(number), identifier
