"""What filters mean, once more: loops over JSON, with nothing of the product in them. And what they are asked of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

LARGE = 2**53
NUMBERS: list[Any] = [0, -0.0, 1, 1.0, -1, 0.5, LARGE, LARGE + 1, float(LARGE), 10**30, -(10**308), 1e300]
STRINGS = ["", "a", "b", "ab", "Ab", "aB", "1", "true", "é", "\U0001f600", "Straße", "STRASSE"]
KEYS = ["a", "b", "a.b", "b c", "$id", 'q"\\', "and", "1", "x-y", "a.", ""]
RANGES = ("gt", "gte", "lt", "lte")

leaves = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(STRINGS), st.integers(-3, 3))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """A condition as it is asked, and the same as the plain loops take it: keys, operator, value."""
    keys = draw(paths)
    operator = draw(
        st.sampled_from(["eq", "ne", "in", *RANGES, "exists", "empty", "contains", "prefix", "ieq"]),
    )
    value: Any
    if operator in ("exists", "empty"):
        value = draw(st.booleans())
    elif operator == "in":
        value = draw(st.lists(leaves, max_size=3))
    elif operator in ("prefix", "ieq"):
        value = draw(st.sampled_from(STRINGS))
    elif operator in RANGES:
        value = draw(st.one_of(st.sampled_from(NUMBERS), st.sampled_from(STRINGS)))
    else:
        value = draw(leaves)
    return {written(keys): {operator: value}}, ["is", keys, operator, value]


def joined(kind: str, some: list[tuple[dict[str, Any], list[Any]]]) -> tuple[dict[str, Any], list[Any]]:
    """Filters as one, in both forms."""
    return {kind: [asked for asked, _ in some]}, [kind, *(plain for _, plain in some)]


filters = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda some: joined("and", some)),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: joined("or", some)),
        inner.map(lambda one: ({"not": one[0]}, ["not", one[1]])),
    ),
    max_leaves=5,
)  # fmt: skip


def written(keys: list[str]) -> str:
    """The name, with quotes around every key, so that each is what it says."""
    return ".".join('"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys)


def passes(plain: list[Any], metadata: dict[str, Any]) -> bool:
    """Whether a document with this metadata passes a filter of the plain form."""
    kind, *rest = plain
    if kind == "and":
        return all(passes(one, metadata) for one in rest)
    if kind == "or":
        return any(passes(one, metadata) for one in rest)
    if kind == "not":
        return not passes(rest[0], metadata)
    keys, operator, value = rest
    found, listed = reached(metadata, keys)
    if operator == "exists":
        return (bool(found) or listed) == value
    if not found and not listed:
        return False
    if operator == "empty":
        nothing = not found if listed else found[0] is None or found[0] in ("", {})
        return bool(nothing) == value
    if operator in RANGES:
        return not listed and in_range(found[0], operator, value)
    if operator == "contains":
        if listed:
            return any(equal(one, value) for one in found)
        return isinstance(found[0], str) and isinstance(value, str) and value in found[0]
    if operator == "prefix":
        return any(isinstance(one, str) and one[: len(value)] == value for one in found)
    if operator == "ieq":
        return any(isinstance(one, str) and one.casefold() == value.casefold() for one in found)
    if operator == "ne":
        return not any(equal(one, value) for one in found)
    return any(equal(one, item) for one in found for item in (value if operator == "in" else [value]))


def reached(metadata: dict[str, Any], keys: list[str]) -> tuple[list[Any], bool]:
    """What the keys lead to, and whether a list is in it or on the way. A name without quotes has dotted keys, too."""
    ways = [list(keys)]
    for stop in range(2, len(keys) + 1):
        if all(plain_key(key, first=i == 0) for i, key in enumerate(keys[:stop])):
            ways.append([".".join(keys[:stop]), *keys[stop:]])
    found: list[Any] = []
    listed = False
    for way in ways:
        some, through = follow(metadata, way)
        found += some
        listed = listed or through
    return found, listed or len(found) > 1


def follow(value: Any, keys: list[str]) -> tuple[list[Any], bool]:
    if isinstance(value, list):
        found = []
        there = not keys
        for item in value:
            some, through = follow(item, keys)
            found += some
            there = there or through or bool(some)
        return found, there
    if not keys:
        return [value], False
    if not isinstance(value, dict) or keys[0] not in value:
        return [], False
    return follow(value[keys[0]], keys[1:])


def plain_key(key: str, *, first: bool) -> bool:
    """Of letters, digits, underscores and hyphens."""
    if not key or any(sign not in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-" for sign in key):
        return False
    return not first or key[0] not in "0123456789-"


def equal(a: Any, b: Any) -> bool:
    kinds = [0 if one is None else 1 if isinstance(one, bool) else 2 if isinstance(one, int | float) else 3
             if isinstance(one, str) else 4 for one in (a, b)]  # fmt: skip
    return kinds[0] == kinds[1] != 4 and a == b


def in_range(a: Any, operator: str, b: Any) -> bool:
    for kind in (str, int | float):
        if isinstance(a, kind) and isinstance(b, kind) and not isinstance(a, bool):
            return bool({"gt": a > b, "gte": a >= b, "lt": a < b, "lte": a <= b}[operator])
    return False
