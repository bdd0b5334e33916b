"""The names of metadata's values: the keys that lead there, with dots between.

``author.name`` is the key ``name`` of the object under ``author``. A key that is not of letters, digits, ``_`` and
``-`` stands in double quotes, in which ``\\"`` and ``\\\\`` are these two signs: ``"Publication year"``,
``author."e.mail"``. The first key also begins with a letter or ``_``, or is quoted. So a name is unambiguous: nothing
that is not quoted has a dot, a space, a quote or ``$`` in it, and the operators of filters are never quoted.

``$id`` and ``$title`` are the document's own: a metadata key that begins with ``$`` needs quotes, so none is ever
mistaken for them. ``and``, ``or`` and ``not`` make filters of filters; fields of these names are quoted.

One thing is older than nested objects: an outermost key with dots is reached without quotes, too. ``a.b`` has the
values of both ``{"a": {"b": 1}}`` and ``{"a.b": 1}``, ``"a.b"`` of the second alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_QUOTED: Final = r'"(?:[^"\\]|\\["\\])*"'
_FIRST: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
FIELD: Final = re.compile(rf"\$id|\$title|(?:{_FIRST}|{_QUOTED})(?:\.(?:[A-Za-z0-9_-]*|{_QUOTED}))*")
OWN: Final = ("$id", "$title")
"""Names of what every document has beside metadata."""
RESERVED: Final = frozenset({"and", "or", "not"})
EXPECTED: Final = (
    "a field is keys with dots between, such as author.name; a key with other signs than letters, digits, _ and - "
    'stands in double quotes: "Publication year", "a.b"; the document\'s own are $id and $title'
)
_DOTTED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*")
_PLAIN_FIRST: Final = re.compile(_FIRST)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEY: Final = re.compile(rf"({_QUOTED})|([A-Za-z0-9_-]*)")


@lru_cache(maxsize=4_096)
def named(field: str) -> str:
    """The one spelling of a name: with no quotes but where they are needed.

    >>> named('"year"."first edition"'), named("author.name"), named('"and"')
    ('year."first edition"', 'author.name', '"and"')
    """
    return _joined(keys_of(field)) if '"' in field else field


@lru_cache(maxsize=4_096)
def keys_of(field: str) -> tuple[str, ...]:
    """The keys of a name, without their quotes.

    >>> keys_of('author."e.mail"')
    ('author', 'e.mail')
    """
    found, place = [], 0
    while True:
        key = _KEY.match(field, place)
        assert key is not None, "a name of a field was looked at before"
        quoted, plain = key.groups()
        found.append(re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL) if quoted is not None else plain)
        place = key.end() + 1
        if place > len(field):
            return tuple(found)


def child(field: str, key: str) -> str:
    """The name of what lies under a key of the object that has this name."""
    return _joined((*keys_of(field), key)) if '"' in field else f"{field}.{rendered(key)}"


def parts_of_point(field: str) -> tuple[str, str]:
    """The names of the latitude and the longitude of a point."""
    return child(field, "lat"), child(field, "lon")


def outermost(key: str) -> str:
    """The name of an outermost key.

    >>> outermost("year"), outermost("Publication year"), outermost("$id"), outermost("or")
    ('year', '"Publication year"', '"$id"', '"or"')
    """
    return _quoted(key) if key in RESERVED or not _PLAIN_FIRST.fullmatch(key) else key


def under(key: str) -> str:
    """The beginning of the names of what lies under an outermost key."""
    return key if key in RESERVED else outermost(key)


def rendered(key: str) -> str:
    """A key after a dot."""
    return key if _PLAIN.fullmatch(key) else _quoted(key)


def is_dotted(key: str) -> bool:
    """Whether it is reached without quotes though it has dots, where it is an outermost one."""
    return _DOTTED.fullmatch(key) is not None


def _joined(keys: tuple[str, ...]) -> str:
    if len(keys) == 1:
        return outermost(keys[0])
    return ".".join([under(keys[0]), *map(rendered, keys[1:])])


def _quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
