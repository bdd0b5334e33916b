"""Judged queries that come as lines or as the files of others (``app.evaluation.foreign``): each is held to what one of
JSON is held to, and its faults are told by lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from pydantic import ValidationError

from app.api.edge.bodies import NDJSON
from app.api.schemas.evaluation import JudgedQuery
from app.documents import invalid, of_a_line
from app.errors import Invalid, MalformedBody, Problem
from app.evaluation.foreign import (
    MOST_PROBLEMS,
    ZIP,
    are_topics,
    numbered,
    read_qrels,
    read_topics,
    refused,
    unpacked,
)
from app.evaluation.judged import MAX_QUERIES, Judged
from app.settings import Limits

Placed: TypeAlias = Callable[[JudgedQuery], Judged]
"""Makes of a query what a set keeps, of a collection. Raises Invalid, with pointers into the query."""


def read_judged(
    media: str, content: bytes, split: str, known: Mapping[str, Judged], made: Placed, limits: Limits
) -> list[Judged]:
    """A body of lines, of queries or judgements of TREC, or of a BEIR folder in a ZIP file.

    known: the queries of the set that was there, for judgements that come without. Raises Invalid with the line of each
    fault, MalformedBody.
    """
    if media in NDJSON:
        return _queries(_lines(content), made, limits)
    if media == ZIP:
        queries, qrels = unpacked(content, split)
        topics = {one.id: one for one in _queries(_lines(queries), made, limits, most=None)}
        return _graded(qrels, topics)
    if are_topics(content):
        return _queries(read_topics(content), made, limits)
    return _graded(content, known)


def _graded(content: bytes, known: Mapping[str, Judged]) -> list[Judged]:
    return [replace(known[query], grades=grades) for query, grades in read_qrels(content, known.__contains__).items()]


def _lines(content: bytes) -> Iterator[tuple[int, bytes | dict[str, Any]]]:
    """A query a line as the API takes it, or as BEIR has it, `{"_id", "text"}`, without grades then."""
    for number, line in numbered(content):
        # Most lines are not looked at twice.
        if b'"_id"' in line:
            try:
                given = json.loads(line)
            except ValueError:
                given = None
            if isinstance(given, dict) and "_id" in given and "id" not in given:
                yield number, {"id": given["_id"], "query": given.get("text"), "grades": {}}
                continue
        yield number, line


def _queries(
    lines: Iterable[tuple[int, bytes | dict[str, Any]]], made: Placed, limits: Limits, most: int | None = MAX_QUERIES
) -> list[Judged]:
    found: dict[str, Judged] = {}
    problems: list[Problem] = []
    for number, line in lines:
        if len(problems) >= MOST_PROBLEMS:
            break
        try:
            own = made(_query(line, limits))
            if own.id in found:
                raise Invalid.at("/id", f"the query {own.id!r} is listed twice")
            found[own.id] = own
        except (Invalid, MalformedBody) as error:
            faults: Sequence[Problem] = getattr(error, "problems", ()) or [Problem("", error.message)]
            problems += [Problem(one.pointer, one.message, number) for one in faults]
        if most is not None and len(found) > most:
            raise Invalid.at("", f"a set has at most {most:,} queries")
    if problems:
        raise refused(problems[:MOST_PROBLEMS])
    if not found:
        raise Invalid.at("", "expected at least one query, one a line")
    return list(found.values())


def _query(line: bytes | dict[str, Any], limits: Limits) -> JudgedQuery:
    try:
        if isinstance(line, bytes):
            return JudgedQuery.model_validate_json(line, context=limits)
        return JudgedQuery.model_validate(line, context=limits)
    except ValidationError as error:
        found = invalid(error, JudgedQuery)
        raise (of_a_line(found, line) if isinstance(line, bytes) else found) from None
