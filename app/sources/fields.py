"""Which field of a record is what of a document: named by the caller, else by the names that such fields have.

A record is a row of a table or an object of JSON. Fields that are neither id, text, title nor vector are its metadata.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from app.documents import parse_document
from app.errors import Invalid, MalformedBody
from app.sources.metadata import kept, scalar
from app.types import Document, Kind

IDS: Final = ("id", "_id", "docid", "doc_id", "docno")
TEXTS: Final = ("text", "content", "contents", "body", "passage", "abstract", "description")
TITLES: Final = ("title", "headline", "name")
VECTORS: Final = ("vector", "vectors")
"""Names that are taken where none is given, the first that there is."""

Cell: TypeAlias = str | int | float | bool | list[str]


def _boolean(value: str) -> bool:
    match value.strip().lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
    raise ValueError("expected true or false, 1 or 0, yes or no")


def _list(value: str) -> list[str]:
    parts = json.loads(value) if value.lstrip().startswith("[") else value.split(";")
    if not isinstance(parts, list):
        raise ValueError("expected a list")
    return [part.strip() for part in map(str, parts) if part.strip()]


TYPES: dict[str, Callable[[str], Cell]] = {"str": str, "int": int, "float": float, "bool": _boolean, "list": _list}
"""The types that a cell of text may be read as; a list is of JSON, or has semicolons between."""


@dataclass(frozen=True, slots=True)
class Fields:
    """select: those of metadata, with a type where cells are text; None: all others. rename: (old, new) names, before
    all else, so that everything here says new ones. prefix: of ids that are taken from a field of a usual name, or
    made; None: of a source by itself, whose records without an id get one from their content. whole: each record is a
    document as the API takes it. values: whether documents carry some, which are of the field of this name, unless
    something else is said of it. Raises Invalid for a name that a field has no longer."""

    id: str | None = None
    text: tuple[str, ...] = ()
    title: str | None = None
    vector: str | None = None
    select: tuple[tuple[str, str], ...] | None = None
    rename: tuple[tuple[str, str], ...] = ()
    kind: Kind | None = None
    prefix: str | None = None
    whole: bool = False
    values: bool = False

    def __post_init__(self) -> None:
        new = {name for _, name in self.rename}
        for old, name in self.rename:
            if old in self.named and old not in new:
                raise Invalid(f"the field {old!r} is renamed to {name!r}: call it so")

    @property
    def named(self) -> list[str]:
        """Those that the caller named, and of which each has to be there."""
        given = [self.id, *self.text, self.title, self.vector, *(name for name, _ in self.select or ())]
        return [name for name in given if name]

    @property
    def given(self) -> bool:
        """Whether the caller said anything."""
        return bool(self.named or self.rename or self.select is not None)

    def of_part(self, part: str) -> Fields:
        """Of a part of a file, such as a sheet: its ids are apart from those of the others."""
        return self if self.prefix is None or not part else replace(self, prefix=f"{self.prefix}#{part}")

    def renamed(self, names: Iterable[str]) -> list[str]:
        """Raises Invalid for two of one name."""
        new = dict(self.rename)
        found = [new.get(name, name) for name in names]
        if len(set(found)) < len(found):
            twice = next(name for name in found if found.count(name) > 1)
            raise Invalid(f"more than one field is called {twice!r}")
        return found

    def says_text(self, names: Sequence[str]) -> bool:
        """Whether it is known which of these fields is the text."""
        return bool(self.text or self.vector) or _usual(names, (*TEXTS, *VECTORS)) is not None

    def document(self, record: Mapping[str, Any], number: int = 0) -> Document | None:
        """The document of a record, None where it has neither title, text nor vector. number: of the record in its
        source; 0: it is all of it. Raises Invalid with pointers, MalformedBody.

        >>> found = Fields(prefix="a.csv").document({"Name": "Wren", "body": "A bird.", "year": 1900}, 7)
        >>> found.id, found.title, found.text, found.metadata
        ('a.csv#7', 'Wren', 'A bird.', {'year': 1900})
        """
        if self.whole:
            return parse_document(json.dumps(_written(record)), self.kind)
        record = dict(zip(self.renamed(map(str, record)), record.values(), strict=True))
        names = list(record)
        id_field = self.id or _usual(names, IDS)
        title_field = self.title or _usual(names, TITLES)
        vector_field = self.vector or _usual(names, VECTORS)
        text_fields = self.text or tuple(filter(None, (_usual(names, TEXTS),)))
        for name in (self.id, self.vector):
            if name is not None and record.get(name) is None:
                raise Invalid(f"expected a field {name!r}; its fields: {_listed(names)}")
        if self.text and not any(name in record for name in self.text):
            raise Invalid(f"expected a field {self.text[0]!r}; its fields: {_listed(names)}")
        own = {id_field, title_field, vector_field, *text_fields}
        title = _said(record, title_field)
        text = "\n\n".join(filter(None, (_said(record, name) for name in text_fields)))
        if not text_fields and vector_field is None:
            # Nothing says which: then all that is text can be found, and by whose names it stands.
            told = {name: value for name, value in record.items() if name not in own and isinstance(value, str)}
            text = "\n".join(f"{name}: {value.strip()}" for name, value in told.items() if value.strip())
        vector = None if vector_field is None else record.get(vector_field)
        if vector is None and not (text.strip() or title.strip()):
            return None
        body = {"title": title, "text": text, "metadata": kept(self._metadata(record, own))}
        if isinstance(record.get("sparse_vector"), Mapping):
            body["sparse_vector"] = record["sparse_vector"]
        if self._carries(record, own):
            body["values"] = record["values"]
        if vector is not None:
            body.update(_vector(vector))
        made = self._id(record, id_field, number)
        if made is not None:
            body["id"] = made
        return parse_document(json.dumps(body), self.kind)

    def _metadata(self, record: Mapping[str, Any], own: set[str | None]) -> dict[str, Any]:
        if self.select is not None:
            there = [(name, kind) for name, kind in self.select if record.get(name, "") != ""]
            return {name: _typed(name, record[name], kind) for name, kind in there}
        rest = {name: value for name, value in record.items() if name not in own and value != ""}
        # A column of a table is there where a row has none, too.
        for name in ("sparse_vector", *(("values",) if self.values else ()), "metadata"):
            if name in rest and rest[name] is None:
                del rest[name]
        if isinstance(rest.get("sparse_vector"), Mapping):
            del rest["sparse_vector"]
        if self._carries(record, own):
            del rest["values"]
        if isinstance(rest.get("metadata"), Mapping):
            rest.update({key: value for key, value in rest.pop("metadata").items() if key not in rest})
        return rest

    def _carries(self, record: Mapping[str, Any], own: set[str | None]) -> bool:
        """Whether the record's `values` are what the document is to carry."""
        named = "values" in own or any(name == "values" for name, _ in self.select or ())
        return self.values and not named and carried(record.get("values"))

    def _id(self, record: Mapping[str, Any], field: str | None, number: int) -> str | None:
        """None: it is made of the document. Raises Invalid for what is no id."""
        given = None if field is None else record.get(field)
        if given is not None and given != "":
            value = scalar(given) if not isinstance(given, bytes) else given.decode(errors="replace")
            # Sheets and frames have whole numbers as floats.
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            if isinstance(value, bool | float):
                raise Invalid.at(f"/{field}", f"an id is a string or an integer; got {value!r}")
            return str(value) if self.prefix is None or self.id is not None else f"{self.prefix}#{value}"
        if self.id is not None:
            return ""
        if self.prefix is not None:
            return f"{self.prefix}#{number}" if number else self.prefix
        return None


def _written(record: Mapping[str, Any]) -> dict[str, Any]:
    """A document as a body has it. What is null was not there."""
    body = {name: value for name, value in record.items() if value is not None}
    for name in VECTORS:
        if name in body:
            body.update(_vector(body.pop(name)))
    return body


def renames(given: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """`old=new` each. option: what they were given as, for messages. Raises Invalid.

    >>> renames(["key=id"], "rename")
    (('key', 'id'),)
    """
    pairs = [(old, new) for old, _, new in (one.partition("=") for one in given)]
    if wrong := [one for one, (old, new) in zip(given, pairs, strict=True) if not (old and new)]:
        raise Invalid(f"{option}: expected FIELD=NAME, got {wrong[0]!r}")
    return tuple(pairs)


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The name among these that is the first of the usual ones, in any case."""
    known = {name.strip().casefold(): name for name in reversed(names)}
    return next((known[name] for name in usual if name in known), None)


def _said(record: Mapping[str, Any], field: str | None) -> str:
    value = None if field is None else record.get(field)
    match value:
        case None:
            return ""
        case str():
            return value
        case list() | tuple():
            return "\n".join(str(scalar(one)) for one in value if one is not None)
        case Mapping():
            raise Invalid.at(f"/{field}", "expected a text, got an object")
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise Invalid.at(f"/{field}", f"not UTF-8: {error}") from error
    return str(scalar(value))


def _typed(name: str, value: Any, kind: str) -> Any:
    if not kind or not isinstance(value, str):
        return value
    try:
        return TYPES[kind](value)
    except ValueError as error:
        raise Invalid.at(f"/metadata/{name}", f"expected {kind}, got {value!r}") from error


def _vector(value: Any) -> dict[str, Any]:
    """As a body has it: one vector, or several."""
    if isinstance(value, Mapping):
        return {"vector" if len(value.get("shape", ())) == 1 else "vectors": dict(value)}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise MalformedBody(f"a vector that is no list of numbers: {error}") from error
    try:
        array = np.asarray(value, np.float64 if isinstance(value, list | tuple) else None)
        if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise Invalid("expected a vector, or several of one length, as lists of numbers") from error
    with np.errstate(over="ignore"):
        content = np.ascontiguousarray(array, "<f4")
    given = {"base64": base64.b64encode(content.tobytes()).decode(), "dtype": "float32", "shape": list(array.shape)}
    return {"vector" if array.ndim == 1 else "vectors": given}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in names[:50])


def carried(values: object) -> bool:
    """Whether a record's `values` are what a document carries, as an export has them: lists of numbers in a list, or
    these as base64.

    >>> carried([[1, 2.5]]), carried([1, 2.5]), carried([]), carried(None)
    (True, False, False, False)
    >>> carried({"base64": "AACAPw==", "dtype": "float32", "shape": [1, 1]}), carried({"base64": ""})
    (True, False)
    """
    if isinstance(values, Mapping):
        return values.keys() == {"base64", "dtype", "shape"}
    lists = isinstance(values, list) and bool(values) and all(isinstance(one, list) for one in values)
    return lists and all(isinstance(number, int | float) for one in values for number in one)  # type: ignore[attr-defined]
