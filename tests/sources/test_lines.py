"""Lines of compressed files: all of them, or an error that says why not."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from app.errors import Invalid, MalformedBody
from app.sources.beir import Beir
from app.sources.choose import open_source
from app.sources.lines import Lines
from app.types import Document

CONTENT = b"".join(json.dumps({"id": f"d{i}", "text": f"text {i}"}).encode() + b"\n" for i in range(5_000))


@pytest.mark.parametrize(("suffix", "compress"), [(".zst", zstd.compress), (".gz", gzip.compress)])
def test_all_frames_are_read(tmp_path: Path, suffix: str, compress: Any) -> None:
    path = tmp_path / f"d.ndjson{suffix}"
    # Cut in the middle of lines, as by a program that writes blocks.
    path.write_bytes(b"".join(compress(CONTENT[start : start + 7_001]) for start in range(0, len(CONTENT), 7_001)))
    source = open_source(str(path))
    assert [entry.found for entry in source.entries()] == [Document(f"d{i}", f"text {i}") for i in range(5_000)]
    assert source.done == source.total == path.stat().st_size


@pytest.mark.parametrize(("suffix", "compress"), [(".zst", zstd.compress), (".gz", gzip.compress)])
@pytest.mark.parametrize("damage", ["torn", "followed", "other"])
def test_what_is_not_whole_is_no_end(tmp_path: Path, suffix: str, compress: Any, damage: str) -> None:
    whole = compress(CONTENT[:50_000]) + compress(CONTENT[50_000:])
    path = tmp_path / f"d.ndjson{suffix}"
    path.write_bytes({"torn": whole[:-9], "followed": whole + b"x" * 99, "other": CONTENT}[damage])
    with pytest.raises(MalformedBody, match=r"not a whole (gzip|Zstandard) stream"):
        list(Lines(path).entries())


def test_a_compressed_corpus_of_beir(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.zst").write_bytes(zstd.compress(b'{"_id": "1", "text": "x"}\n'))
    assert [entry.found for entry in Beir(tmp_path).entries()] == [Document("1", "x")]


def test_without_the_reader_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "d.ndjson.zst"
    path.write_bytes(b"")
    with pytest.raises(Invalid, match=r"install sheaf\[zstd\]"):
        open_source(str(path))
