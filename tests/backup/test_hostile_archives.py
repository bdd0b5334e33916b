"""Archives that no snapshot of a collection is: refused with 400, and nothing of them stays."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import bomb, contents, joined, listed, member
from saved_collection import DIM, beside, fill, standing, take

from app.backup.archive import LISTING
from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import Restoring
from app.encoders.registry import Encoders
from app.errors import BadArchive, StorageFull
from app.settings import Settings
from app.store.layout import DATABASE


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """One for all that follow, since they leave nothing behind."""
    chosen = Settings(indexes=tmp_path_factory.mktemp("shelf"), threads=1, seal_documents=10_000)
    with Catalogue(chosen.indexes, Encoders({}), chosen) as catalogue:
        fill(catalogue)
        yield catalogue


@pytest.fixture(scope="module")
def honest(shelf: Catalogue) -> tuple[dict[str, Any], dict[str, bytes]]:
    return contents(take(shelf.get("c")))


def send(restoring: Restoring, archive: bytes, piece: int) -> None:
    for start in range(0, len(archive), piece):
        restoring.write(archive[start : start + piece])
    restoring.commit()


def refused(catalogue: Catalogue, archive: bytes, *, piece: int = 65_536, limit: int = 10**9) -> BadArchive:
    """The error, after which nothing is there that was not there before."""
    before = beside(catalogue)
    restoring = Restoring(catalogue, "hostile", replace=False, limit=limit)
    try:
        with pytest.raises(BadArchive) as caught:
            send(restoring, archive, piece)
    finally:
        restoring.abort()
    assert beside(catalogue) == before
    assert caught.value.status == 400
    return caught.value


def test_the_same_archive_unharmed_is_taken_in_any_pieces(shelf: Catalogue, honest: Any) -> None:
    """So that the refusals below are for what was changed."""
    for number, piece in enumerate((1_000, 100_000, 10**9)):
        archive = joined(*honest)
        restoring = Restoring(shelf, f"good{number}", replace=False, limit=10**9)
        send(restoring, archive, piece)
        assert standing(shelf.get(f"good{number}")) == standing(shelf.get("c"))
        shelf.delete(f"good{number}")


@pytest.mark.parametrize(
    "path",
    [
        "../outside", "segments/../../outside", "/etc/outside", "segments//x", "./x", "x/.", "", ".hidden", "a\\b",
        "a\0b", "x/" * 20 + "x", "é", "writer.lock", "imports/x.ndjson", f"{DATABASE}-wal", f"{DATABASE}-shm",
        f"{DATABASE}/x", "n" * 101,
    ],
)  # fmt: skip
def test_paths_that_no_collection_has(shelf: Catalogue, honest: Any, path: str) -> None:
    listing, files = honest
    more = {**files, path: b"x"}
    archive = b"".join(
        [
            member(LISTING, json.dumps(listed(listing, more)).encode()),
            *(member(p, c) for p, c in files.items()),
            member(path, b"x") if len(path) < 100 and path.isascii() else b"",
        ]
    )
    refused(shelf, archive + bytes(1024))
    # And as a member that the list does not have, at the end and in the middle.
    if path.isascii() and len(path) < 100:
        start = [member(LISTING, json.dumps(listing).encode())]
        members = [member(p, c) for p, c in files.items()]
        for place in (0, 1, len(members)):
            refused(shelf, b"".join([*start, *members[:place], member(path, b"x"), *members[place:]]) + bytes(1024))
    assert not (shelf.folder.parent / "outside").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"type": b"1", "linkname": "/etc/passwd"}, {"type": b"2", "linkname": "/etc/passwd"}, {"type": b"3"},
        {"type": b"4"}, {"type": b"5"}, {"type": b"6"}, {"type": b"7"}, {"type": b"S"}, {"type": b"x"},
        {"type": b"g"}, {"type": b"L"}, {"type": b"K"}, {"type": b"0", "linkname": "x"}, {"type": b"\0"},
    ],
)  # fmt: skip
def test_members_that_are_no_plain_files(shelf: Catalogue, honest: Any, fields: dict[str, Any]) -> None:
    listing, files = honest
    start = member(LISTING, json.dumps(listing).encode())
    (first, content), *rest = files.items()
    others = b"".join(member(p, c) for p, c in rest)
    refused(shelf, start + member(first, content, **fields) + others + bytes(1024))
    refused(shelf, start + member("extra", b"", **fields) + member(first, content) + others + bytes(1024))


def test_sums_sizes_and_sets_that_do_not_hold(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    for number, (path, content) in enumerate(files.items()):
        fewer = {p: c for p, c in files.items() if p != path}
        match number % 4:
            case 0:
                changed = bytearray(content)
                changed[len(changed) // 2] ^= 1
                refused(shelf, joined(listing, {**files, path: bytes(changed)}))
            case 1:
                refused(shelf, joined(listing, {**files, path: content + b"x"}))
            case 2:
                refused(shelf, joined(listing, fewer))
            case 3:
                # A right list of files that are not enough: the collection itself notices.
                refused(shelf, joined(listed(listing, fewer), fewer))
    twice = {**listing, "files": [*listing["files"], listing["files"][0]]}
    refused(shelf, joined(twice, files))
    refused(shelf, joined(listing, files) + member("more", b"x") + bytes(1024))
    # Truncated at many places.
    whole = joined(listing, files)
    end = len(whole) - 1024
    for cut in [0, 1, 511, 512, *range(600, end, end // 20), end - 1]:
        refused(shelf, whole[:cut])


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0}, {"format": "1"}, {"format": None}, {"files": None}, {"files": [{}]}, {"documents": -1},
        {"documents": 1.5}, {"collection": 7}, {"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": 1, "sha256": "zz"}]}, {"files": "x" * 1000},
    ],
)  # fmt: skip
def test_lists_that_are_none(shelf: Catalogue, honest: Any, change: dict[str, Any]) -> None:
    listing, files = honest
    refused(shelf, joined({**listing, **change}, files))


def test_newer_formats_say_so(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    assert refused(shelf, joined({**listing, "format": 2, "files": "?"}, files)).code == "archive_too_new"
    changed = {**files, DATABASE: edited(files[DATABASE], "meta", "format", 1_000)}
    assert refused(shelf, joined(listed(listing, changed), changed)).code == "archive_too_new"


def test_what_is_no_archive(shelf: Catalogue) -> None:
    for content in (b"", b"x", bytes(10_240), b"\xff" * 5_000, bomb(10**7), b'{"documents": []}' * 100):
        refused(shelf, content)
    deep = b"[" * 100_000
    refused(shelf, member(LISTING, deep) + bytes(1024))
    # A list that claims to be endless is refused before it is read, and so is a negative one.
    refused(shelf, member(LISTING, b"", size=2**40))
    refused(shelf, member(LISTING, b"", size=-1))


def test_more_than_may_come_is_refused_before_it_comes(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    assert "limit" in refused(shelf, joined(listing, files), limit=10_000).message
    huge = {"path": "x", "size": 2**61, "sha256": "0" * 64}
    archive = joined({**listing, "files": [huge]}, {})
    refused(shelf, archive)
    restoring = Restoring(shelf, "r", replace=False, limit=2**62)
    with pytest.raises(StorageFull):
        restoring.write(archive)
    restoring.abort()


def edited(database: bytes, table: str, key: str, value: Any) -> bytes:
    """The database with one JSON value of `meta` changed, its checksum right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        path.write_bytes(database)
        connection = sqlite3.connect(path)
        text = value if isinstance(value, str) else json.dumps(value)
        crc = zlib.crc32(f"{key}={text}".encode())
        connection.execute(f"INSERT OR REPLACE INTO {table} (key, value, crc) VALUES (?, ?, ?)", (key, text, crc))
        connection.commit()
        connection.close()
        return path.read_bytes()


def run_on(database: bytes, *statements: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        path.write_bytes(database)
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END",
        "CREATE VIEW v AS SELECT * FROM documents",
        "CREATE VIRTUAL TABLE x USING fts5(y)",
        "DROP TABLE live",
        "DELETE FROM live",
        "DELETE FROM documents WHERE seq > 20",
        "UPDATE documents SET text = 'other'",
        "UPDATE tail SET count = 1000000000",
        "UPDATE state SET next_seq = 1",
        "UPDATE state SET commits = 1",
    ],
)
def test_databases_that_are_not_what_was_written(shelf: Catalogue, honest: Any, statement: str) -> None:
    listing, files = honest
    changed = {**files, DATABASE: run_on(files[DATABASE], statement)}
    refused(shelf, joined(listed(listing, changed), changed))


ENCODER = {"model": None, "kind": "multi_vector", "dim": DIM}
VECTORS = {"precision": "float16", "token_pooling": 1, "keep": True}
WHOLE = {"split": "none", "size": None, "overlap": 0}
LEXICAL = {"language": "english", "fields": ["title", "text"]}
SPEC = {
    "name": "c", "encoder": ENCODER, "similarity": "cosine", "vectors": VECTORS, "passages": WHOLE, "lexical": LEXICAL
}  # fmt: skip


def test_the_record_that_is_made_wrong_below_is_right(shelf: Catalogue, honest: Any) -> None:
    listing, files = honest
    changed = {**files, DATABASE: edited(files[DATABASE], "meta", "spec", SPEC)}
    restoring = Restoring(shelf, "right", replace=False, limit=10**9)
    send(restoring, joined(listed(listing, changed), changed), 65_536)
    assert standing(shelf.get("right")) == standing(shelf.get("c"))
    shelf.delete("right")


def wrong_metas() -> Iterator[tuple[str, Any]]:
    for change in ({"kind": "x"}, {"dim": 0}, {"dim": 2**40}, {"dim": "4"}, {"dim": True}, {"model": 7}):
        yield "spec", {**SPEC, "encoder": {**ENCODER, **change}}
    for pooling in (0, 33, 2.0, True, "2", None):
        yield "spec", {**SPEC, "vectors": {**VECTORS, "token_pooling": pooling}}
    yield "spec", {**SPEC, "vectors": {**VECTORS, "precision": "object"}}
    for change in ({"split": "structure"}, {"split": 1}, {"size": 2**40}, {"size": "9"}, {"overlap": -1}, {"more": 1}):
        yield "spec", {**SPEC, "passages": {**WHOLE, **change}}
    weights = (
        {"field_weights": one} for one in ([1], {"absent": 1}, {"title": "2"}, {"title": -1}, {"text": 0, "title": 0})
    )
    for change in (
        {"language": "klingon"},
        {"fields": []},
        {"fields": ["a", "a"]},
        {"fields": [1]},
        {"more": 1},
        *weights,
    ):
        yield "spec", {**SPEC, "lexical": {**LEXICAL, **change}}
    yield "spec", {**SPEC, "similarity": "x"}
    yield "spec", [1]
    yield "spec", {**SPEC, "extra": 1}
    yield "spec", "not JSON"
    yield "spec", "[" * 100_000
    for asked in ({}, {"queries": -1, "words": 1, "pooled": 1}, {"queries": 1, "words": "x", "pooled": 1}):
        yield "asked", asked
    yield "first_stage", {}
    yield "first_stage", {"sources": ["elsewhere"], "encoding": None, "width": 10}
    for name in ("../../c/segments", "..", "", "/etc", "a/b"):
        segment = {"name": name, "passages": 1, "crc32": 0}
        yield "generation", {"number": 1, "segments": [segment], "created": "", "reason": ""}
    yield "generation", {"number": 1, "segments": [], "created": "", "reason": ""}


@pytest.mark.parametrize(("key", "value"), list(wrong_metas()))
def test_records_that_no_collection_has(shelf: Catalogue, honest: Any, key: str, value: Any) -> None:
    listing, files = honest
    changed = {**files, DATABASE: edited(files[DATABASE], "meta", key, value)}
    refused(shelf, joined(listed(listing, changed), changed))
