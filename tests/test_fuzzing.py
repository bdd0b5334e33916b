"""The two parsers of what strangers write, documents and filters, held against plain ones that know no speed."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.documents import parse_document
from app.errors import Invalid, MalformedBody, RequestError
from app.filters import Condition, parse
from app.sources.ndjson import Ndjson
from app.types import Document

LAWS = settings(derandomize=True, deadline=None, max_examples=400)
KEY = r'"(?:[^"\\]|\\["\\])*"'
FIELD = re.compile(rf"\$id|\$title|(?:[A-Za-z_][A-Za-z0-9_-]*|{KEY})(?:\.(?:[A-Za-z0-9_-]*|{KEY}))*")
WORDS = [
    "id",
    "text",
    "title",
    "metadata",
    "vector",
    "vectors",
    "a",
    "and",
    "or",
    "not",
    "eq",
    "in",
    "gt",
    "exists",
    "a.b",
    "",
]
OPERATORS = ["eq", "ne", "in", "gt", "gte", "lt", "lte", "exists"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0, 1]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(WORDS),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), inner, max_size=3),
    ),
    max_leaves=10,
)


# Filters


def is_scalar(value: Any) -> bool:
    if value is None or isinstance(value, bool | str):
        return True
    if isinstance(value, int):
        return abs(value) <= 10**308
    return isinstance(value, float) and math.isfinite(value)


def is_filter(value: Any, depth: int = 1) -> bool:
    """DESIGN's sentence on filters, and the limits on their size."""
    if depth > 32 or not isinstance(value, dict) or len(value) != 1:
        return False
    ((key, body),) = value.items()
    if key in ("and", "or"):
        return isinstance(body, list) and bool(body) and all(is_filter(one, depth + 1) for one in body)
    if key == "not":
        return is_filter(body, depth + 1)
    if not FIELD.fullmatch(key):
        return False
    if is_scalar(body):
        return True
    return isinstance(body, dict) and bool(body) and all(is_condition(*one) for one in body.items())


def is_condition(operator: Any, operand: Any) -> bool:
    if operator in ("exists", "empty"):
        return isinstance(operand, bool)
    if operator == "in":
        return isinstance(operand, list) and all(map(is_scalar, operand))
    if operator in ("eq", "ne", "contains"):
        return is_scalar(operand)
    if operator in ("prefix", "ieq"):
        return isinstance(operand, str)
    ordered = is_scalar(operand) and operand is not None and not isinstance(operand, bool)
    return operator in ("gt", "gte", "lt", "lte") and ordered


def is_kept(value: Any, depth: int = 1) -> bool:
    """Whether metadata may hold it."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth <= 20 and all(is_kept(one, depth + 1) for one in inner)
    return is_scalar(value)


def means(value: Any, metadata: dict[str, Any]) -> bool:
    """The verdict of a valid filter on metadata of numbers, booleans and strings."""
    ((key, body),) = value.items()
    if key == "and":
        return all(means(one, metadata) for one in body)
    if key == "or":
        return any(means(one, metadata) for one in body)
    if key == "not":
        return not means(body, metadata)
    if not isinstance(body, dict):
        return holds(key, "eq", body, metadata)
    return all(holds(key, operator, operand, metadata) for operator, operand in body.items())


def holds(key: str, operator: str, operand: Any, metadata: dict[str, Any]) -> bool:
    if operator == "exists":
        return (key in metadata) == operand
    if key not in metadata:
        return False
    here = metadata[key]

    def kind(one: Any) -> str:
        if one is None:
            return "null"
        return "boolean" if isinstance(one, bool) else "string" if isinstance(one, str) else "number"

    def equal(one: Any) -> bool:
        return kind(here) == kind(one) and here == one

    match operator:
        case "eq":
            return equal(operand)
        case "ne":
            return not equal(operand)
        case "in":
            return any(map(equal, operand))
    if kind(here) != kind(operand) or kind(here) == "boolean":
        return False
    return {"gt": here > operand, "gte": here >= operand, "lt": here < operand, "lte": here <= operand}[operator]


fields = st.sampled_from(["a", "b.c", "_"])
fitting = st.one_of(st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=2))
ordered = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=2))
sound = st.one_of(
    st.builds(lambda f, o, v: {f: {o: v}}, fields, st.sampled_from(["eq", "ne"]), fitting),
    st.builds(lambda f, o, v: {f: {o: v}}, fields, st.sampled_from(["gt", "gte", "lt", "lte"]), ordered),
    st.builds(lambda f, v: {f: {"in": v}}, fields, st.lists(fitting, max_size=3)),
    st.builds(lambda f, v: {f: {"exists": v}}, fields, st.booleans()),
    st.builds(lambda f, v: {f: v}, fields, fitting),
    st.builds(lambda f, v, o, w: {f: {"ne": v, o: w}}, fields, fitting, st.sampled_from(["gte", "lt"]), ordered),
)
unsound = st.dictionaries(
    st.sampled_from(["a", "b.c", "1a", "and", "a-b"]),
    st.dictionaries(
        st.sampled_from([*OPERATORS, "like"]), st.one_of(scalars, st.lists(scalars, max_size=3)), min_size=1, max_size=2
    ),
    min_size=1,
    max_size=2,
)
near = st.recursive(
    st.one_of(sound, sound, sound, unsound),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)
metadata = st.dictionaries(
    st.sampled_from(["a", "b.c", "_"]),
    st.one_of(st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=2)),
)


def resolves(pointer: str, value: Any) -> bool:
    """Whether a JSON pointer leads to something (RFC 6901)."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            if not key.isdecimal() or int(key) >= len(value):
                return False
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False
    return True


@LAWS
@given(st.one_of(near, anything), metadata)
@example({"a": {"in": []}}, {"a": 1})
@example({"a": {"eq": 1}}, {"a": True})
@example({"a": 1}, {"a": 1.0})
@example({"a": {"gte": 1, "lt": 2}}, {"a": 2})
@example({"a": {}}, {"a": 1})
def test_a_filter_is_what_the_contract_says(value: Any, row: dict[str, Any]) -> None:
    if is_filter(value):
        assert parse(value).matches(row) == means(value, row)
        return
    try:
        found = parse(value)
    except Invalid as error:
        (problem,) = error.problems
        assert problem.pointer.startswith("/filter")
        assert resolves(problem.pointer.removeprefix("/filter"), value), problem.pointer
    else:
        raise AssertionError(f"taken: {found}")


def test_the_oracle_of_filters_takes_and_refuses() -> None:
    """Both answers are common among what is made, else the law above would say little."""
    seen = {True: 0, False: 0}

    @settings(derandomize=True, deadline=None, max_examples=200, database=None)
    @given(near)
    def count(value: Any) -> None:
        seen[is_filter(value)] += 1

    count()
    assert min(seen.values()) > 20
    assert isinstance(parse({"a": {"eq": 1}}), Condition)


# Documents, a line each


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def vectors_of(body: dict[str, Any]) -> Any:
    """The rows of numbers that a document has, None for none. Raises ValueError for what cannot be."""
    found: list[list[Any]] | None = None
    for field in ("vector", "vectors"):
        if field in body:
            if found is not None:
                raise ValueError("both")
            found = [body[field]] if field == "vector" else body[field]
            if not isinstance(found, list) or not found:
                raise ValueError("no rows")
            for row in found:
                if not isinstance(row, list) or not 1 <= len(row) <= 16_384 or len(row) != len(found[0]):
                    raise ValueError("a row")
                if not all(is_number(one) and abs(one) < 3.4e38 for one in row):
                    raise ValueError("a number")
    return found


def plain(content: bytes) -> tuple[Any, ...]:
    """(id, text, title, metadata, rows) of a document. Raises ValueError for what is none."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    body = json.loads(content.decode(), parse_constant=refuse)
    if not isinstance(body, dict) or set(body) - {"id", "text", "title", "metadata", "vector", "vectors"}:
        raise ValueError("fields")
    texts = body.get("id", "made"), body.get("text", ""), body.get("title", "")
    if type(texts[0]) is int and -(2**63) <= texts[0] < 2**64:
        texts = (str(texts[0]), *texts[1:])
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("text")
    json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate is no Unicode
    id, text, title = texts
    if not 1 <= len(id.encode()) <= 512 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in id):
        raise ValueError("id")
    fields = body.get("metadata", {})
    if not isinstance(fields, dict):
        raise ValueError("metadata")
    if not is_kept(fields):
        raise ValueError("metadata")
    rows = vectors_of(body)
    if rows is None and not text.strip() and not title.strip():
        raise ValueError("nothing to find")
    if "id" not in body:
        made = hashlib.sha256(json.dumps([title, text, fields], sort_keys=True).encode())
        if rows is not None:
            array = np.array(rows, "<f4")
            made.update(str(array.shape).encode() + array.tobytes())
        id = made.hexdigest()[:32]
    return id, text, title, fields, rows


documents = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.text(min_size=1, max_size=8), scalars),
        "text": st.one_of(st.text(max_size=8), st.text(string.ascii_letters, min_size=1), scalars),
        "title": st.one_of(st.text(max_size=8), scalars),
        "metadata": st.one_of(
            st.dictionaries(
                st.sampled_from(["a", "b.c", "not", "1"]), st.one_of(scalars, st.lists(st.text(max_size=3)))
            ),
            anything,
        ),
        "vector": st.one_of(st.lists(st.floats(-9, 9), max_size=3), anything),
        "vectors": st.one_of(st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), max_size=3), anything),
        "extra": scalars,
    },
)
mostly = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=8), "text": st.text(max_size=8)},
    optional={
        "title": st.text(max_size=8),
        "metadata": metadata,
        "vector": st.lists(st.one_of(st.integers(-9, 9), st.floats(width=32)), min_size=1, max_size=3),
    },
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A document as JSON, whole or with a few bytes changed."""
    value = draw(st.one_of(mostly, documents, anything))
    content = bytearray(json.dumps(value, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(content)


@LAWS
@given(lines())
@example(b'{"id": "a", "text": "b", "text": 1}')
@example(b'{"id": "a", "text": "b", "metadata": {"a": 1e999}}')
@example(b'{"id": "a", "text": "b", "metadata": {"a": -0}}')
@example(b'{"id": "\\ud83d\\ude00", "text": "b"}')
@example(b'\xef\xbb\xbf{"id": "a", "text": "b"}')
@example(b'{"id": "a", "text": "b"} ')
@example(b'{"id": "a", "text": "b"}{"id": "a", "text": "b"}')
def test_a_line_is_what_the_contract_says(content: bytes) -> None:
    try:
        expected: tuple[Any, ...] | None = plain(content)
    except ValueError:
        expected = None
    found: Document | None
    try:
        found = parse_document(content)
    except (Invalid, MalformedBody):
        found = None
    assert (found is None) == (expected is None), found
    if found is None or expected is None:
        return
    id, text, title, fields, rows = expected
    assert (found.id, found.text, found.title) == (id, text, title)
    assert json.dumps(found.metadata) == json.dumps(fields)
    if rows is None:
        assert found.vectors is None
    else:
        assert found.vectors is not None
        assert found.vectors.shape == (len(rows), len(rows[0]))
        assert all(
            math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-37)
            for mine, theirs in zip(found.vectors.tolist(), rows, strict=True)
            for a, b in zip(mine, theirs, strict=True)
        )


@LAWS
@given(st.lists(lines(), max_size=5), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_lines_are_read_one_by_one_whatever_stands_beside_them(given: list[bytes], end: bytes) -> None:
    """A file: each line by its number, as it would be alone. A line break inside makes two lines of one."""
    content = end.join(given)
    expected = []
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip(b" \t\r\n\x0b\x0c"):
            try:
                expected.append((number, plain(line.rstrip(b"\r\n"))[0]))
            except ValueError:
                expected.append((number, None))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.ndjson"
        path.write_bytes(content)
        found = [
            (entry.line, entry.found.id if isinstance(entry.found, Document) else None)
            for entry in Ndjson(path).entries()
        ]
    assert found == expected


WHOLE = b"".join(b'{"id": "%d", "text": "%d"}\n' % (i, i * 7919 % 104_729) for i in range(60))
ZIPPED = gzip.compress(WHOLE, mtime=0)


@LAWS
@given(
    st.lists(st.tuples(st.integers(0, len(ZIPPED) - 1), st.integers(1, 255)), max_size=3),
    st.one_of(st.none(), st.integers(0, len(ZIPPED))),
    st.one_of(st.just(b""), st.binary(max_size=5)),
)
def test_a_damaged_gzip_file_is_never_taken_for_a_whole_one(
    flips: list[tuple[int, int]], cut: int | None, more: bytes
) -> None:
    content = bytearray(ZIPPED)
    for place, mask in flips:
        content[place] ^= mask
    damaged = bytes(content[:cut]) + more
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.ndjson.gz"
        path.write_bytes(damaged)
        try:
            found = [entry.found for entry in Ndjson(path).entries()]
        except RequestError:
            return
    # It was read to its end without a word: then all of it is there (or there was nothing at all).
    ids = [one.id if isinstance(one, Document) else None for one in found]
    assert ids == ([str(i) for i in range(60)] if damaged else [])
