"""What documents carry: written, found, changed, and the same to the bit wherever a document goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import MakeCollection

from app.backup.exported import export_documents
from app.batch.arrays import Many
from app.batch.search import search_many
from app.catalogue.scrub import scrub
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.spec import ValueSpec
from app.documents import parse_document, to_line
from app.errors import Invalid
from app.indexing.sealing import merge, seal
from app.ingest import patch_document, write_documents
from app.search import Query, search
from app.sources.fields import Fields
from app.types import F32, Document

WIDE = 5
KINDS = ["dense", "multi_vector"]


def carrying(i: int, random: np.random.Generator, kind: str) -> Document:
    """Every third carries nothing, the others one to three vectors, some of their numbers -0."""
    keys = random.normal(size=(1 if kind == "dense" else 2, 4)).astype(np.float32)
    values = None if i % 3 == 0 else random.normal(size=(i % 3 + i % 2, WIDE)).astype(np.float32).round()
    return Document(f"d{i}", f"text {i}", vectors=keys, values=values)


def held(collection: Collection) -> dict[str, F32 | None]:
    ids = [f"d{i}" for i in range(30)]
    return {one.id: one.values for one in collection.get_many(ids, {"values"})}


def same(found: dict[str, F32 | None], documents: list[Document]) -> bool:
    """To the bit."""

    def bits(values: F32 | None) -> Any:
        return None if values is None else (values.shape, values.tobytes())

    return {k: bits(v) for k, v in found.items()} == {one.id: bits(one.values) for one in documents}


@pytest.fixture(params=KINDS)
def filled(request: Any, make_collection: MakeCollection) -> tuple[Collection, list[Document]]:
    """Two segments and a tail."""
    collection = make_collection(kind=request.param, dim=4, values=ValueSpec(dim=WIDE), precision="float32")
    random = np.random.default_rng(1)
    documents = [carrying(i, random, request.param) for i in range(30)]
    for start in (0, 10, 20):
        write_documents(collection, documents[start : start + 10])
        if start < 20:
            seal(collection)
    return collection, documents


def test_they_are_kept_through_all_that_happens_to_segments(
    filled: tuple[Collection, list[Document]], open_catalogue: Callable[..., Any]
) -> None:
    collection, documents = filled
    assert same(held(collection), documents)
    exported = [one for some in export_documents(collection, {"values", "vectors"}, None) for one in some]
    assert same({one.id: one.values for one in exported}, documents)
    lines = [parse_document(to_line(one, collection.spec.kind), collection.spec.kind) for one in exported]
    assert same({one.id: one.values for one in lines}, documents)
    seal(collection)
    while merge(collection):
        pass
    assert same(held(collection), documents)
    assert list(scrub(Path(collection.folder).parent, collection.name)) == []


def test_hits_carry_them_where_they_are_asked_for(filled: tuple[Collection, list[Document]]) -> None:
    collection, documents = filled
    assert documents[4].vectors is not None
    query = documents[4].vectors
    plain = search(collection, Query(vectors=query, k=30)).hits
    assert all(hit.values is None for hit in plain)
    hits = search(collection, Query(vectors=query, k=30, include=frozenset({"values"}))).hits
    assert [hit.id for hit in hits] == [hit.id for hit in plain]
    assert same({hit.id: hit.values for hit in hits}, documents)
    asked = query if collection.spec.kind == "dense" else query[None]
    table = search_many(collection, Many(asked, k=30, values=True))
    assert table.values is not None
    runs = zip(table.ids[0].tolist(), table.values, strict=True)
    assert same({id.decode(): own if len(own) else None for id, own in runs}, documents)
    assert search_many(collection, Many(asked, k=3)).values is None


def test_writing_the_same_is_no_change_and_others_are(filled: tuple[Collection, list[Document]]) -> None:
    collection, documents = filled
    assert write_documents(collection, documents).changed == 0
    values = np.full((2, WIDE), 7, np.float32)
    anew = [
        Document("d1", "text 1", vectors=documents[1].vectors, values=values),
        Document("d2", "text 2", vectors=documents[2].vectors),
        documents[3],
    ]
    assert write_documents(collection, anew).changed == 2
    assert same(held(collection), [documents[0], *anew[:2], *documents[3:]])


def test_a_patch_changes_or_takes_away_and_leaves_the_rest(filled: tuple[Collection, list[Document]]) -> None:
    collection, documents = filled
    version = collection.get_version("d1")[1]
    patch_document(collection, "d1", Patch(metadata={"n": 1}))
    assert same(held(collection), documents)
    patch_document(collection, "d1", Patch(values=np.ones((1, WIDE), np.float32)))
    patch_document(collection, "d2", Patch(unvalue=True))
    found = held(collection)
    assert found["d1"] is not None
    assert (found["d1"].tolist(), found["d2"]) == ([[1.0] * WIDE], None)
    now = collection.get_version("d2")[1]
    assert now > version
    assert patch_document(collection, "d2", Patch(unvalue=True)).version == now


def test_others_are_refused_by_name(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=2)
    key = np.ones((1, 2), np.float32)
    with pytest.raises(Invalid, match="carry none") as caught:
        write_documents(collection, [Document("a", vectors=key, values=np.ones((1, 3), np.float32))])
    assert [one.pointer for one in caught.value.problems] == ["/documents/0/values"]
    with pytest.raises(Invalid, match="carry no values"):
        search_many(collection, Many(key, values=True))
    with pytest.raises(Invalid, match="expected 1 to"):
        ValueSpec(dim=0)


def test_they_are_encoded_texts_companions_too(make_text: MakeCollection) -> None:
    """A text of several passages, edited: what it carries stays with the document, not with a passage."""
    collection = make_text(values=ValueSpec(dim=2))
    values = np.array([[1, 2], [3, 4]], np.float32)
    text = "\n\n".join(f"A paragraph about owl number {i}, which sleeps by day." for i in range(60))
    write_documents(collection, [Document("a", text, values=values), Document("b", "a wren")])
    assert collection.published.passages > 2
    patch_document(collection, "a", Patch(text=text.replace("number 3", "number three")))
    seal(collection)
    (found,) = collection.get_many(["a"], {"values"})
    assert found.values is not None
    assert np.array_equal(found.values, values)
    with pytest.raises(Invalid, match="expected vectors of 2 dimensions, got 3"):
        write_documents(collection, [Document("a", text, values=np.ones((1, 3), np.float32))])
    hits = search(collection, Query(text="owl", include=frozenset({"values"}))).hits
    assert [json.dumps(None if hit.values is None else hit.values.tolist()) for hit in hits if hit.id == "a"]


def test_a_column_of_that_name_is_what_the_collection_and_the_caller_say() -> None:
    record = {"id": "a", "text": "t", "values": [[1, 2], [3, 4]]}
    (made,) = [Fields(values=True).document(record)]
    assert made is not None
    assert made.values is not None
    assert (made.values.tolist(), made.metadata) == ([[1, 2], [3, 4]], {})
    # Of a collection without values it is metadata, as any other column; and what is named is what it is named.
    for fields in (Fields(), Fields(values=True, select=(("values", ""),))):
        plain = fields.document(record)
        assert plain is not None
        assert (plain.values, plain.metadata) == (None, {"values": [[1, 2], [3, 4]]})
    vectors = Fields(vector="values", values=True, kind="multi_vector").document(record)
    assert vectors is not None
    assert vectors.values is None
    assert vectors.vectors is not None


def test_values_as_an_export_has_them_come_back_with_a_field_renamed() -> None:
    packed = {"base64": "AACAPwAAAEA=", "dtype": "float32", "shape": [1, 2]}
    made = Fields(values=True, rename=(("body", "text"),)).document({"id": "a", "body": "t", "values": packed})
    assert made is not None
    assert made.values is not None
    assert (made.values.tolist(), made.metadata) == ([[1, 2]], {})
