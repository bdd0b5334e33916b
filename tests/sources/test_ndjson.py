"""NDJSON: what comes out, by line; what cannot be read, by line."""

import base64
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.errors import Invalid, MalformedBody, NotFound, TooLarge
from app.sources import lines
from app.sources.ndjson import Ndjson
from app.sources.protocol import Entry
from app.types import Document

GOOD = [{"id": "a", "text": "one"}, {"id": "b", "text": "zwei", "title": "Zahl", "metadata": {"year": 2024}}]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def ndjson(*objects: object) -> bytes:
    return b"".join(json.dumps(o).encode() + b"\n" for o in objects)


@pytest.mark.parametrize("name", ["d.ndjson", "d.ndjson.gz"])
def test_documents_come_with_their_lines_and_the_end_is_the_total(tmp_path: Path, name: str) -> None:
    source = Ndjson(write(tmp_path / name, b"\xef\xbb\xbf" + ndjson(GOOD[0]) + b"\n  \r\n" + ndjson(GOOD[1])[:-1]))
    found = list(source.entries())
    assert found == [
        Entry(1, Document("a", "one")),
        Entry(4, Document("b", "zwei", "Zahl", {"year": 2024})),
    ]
    assert source.done == source.total == (tmp_path / name).stat().st_size


def test_a_bad_line_is_an_entry_and_reading_goes_on(tmp_path: Path) -> None:
    content = ndjson(GOOD[0]) + b"{not json\n" + ndjson({"id": "", "text": "x"}) + b'{"id": "\xff"}\n' + ndjson(GOOD[1])
    found = list(Ndjson(write(tmp_path / "d.ndjson", content)).entries())
    assert [e.line for e in found] == [1, 2, 3, 4, 5]
    assert [type(e.found) for e in found] == [Document, MalformedBody, Invalid, MalformedBody, Document]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write(tmp_path / "d.ndjson", ndjson(*({"id": str(i), "text": "x" * 1000} for i in range(500))))
    source = Ndjson(path)
    next(source.entries())
    assert source.total is not None
    assert 0 < source.done <= 100_000 < source.total


def test_a_line_over_the_limit_is_refused_without_losing_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    content = ndjson(GOOD[0], {"id": "long", "text": "x" * 1000}, GOOD[0])
    found = list(Ndjson(write(tmp_path / "d.ndjson", content)).entries())
    assert [(e.line, type(e.found)) for e in found] == [(1, Document), (2, TooLarge), (3, Document)]


def test_a_torn_gzip_stream_names_the_line(tmp_path: Path) -> None:
    noise = [{"id": str(i), "text": f"{i * 7919 % 104729}"} for i in range(5000)]
    path = tmp_path / "d.ndjson.gz"
    path.write_bytes(gzip.compress(ndjson(*noise))[:-2000])
    entries = Ndjson(path).entries()
    assert next(entries).found == Document("0", "0")
    with pytest.raises(MalformedBody, match=r"line \d+: not a whole gzip stream"):
        list(entries)


def test_what_is_no_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson.gz"
    path.write_bytes(ndjson(*GOOD))
    with pytest.raises(MalformedBody, match="gzip"):
        list(Ndjson(path).entries())


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.ndjson is not a file"):
        Ndjson(tmp_path / "none.ndjson")


def test_standard_input_is_read_without_a_total() -> None:
    code = (
        "from app.sources.ndjson import Ndjson\n"
        "s = Ndjson(None)\n"
        "before = s.total\n"
        "print([e.line for e in s.entries()], before, s.done, s.total)\n"
    )
    content = ndjson(*GOOD)
    run = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert run.stdout.decode().strip() == f"[1, 2] None {len(content)} {len(content)}"


def test_vectors_are_held_to_the_kind_of_the_collection(tmp_path: Path) -> None:
    encoded = base64.b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()
    content = ndjson(
        {"id": "one", "vector": [1, 2]},
        {"id": "many", "vectors": {"base64": encoded, "dtype": "float32", "shape": [2, 2]}},
    )
    path = write(tmp_path / "d.ndjson", content)
    first, second = (entry.found for entry in Ndjson(path, "multi_vector").entries())
    assert isinstance(first, Invalid)
    assert isinstance(second, Document)
    assert second.vectors is not None
    assert second.vectors.tolist() == [[1, 2], [3, 4]]
    first, second = (entry.found for entry in Ndjson(path, "dense").entries())
    assert isinstance(first, Document)
    assert isinstance(second, Invalid)


def test_lines_of_a_stream_that_has_no_end_of_line() -> None:
    read = lines.Lines(None)
    assert list(read._read(io.BytesIO(b"a\nb"), None)) == [(1, b"a"), (2, b"b")]
