"""Runs in TREC's form, `query Q0 document rank score tag` a line: what a search found, for others and from others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from app.errors import Invalid, RequestError


def run_lines(found: Mapping[str, Sequence[str]], scores: Mapping[str, Sequence[float]], tag: str) -> Iterator[str]:
    """Each with its end. found, scores: of each query, best first. trec_eval orders by scores in float32 and equal ones
    by ids, so a score that does not descend there is the next number below the one before. Raises Invalid for ids that
    the form cannot hold.

    >>> print(*run_lines({"q": ["b", "a"]}, {"q": [0.5, 0.5]}, "t"), sep="", end="")
    q Q0 b 1 0.5 t
    q Q0 a 2 0.49999997 t
    """
    for query, names in found.items():
        last = np.float32(np.inf)
        for rank, (name, score) in enumerate(zip(names, scores[query], strict=True), 1):
            for what, id in (("query", query), ("document", name)):
                if len(id.split()) != 1 or id.strip() != id:
                    raise Invalid(f"a run has no id with white space: {what} {id[:100]!r}; leave the run out")
            own = np.float32(score)
            last = own if own < last else np.nextafter(last, np.float32(-np.inf))
            yield f"{query} Q0 {name} {rank} {last!s} {tag}\n"


def read_run(lines: Iterable[tuple[int, bytes | RequestError]], name: str) -> dict[str, list[str]]:
    """Of each query the documents, best first: as trec_eval reads it, by score in float32, equal ones by their ids
    from the last to the first, whatever the ranks say. lines: numbered from 1. name: of the run, for messages.

    Raises Invalid."""
    found: dict[str, dict[str, float]] = {}
    for number, line in lines:
        where = f"{name}, line {number:,}"
        if isinstance(line, RequestError):
            raise Invalid(f"{where}: {line.message}") from line
        try:
            cells = line.decode().split()
        except UnicodeDecodeError as error:
            raise Invalid(f"{where}: not UTF-8: {error}") from error
        if not cells:
            continue
        if len(cells) not in (5, 6):
            raise Invalid(f"{where}: expected query, Q0, document, rank, score and tag; got {len(cells)} columns")
        query, _, document, _, said = cells[:5]
        try:
            score = float(np.float32(said))
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise Invalid(f"{where}: expected a number as the score, got {said[:100]!r}")
        own = found.setdefault(query, {})
        if document in own:
            raise Invalid(f"{where}: document {document!r} is there twice for query {query!r}")
        own[document] = score
    return {query: sorted(sorted(own, key=str.encode, reverse=True), key=own.__getitem__, reverse=True)
            for query, own in found.items()}  # fmt: skip
