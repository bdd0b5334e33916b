"""What users searched, where it is kept: most often, without finding anything, and slowest.

Texts that differ in case and white space alone are one. A text that was asked several times has found what its last
search found, since the collection may have changed for the better meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from app.store.query_log import Found, Logged

Draw: TypeAlias = Literal["latest", "frequent", "without_hits"]


@dataclass(frozen=True, slots=True)
class Searched:
    """A text as it was asked last. asked: how often. mode, hits, best: of its last search, the score of the first hit
    there; None where nothing is known. median_ms: of all its searches."""

    query: str
    asked: int
    mode: str | None
    hits: int | None
    best: float | None
    median_ms: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """searches: that are kept, of texts; texts: that differ. without_hits: the texts whose last search had no hit, or
    none with a score of ``below`` or more, and so on: each list has the first ones alone, of as many as its count
    says."""

    searches: int
    texts: int
    without_hits_total: int
    without_hits: list[Searched]
    frequent: list[Searched]
    slowest: list[Searched]


def report(logged: Sequence[Logged], most: int, below: float | None = None) -> Report:
    """most: texts of each list. below: the score that a hit has to have, of whatever mode a search had."""
    texts = _texts(logged)
    missed = [one for one in texts if _missed(one, below)]
    timed = [one for one in texts if one.median_ms is not None]
    return Report(
        sum(one.asked for one in texts),
        len(texts),
        len(missed),
        _frequent(missed)[:most],
        _frequent(texts)[:most],
        sorted(timed, key=lambda one: -(one.median_ms or 0.0))[:most],
    )


def drawn(logged: Sequence[Logged], draw: Draw) -> list[str]:
    """Texts, each once: as they were asked last, in that order; the most frequent first; or those without a hit."""
    texts = _texts(logged)
    if draw == "without_hits":
        texts = [one for one in texts if _missed(one, None)]
    return [one.query for one in (texts if draw == "latest" else _frequent(texts))]


def _texts(logged: Iterable[Logged]) -> list[Searched]:
    """The last asked first."""
    of_text: dict[str, list[Logged]] = defaultdict(list)
    for one in logged:
        if one.text is not None and one.text.strip():
            key = " ".join(one.text.split()).casefold()
            # In the order of their last searches.
            of_text[key] = [*of_text.pop(key, ()), one]
    return [_searched(searches) for searches in reversed(of_text.values())]


def _searched(searches: Sequence[Logged]) -> Searched:
    known = [one.found for one in searches if one.found is not None]
    last: Found | None = known[-1] if known else None
    return Searched(
        str(searches[-1].text),
        len(searches),
        None if last is None else last.mode,
        None if last is None else last.hits,
        None if last is None else last.best,
        median(one.took_ms for one in known) if known else None,
    )


def _missed(one: Searched, below: float | None) -> bool:
    if one.hits is None:
        return False
    return one.best is None or (below is not None and one.best < below)


def _frequent(texts: Sequence[Searched]) -> list[Searched]:
    return sorted(texts, key=lambda one: -one.asked)
