"""Which reader reads what."""

from pathlib import Path

import pytest

from app.errors import Invalid, NotFound
from app.sources.beir import Beir
from app.sources.choose import Format, format_of, open_source
from app.sources.ndjson import Ndjson
from app.sources.table import Columns, Table


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.ndjson", "ndjson"),
        ("a.jsonl.gz", "ndjson"),
        ("b.csv", "csv"),
        ("b.csv.gz", "csv"),
        ("a.jsonl.zst", "ndjson"),
        ("b.tsv", "tsv"),
        ("c.md", "markdown"),
        ("c.txt", "text"),
        ("c.HTM", "html"),
        ("c.pdf", "pdf"),
        ("c.docx", "docx"),
        ("c.json", "json"),
        ("c.json.gz", "json"),
        ("c.parquet", "parquet"),
        ("c.feather", "arrow"),
        ("c.xlsx", "xlsx"),
        ("c.h5", "hdf5"),
        ("c.trec.gz", "trec"),
    ],
)
def test_suffixes(name: str, form: Format) -> None:
    assert format_of(name) == form


@pytest.mark.parametrize("name", ["a.png", "a", "a.gz", "a.txt.gz", "a.parquet.gz"])
def test_a_name_that_does_not_tell(name: str) -> None:
    with pytest.raises(Invalid, match="cannot tell the format"):
        format_of(name)


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="handbook is not there"):
        open_source(str(tmp_path / "handbook"))


def test_each_form_has_its_reader(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("")
    assert isinstance(open_source(str(tmp_path)), Beir)
    assert isinstance(open_source(str(tmp_path / "corpus.jsonl")), Ndjson)
    assert isinstance(open_source("-"), Ndjson)
    assert isinstance(open_source("-", "csv", Columns.parse("a", "b")), Table)


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,a text without a header\n")
    with pytest.raises(Invalid, match=r"which column of .* is the text.*--header"):
        list(open_source(str(tmp_path / "a.csv")).entries())
    with pytest.raises(Invalid, match="parquet cannot come on standard input"):
        open_source("-", "parquet")
    with pytest.raises(Invalid, match="standard input"):
        open_source("-", "beir")
    with pytest.raises(NotFound):
        open_source(str(tmp_path / "none.csv"), columns=Columns.parse("a", "b"))
