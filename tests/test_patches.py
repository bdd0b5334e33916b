"""A change of a document is the write of the whole as it then is, to the bit, and encodes what it touched alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import DIM, CountingEncoder, OneEncoder

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch, merged
from app.collection.collection import Collection
from app.collection.spec import PassageSpec, SparseSpec
from app.errors import Invalid, PreconditionFailed
from app.indexing.sealing import seal
from app.ingest import Condition, patch_document, write_documents
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.types import Document, Kind, SparseVector

KINDS: tuple[Kind, ...] = ("multi_vector", "dense")
LONG = "\n\n".join(f"## Part {i}\n\n" + " ".join(f"s{i}w{j}" for j in range(25)) for i in range(4))
SPARSE = SparseVector(np.array([3, 7], np.int32), np.array([0.5, 1.0], np.float32))
OTHER = SparseVector(np.array([1], np.int32), np.array([2.0], np.float32))
ENCODED: list[dict[str, Any]] = [
    {"kind": "multi_vector", "passages": PassageSpec(size=16, overlap=4)},
    {"kind": "dense", "sparse": SparseSpec()},
    {"kind": "multi_vector", "passages": PassageSpec(split="none"), "precision": "4bit", "token_pooling": 2},
]
GIVEN: list[dict[str, Any]] = [
    {"kind": "multi_vector"},
    {"kind": "multi_vector", "keep_vectors": False, "precision": "4bit", "sparse": SparseSpec()},
    {"kind": "dense", "keep_vectors": False},
]
CHANGES = [
    Patch(metadata={"n": 2, "gone": None}),
    Patch(metadata={"only": "this"}, replaces=True),
    Patch(title="Another title"),
    Patch(text=LONG.replace("s2w7", "changed")),
    Patch(text="short", title="", metadata={"n": None}),
]


def matrix(seed: int, kind: str) -> Any:
    rows = 1 if kind == "dense" else 3
    return np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    setting = Settings(indexes=tmp_path / "indexes", models={"words": DeterministicModel(type="deterministic")})
    encoders = {kind: CountingEncoder(DIM, kind) for kind in KINDS}

    class ByKind(OneEncoder):
        def get(self, name: str, kind: Kind, dim: int | None = None, *, patient: bool = False) -> CountingEncoder:
            return encoders[kind]

    with Catalogue(setting.indexes, ByKind(setting, encoders["dense"]), setting) as catalogue:

        def make(name: str, model: str | None, **options: Any) -> tuple[Collection, list[str]]:
            dim = DIM if model is None else None
            return catalogue.create(name, model=model, dim=dim, **options), encoders[options["kind"]].texts

        yield make


def whole(collection: Collection) -> Any:
    """All that is stored of the document."""
    document, version = collection.get_version("a", frozenset({"text", "metadata", "vectors"}))
    (rows,) = collection.stored_vectors([version], collection.published).values()
    raw = [one.tobytes() for one in collection.given_vectors([version]).values()] if collection.spec.keeps_raw else None
    hits = search(collection, Query(text="changed title this", mode="lexical")).hits
    shown = replace(document, vectors=None, sparse=None)
    return shown, rows.to_bytes(), raw, [(hit.id, hit.score) for hit in hits]


@pytest.mark.parametrize("patch", CHANGES)
@pytest.mark.parametrize("options", ENCODED)
@pytest.mark.parametrize("sealed", [False, True])
def test_an_encoded_document_is_as_if_it_had_been_written_whole(
    made: Any, options: dict[str, Any], patch: Patch, sealed: bool
) -> None:
    collection, texts = made("c", "words", **options)
    sparse = SPARSE if "sparse" in options else None
    document = Document("a", LONG, "A title", {"n": 1, "gone": [], "stays": "x"}, sparse=sparse)
    write_documents(collection, [document])
    if sealed:
        seal(collection)
    texts.clear()
    found, version, cut = patch_document(collection, "a", patch)
    asked = texts.copy()
    assert collection.get_version("a")[1] == version
    other, texts = made("other", "words", **options)
    expected = replace(patch.applied(document), vectors=None)
    assert found.stands_as(expected)
    told = write_documents(other, [expected])
    assert whole(collection) == whole(other)
    assert cut is bool(told.truncated)
    if patch.text is None and patch.title is None:
        assert asked == []
    elif "size" not in str(options) or patch.title is not None:
        assert len(asked) >= 1
    else:
        # Of a text the passages that changed.
        assert 1 <= len(asked) < 4
        assert all("changed" in text for text in asked)


@pytest.mark.parametrize("options", GIVEN)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_callers_document_keeps_what_is_not_named(made: Any, options: dict[str, Any], sealed: bool) -> None:
    collection, texts = made("c", None, **options)
    kind, has_sparse = options["kind"], "sparse" in options
    document = Document("a", "text", "A title", {"n": 1}, matrix(1, kind), sparse=SPARSE if has_sparse else None)
    write_documents(collection, [document])
    if sealed:
        seal(collection)
    patches = [*CHANGES, Patch(vectors=matrix(2, kind)), Patch(text="", title="")]
    if has_sparse:
        patches += [Patch(sparse=OTHER), Patch(vectors=matrix(3, kind), sparse=SPARSE), Patch(unsparse=True)]
    for i, patch in enumerate(patches):
        patch_document(collection, "a", patch)
        changed = patch.applied(document)
        document = replace(changed, vectors=document.vectors if patch.vectors is None else patch.vectors)
        other, _ = made(f"other{i}", None, **options)
        write_documents(other, [document])
        assert whole(collection) == whole(other)
    assert texts == []


def test_what_cannot_be_is_refused_and_nothing_is_changed(made: Any) -> None:
    encoded, _ = made("c", "words", kind="multi_vector")
    given, _ = made("d", None, kind="dense")
    write_documents(encoded, [Document("a", "text")])
    write_documents(given, [Document("a", "", vectors=matrix(1, "dense"))])
    before = whole(encoded), whole(given)
    refused = [
        (encoded, Patch(vectors=matrix(1, "multi_vector")), "/vectors"),
        (encoded, Patch(text=" "), "/text"),
        (encoded, Patch(sparse=SPARSE), "/sparse_vector"),
        (given, Patch(vectors=np.zeros((1, DIM), np.float32)), "/vector"),
        (given, Patch(vectors=np.ones((1, DIM + 1), np.float32)), "/vector"),
        (given, Patch(vectors=np.ones((2, DIM), np.float32)), "/vector"),
    ]
    for collection, patch, pointer in refused:
        with pytest.raises(Invalid) as error:
            patch_document(collection, "a", patch)
        assert [one.pointer for one in error.value.problems] == [pointer]
    with pytest.raises(PreconditionFailed):
        patch_document(encoded, "a", Patch(text="x"), condition=Condition(versions=frozenset({99})))
    assert (whole(encoded), whole(given)) == before


def test_a_write_between_is_not_lost(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both changes stand: the patch is made anew of what stands by then."""
    collection, texts = made("c", "words", kind="multi_vector")
    write_documents(collection, [Document("a", "first", metadata={"n": 1})])
    encode, once = collection.encode_documents, [True]

    def raced(some: Any) -> Any:
        if once:
            once.clear()
            patch_document(collection, "a", Patch(metadata={"m": 2}, title="Other"))
        return encode(some)

    monkeypatch.setattr(type(collection), "encode_documents", lambda _self, some: raced(some))
    found = patch_document(collection, "a", Patch(text="second")).document
    assert (found.text, found.title, found.metadata) == ("second", "Other", {"n": 1, "m": 2})
    assert texts[-1] == "Other. second"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(OBJECTS, OBJECTS)
def test_merging_is_that_of_rfc_7396(target: dict[str, Any], patch: dict[str, Any]) -> None:
    def merge_patch(target: Any, patch: Any) -> Any:
        # The RFC's own pseudo code.
        if isinstance(patch, dict):
            if not isinstance(target, dict):
                target = {}
            for name, value in patch.items():
                if value is None:
                    if name in target:
                        del target[name]
                else:
                    target[name] = merge_patch(target.get(name), value)
            return target
        return patch

    before = repr(target)
    found = merged(target, patch)
    assert repr(target) == before
    assert found == merge_patch(target, patch)


@pytest.mark.parametrize("model", ["words", None])
def test_what_changes_nothing_writes_nothing(made: Any, model: str | None) -> None:
    collection, texts = made("c", model, kind="dense", sparse=SparseSpec())
    document = Document("a", "text", "A title", {"n": 1}, matrix(1, "dense") if model is None else None, sparse=SPARSE)
    write_documents(collection, [document])
    before = collection.get_version("a")[1]
    texts.clear()
    same = [Patch(title="A title"), Patch(text="text"), Patch(metadata={"n": 1, "gone": None}), Patch()]
    for patch in (*same, Patch(metadata={"n": 1}, replaces=True)):
        found, version, cut = patch_document(collection, "a", patch)
        assert (found.metadata, version, cut) == ({"n": 1}, before, False)
    assert (collection.get_version("a")[1], texts) == (before, [])
    told = list[int]()
    patch_document(collection, "a", same[0], lambda txn, patched: told.append(patched.version))
    assert told == [before], "what else is to be done in its transaction is done"
    for patch in (Patch(metadata={"n": 1.0}), Patch(sparse=OTHER), Patch(unsparse=True)):
        version = patch_document(collection, "a", patch).version
        assert version > before
        before = version
    with pytest.raises(PreconditionFailed):
        patch_document(collection, "a", Patch(title="A title"), condition=Condition(frozenset({before - 1})))
