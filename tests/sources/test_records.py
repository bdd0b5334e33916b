"""Files of many records: what their rows become, and how they say that they cannot be read."""

from __future__ import annotations

import datetime
import json
import math
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from app.documents import parse_document
from app.errors import Invalid, RequestError
from app.sources import archives
from app.sources.choose import Reading, open_source
from app.sources.fields import Fields
from app.sources.protocol import Source
from app.types import Document


def read(source: Source) -> tuple[list[Document], dict[str, str]]:
    """Documents, and faults by their places."""
    documents, faults = [], {}
    for entry in source.entries():
        if isinstance(entry.found, Document):
            documents.append(entry.found)
        elif isinstance(entry.found, RequestError):
            faults[entry.place] = entry.found.message
    assert source.total is None or source.done <= source.total
    return documents, faults


def of(path: Path, **fields: Any) -> list[Document]:
    documents, faults = read(open_source(str(path), reading=Reading(Fields(**fields))))
    assert faults == {}
    return documents


def within(path: Path) -> tuple[list[Document], dict[str, str]]:
    """The same as of a file of a folder."""
    return read(open_source(str(path.parent)))


# Fields


def test_usual_names_are_taken_and_the_rest_is_metadata() -> None:
    record = {"ID": 7, "Body": "text", "Name": "title", "Year of birth": 1815, "tags": ["a", 2], "by": {"x": {"y": 1}}}
    assert Fields().document(record) == Document(
        "7", "text", "title", {"Year of birth": 1815, "tags": ["a", 2], "by": {"x": {"y": 1}}}
    )
    assert Fields(prefix="a.csv").document({"text": "x"}, 3) == Document("a.csv#3", "x")
    assert Fields(prefix="a.csv").document({"id": "k", "text": "x"}, 3) == Document("a.csv#k", "x")
    assert Fields(prefix="a.csv", id="id").document({"id": "k", "text": "x"}, 3) == Document("k", "x")
    # A document as the API takes it stays what it is.
    given = {"id": "a", "text": "t", "title": "", "metadata": {"year": 1}}
    assert Fields().document(given) == Document("a", "t", metadata={"year": 1})


def test_made_ids_depend_on_the_content_alone() -> None:
    one, again, other = (
        Fields().document(record) for record in ({"text": "x", "n": 1}, {"n": 1, "text": "x"}, {"text": "y"})
    )
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.id == again.id != other.id


def test_named_fields_are_joined_renamed_and_selected() -> None:
    fields = Fields(id="k", text=("a", "b"), title="t", select=(("n", "int"), ("l", "list")), rename=(("x", "a"),))
    record = {"k": "1", "x": "one", "b": "two", "t": "head", "n": "5", "l": "p; q", "other": "gone", "text": "no"}
    assert fields.document(record) == Document("1", "one\n\ntwo", "head", {"n": 5, "l": ["p", "q"]})
    assert Fields().document({"title": " ", "text": None}) is None
    # Nothing says which field is the text: then all that is text is.
    found = Fields().document({"id": "1", "Supplier": "Acme", "Item": "bolt", "price": 3})
    assert found is not None
    assert found.text == "Supplier: Acme\nItem: bolt"


@pytest.mark.parametrize(
    ("fields", "record", "said"),
    [
        (Fields(id="k"), {"text": "x"}, "expected a field 'k'; its fields: text"),
        (Fields(text=("body",)), {"text": "x"}, "expected a field 'body'"),
        (Fields(vector="v"), {"id": "a", "v": [1, [2]]}, "expected a vector"),
        (Fields(vector="v"), {"id": "a", "v": [[1, 2], [3]]}, "expected a vector"),
        (Fields(vector="v", kind="multi_vector"), {"id": "a", "v": [1, 2]}, "it takes vectors, not vector"),
        (Fields(), {"text": "x", "a": {"b": [1.5] * 65}}, "/metadata/a/b: a list of 65 numbers is rather a vector"),
        (Fields(), {"text": "x", "a": [{"b": math.nan}]}, "/metadata/a/0/b: expected a finite number"),
        (Fields(), {"text": "x", "a": b"\xff"}, "/metadata/a: expected what metadata holds"),
        (Fields(), {"text": {"a": 1}}, "/text: expected a text, got an object"),
        (Fields(rename=(("a", "text"),)), {"text": "x", "a": "y"}, "more than one field is called 'text'"),
    ],
)
def test_records_that_cannot_be_say_why(fields: Fields, record: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        fields.document(record)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "old", [{"select": (("year", "int"),)}, {"id": "year"}, {"text": ("year",)}, {"title": "year"}, {"vector": "year"}]
)
def test_what_is_renamed_has_its_new_name_everywhere(old: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="the field 'year' is renamed to 'published': call it so"):
        Fields(rename=(("year", "published"),), **old)
    # Another field may take the name.
    Fields(rename=(("year", "published"), ("y", "year")), **old)


# JSON


def test_json_is_an_array_an_object_or_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"text": "one", "n": 1},\n3, {"text": "two"}\n]')
    (tmp_path / "b.json").write_text('{\n "title": "T",\n "text": "whole"\n}\n')
    (tmp_path / "c.json").write_text('\n{"text": "line"}\n{broken}\n{"id": "x", "text": "last"}\n')
    (tmp_path / "d.jsonl").write_text('{"url": "u", "body": "text"}\n')
    documents, faults = within(tmp_path / "a.json")
    assert documents == [
        Document("a.json#1", "one", metadata={"n": 1}),
        Document("a.json#3", "two"),
        Document("b.json", "whole", "T"),
        Document("c.json#2", "line"),
        Document("c.json#x", "last"),
        Document("d.jsonl#1", "text", metadata={"url": "u"}),
    ]
    assert list(faults) == ["a.json, row 2", "c.json, line 3"]
    assert faults["a.json, row 2"] == "expected a JSON object, got int"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('[\n{"text": "x"},\n{"text": ', 3),
        ('[{"text": "x"}', 1),
        ("[\n" + "[" * 100_000, 2),
        ('{\n"a": NaN\n}', 1),
        ("", 1),
    ],
)
def test_json_that_is_none_says_where(tmp_path: Path, content: str, line: int) -> None:
    (tmp_path / "a.json").write_text(content)
    _, faults = within(tmp_path / "a.json")
    assert [place.partition(", ")[2] for place in faults] == [f"line {line}"]


# CSV


def test_csv_of_other_delimiters_and_charsets(tmp_path: Path) -> None:
    rows = 'id;title;text;Größe\n1;Ä;"a; b";3\n2;;日本;\n'
    for charset in ("utf-8", "utf-16", "utf-8-sig"):
        (tmp_path / "a.csv").write_text(rows, encoding=charset)
        reading = Reading(delimiter=";")
        documents, faults = read(open_source(str(tmp_path / "a.csv"), reading=reading))
        assert documents == [Document("1", "a; b", "Ä", {"Größe": "3"}), Document("2", "日本")], charset
        assert faults == {}
    (tmp_path / "a.csv").write_bytes("id,text\n1,gut\n2,größer\n3,wieder\n".encode("cp1252"))
    documents, faults = within(tmp_path / "a.csv")
    assert [one.id for one in documents] == ["a.csv#1", "a.csv#3"]
    assert "not UTF-8" in faults["a.csv, line 3"]
    assert "--charset" in faults["a.csv, line 3"]
    (tmp_path / "b.csv").write_text("id,text\n1,schön\n")
    documents, faults = read(open_source(str(tmp_path), reading=Reading(charset="cp1252")))
    assert [one.text for one in documents] == ["gut", "größer", "wieder", "schön"]
    documents, faults = read(open_source(str(tmp_path / "a.csv"), reading=Reading(charset="cp1252")))
    assert [one.text for one in documents] == ["gut", "größer", "wieder"]


def test_ms_marco_and_trec(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("0\tThe presence\n1\tThe project\n")
    (tmp_path / "d.tsv").write_text("D1\thttp://x\tTitle\tBody\n")
    assert read(open_source(str(tmp_path / "p.tsv"), "msmarco"))[0] == [
        Document("0", "The presence"),
        Document("1", "The project"),
    ]
    assert read(open_source(str(tmp_path / "d.tsv"), "msmarco"))[0] == [
        Document("D1", "Body", "Title", {"url": "http://x"})
    ]
    (tmp_path / "a.trec").write_bytes(
        b"<DOC>\n<DOCNO> FT-1 </DOCNO>\n<HEADLINE>Head &amp; tail</HEADLINE>\n<TEXT>\n<P>One</P>\n</TEXT>\n</DOC>\n\n"
        b"<DOC>\n<DOCNO>FT-2</DOCNO>\nPlain text\n</DOC>\n<DOC>\n<TEXT>none</TEXT>\n</DOC>\nbetween\n<DOC>\n<DOCNO>FT-3"
    )
    documents, faults = read(open_source(str(tmp_path / "a.trec")))
    assert documents == [Document("FT-1", "One", "Head & tail"), Document("FT-2", "Plain text")]
    assert faults == {
        "line 13": "expected <DOCNO>",
        "line 16": "expected <DOC>",
        "line 17": "not whole: <DOC> is not closed",
    }


# Parquet and Arrow


def table() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([1, 2]),
            "text": pa.array(["one", "zwei"]).dictionary_encode(),
            "on": pa.array([datetime.datetime(2024, 5, 1, 12), None], pa.timestamp("ns", "UTC")),
            "price": pa.array([Decimal("12.50"), Decimal("3.00")]),
            "tags": pa.array([["a", None], None], pa.list_(pa.string())),
            "by": pa.array([{"name": "Ada"}, None], pa.struct({"name": pa.string()})),
            "v": pa.array([[1, 2], [3, 4.5]], pa.list_(pa.float16(), 2)),
        }
    )


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrows"])
def test_parquet_and_arrow(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table(), path)
    elif suffix == "feather":
        pyarrow.feather.write_feather(table(), path)
    else:
        with pa.ipc.new_stream(path, table().schema) as stream:
            stream.write_table(table())
    one, two = of(path, vector="v", kind="dense")
    assert one.vectors is not None
    assert two.vectors is not None
    assert (one.id, one.text, one.vectors.tolist()) == ("1", "one", [[1, 2]])
    assert one.metadata == {
        "on": "2024-05-01T12:00:00+00:00",
        "price": 12.5,
        "tags": ["a", None],
        "by": {"name": "Ada"},
    }
    assert (two.id, two.text, two.vectors.tolist()) == ("2", "zwei", [[3, 4.5]])
    assert two.metadata == {"on": None, "price": 3, "tags": None, "by": None}
    # A short list of numbers may be anything; none is taken for a vector unasked.
    documents, faults = within(path)
    assert [document.metadata["v"] for document in documents] == [[1, 2], [3, 4.5]]
    assert faults == {}


def test_token_vectors_and_ragged_ones(tmp_path: Path) -> None:
    vectors = pa.array([[[1, 2], [3, 4]], [[1, 2], [3]], None], pa.list_(pa.list_(pa.float32())))
    pq.write_table(pa.table({"id": ["a", "b", "c"], "vectors": vectors}), tmp_path / "a.parquet")
    documents, faults = read(open_source(str(tmp_path / "a.parquet")))
    assert [(one.id, one.vectors.tolist()) for one in documents if one.vectors is not None] == [("a", [[1, 2], [3, 4]])]
    assert list(faults) == ["row 2"]
    assert faults["row 2"].startswith("expected a vector, or several of one length")


def test_a_data_set_as_it_is_saved(tmp_path: Path) -> None:
    for split, texts in (("train", ["one", "two"]), ("test", ["three"])):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        made = pa.table({"text": texts})
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", made.schema) as stream:
            stream.write_table(made)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [one.text for one in of(tmp_path / "set")] == ["one", "two", "three"]
    assert [one.text for one in of(tmp_path / "set" / "train")] == ["one", "two"]
    (tmp_path / "set" / "train" / "state.json").write_text('{"_data_files": [{"filename": "../test/x.arrow"}]}')
    _, faults = read(open_source(str(tmp_path / "set" / "train")))
    assert "train/x.arrow is not there" in faults[""]


# XLSX


def test_xlsx_has_rows_with_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Teile"
    for row in ([], ["Name", "text", "Preis", "seit", None], ["Bolzen", "aus Stahl", 3, datetime.datetime(2024, 5, 1)],
                [None], ["Mutter", "aus Messing", 1.5, None], ["zu", "viel", 1, None, None, "hier"]):  # fmt: skip
        sheet.append(row)
    book.create_sheet("leer")
    book.save(tmp_path / "a.xlsx")
    documents, faults = within(tmp_path / "a.xlsx")
    assert documents == [
        Document("a.xlsx#Teile#3", "aus Stahl", "Bolzen", {"Preis": 3, "seit": "2024-05-01T00:00:00"}),
        Document("a.xlsx#Teile#5", "aus Messing", "Mutter", {"Preis": 1.5}),
    ]
    assert faults == {"a.xlsx, Teile, row 6": "1 cells have no name in the first row"}
    whole = (tmp_path / "a.xlsx").read_bytes()
    for content in (whole[:-50], b"PK", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)):
        (tmp_path / "a.xlsx").write_bytes(content)
        assert list(within(tmp_path / "a.xlsx")[1]) == ["a.xlsx"]
    (tmp_path / "a.xlsx").write_bytes(whole)
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1_000)
    assert within(tmp_path / "a.xlsx")[1]["a.xlsx"].startswith("unpacks to ")


# Arrays


def test_arrays_of_vectors_with_ids(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", vectors)
    (tmp_path / "a.fvecs").write_bytes(b"".join(struct.pack("<i2f", 2, *row) for row in vectors))
    (tmp_path / "ids").write_text("x\ny\nz\n")
    for name in ("a.npy", "a.fvecs"):
        reading = Reading(Fields(kind="dense"), ids=tmp_path / "ids")
        documents, faults = read(open_source(str(tmp_path / name), reading=reading))
        assert faults == {}
        assert [(one.id, one.vectors.tolist()) for one in documents if one.vectors is not None] == [
            ("x", [[0, 1]]), ("y", [[2, 3]]), ("z", [[4, 5]]),
        ]  # fmt: skip
        assert [one.id for one in of(tmp_path / name, kind="dense")] == ["0", "1", "2"]
    np.save(tmp_path / "t.npy", vectors.reshape(1, 3, 2))
    (tokens,) = of(tmp_path / "t.npy", kind="multi_vector")
    assert tokens.vectors is not None
    assert tokens.vectors.shape == (3, 2)
    (tmp_path / "ids").write_text("x\n")
    _, faults = read(open_source(str(tmp_path / "a.npy"), reading=Reading(ids=tmp_path / "ids")))
    assert "expected 3 ids, one a line for each vector, got 1" in faults[""]


def test_arrays_that_cannot_be_read_say_where(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 8), np.float32))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-5])
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.array([[1, np.nan]]))
    ragged = struct.pack("<i2f", 2, 1, 2) + struct.pack("<i3f", 3, 1, 2, 3)
    (tmp_path / "d.fvecs").write_bytes(ragged)
    (tmp_path / "e.fvecs").write_bytes(ragged[:10])
    documents, faults = within(tmp_path / "a.npy")
    assert [one.id for one in documents] == ["d.fvecs#0"]
    assert list(faults) == ["a.npy", "b.npy", "c.npy, row 1", "d.fvecs, row 2", "e.fvecs, row 1"]
    assert faults["d.fvecs, row 2"] == "expected 2 dimensions as in the first vector, got 3"
    assert "finite" in faults["c.npy, row 1"]


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("a.parquet", "tables"),
        ("a.xlsx", "tables"),
        ("a.h5", "tables"),
        ("a.pdf", "documents"),
        ("a.html", "documents"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    for module in ("pyarrow", "openpyxl", "h5py", "pypdfium2", "lxml.etree"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / name).write_text("<p>x")
    _, faults = within(tmp_path / name)
    assert f"install sheaf[{extra}]" in faults[name]


def test_ids_of_records_are_strings_and_whole_numbers() -> None:
    fields = Fields()
    said = [fields.document({"id": id, "text": "x"}) for id in (7, "7", 7.0, -1)]
    assert [one.id for one in said if one] == ["7", "7", "7", "-1"]
    for id in (7.5, True):
        with pytest.raises(Invalid, match="an id is a string or an integer") as refused:
            fields.document({"docid": id, "text": "x"})
        assert refused.value.problems[0].pointer == "/docid"
    one, same, other = (fields.document({"text": text, "year": 1}) for text in ("x", "x", "y"))
    assert one
    assert same
    assert other
    assert one.id == same.id == parse_document('{"text": "x", "metadata": {"year": 1}}').id != other.id
