"""CSV and TSV with named columns."""

from pathlib import Path

import pytest

from app.errors import Invalid, MalformedBody, RequestError
from app.sources.choose import open_source
from app.sources.table import Columns, Table
from app.types import Document

COLUMNS = Columns.parse("key", "body", "head", ["year:int", "score:float", "open:bool", "tag"])
HEADER = "tag,key,head,body,year,score,open\n"


def read(path: Path, content: str | bytes, columns: Columns = COLUMNS) -> tuple[Table, list[tuple[int, object]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = Table(path, columns, "tsv" if path.suffix == ".tsv" else "csv")
    found = [(e.line, type(e.found) if isinstance(e.found, RequestError) else e.found) for e in source.entries()]
    return source, found


def test_columns_by_name_with_types_and_quoted_cells_over_lines(tmp_path: Path) -> None:
    source, found = read(
        tmp_path / "d.csv",
        HEADER + 'red,1,T,"say ""hi"",\nthen go",2020,1.5,yes\r\n,2,,plain,,,\nx,3,,,1,1,no\n,4,only,,,,\n',
    )
    assert found == [
        (2, Document("1", 'say "hi",\nthen go', "T", {"tag": "red", "year": 2020, "score": 1.5, "open": True})),
        (4, Document("2", "plain")),
        (6, Document("4", "", "only")),
    ]
    assert source.skipped == 1
    assert source.done == source.total


def test_bad_records_are_entries_and_reading_goes_on(tmp_path: Path) -> None:
    content = (
        HEADER.encode()
        + b"x,1,,one,,,\n"
        + b"x,2,,two\n"
        + b"x,3,,three,never,,\n"
        + b"x,4,,\xff,,,\n"
        + b"x,,,five,,,\n"
        + b"x,6,,six,,nan,\n"
        + b'x,7,,"se"ven,,,\n'
        + b"x,8,,eight,,,maybe\n"
        + b"x,9,,nine,9,,\n"
    )
    _, found = read(tmp_path / "d.csv", content)
    assert found == [
        (2, Document("1", "one", metadata={"tag": "x"})),
        (3, MalformedBody),
        (4, Invalid),
        (5, MalformedBody),
        (6, Invalid),
        (7, Invalid),
        (8, MalformedBody),
        (9, Invalid),
        (10, Document("9", "nine", metadata={"tag": "x", "year": 9})),
    ]


@pytest.mark.parametrize(("before", "found"), [("", []), ("1,one,T\n", ["one"]), ('1,"a ""b""\nc",T\n', ['a "b"\nc'])])
def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path: Path, before: str, found: list[str]) -> None:
    columns = Columns.parse("key", "body")
    rest = "".join(f"{i},text {i},T\n" for i in range(10, 40))
    content = "key,body,head\n" + before + '2,"a\n""b"" and c","it is\n' + rest
    path = tmp_path / "d.csv"
    path.write_text(content)
    *good, bad = Table(path, columns, "csv").entries()
    assert [entry.found for entry in good] == [Document("1", text) for text in found]
    assert isinstance(bad.found, MalformedBody)
    assert bad.line == content[: content.index('"it is')].count("\n") + 1
    assert "a quote opens here and is not closed: the 30 lines after it were taken for one cell" in bad.found.message


def test_ends_of_lines_in_a_quoted_cell_stay_as_they_are(tmp_path: Path) -> None:
    columns = Columns.parse("key", "body")
    content = b'key,body\r\n1,"a\r\nb\nc\rd"\r\n2,plain\r\n3,"e\n"'
    _, found = read(tmp_path / "d.csv", content, columns)
    assert found == [(2, Document("1", "a\r\nb\nc\rd")), (5, Document("2", "plain")), (6, Document("3", "e\n"))]


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_a_file_without_a_header_loses_no_line(tmp_path: Path, suffix: str) -> None:
    tab = "\t" if suffix == "tsv" else ","
    content = f"0{tab}The presence of communication\n1{tab}The Manhattan Project\n"
    path = tmp_path / f"collection.{suffix}"
    with pytest.raises(Invalid, match=r"no column 'id'; its columns: 0, The pres.*--header"):
        read(path, content, Columns.parse("id", "text"))
    _, found = read(path, content, Columns.parse("id", "text", header=["id", "text"]))
    assert found == [(1, Document("0", "The presence of communication")), (2, Document("1", "The Manhattan Project"))]
    with pytest.raises(Invalid, match=r"no column .text.; its columns: id, passage$"):
        read(path, content, Columns.parse("id", "text", header=["id", "passage"]))
    _, found = read(path, content + f"2{tab}x{tab}y\n", Columns.parse("id", "text", header=["id", "text"]))
    assert found[2] == (3, MalformedBody)


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    _, found = read(tmp_path / "d.tsv", 'key\tbody\n1\t"half a quote\n2\ta,b\n', Columns.parse("key", "body"))
    assert found == [(2, Document("1", '"half a quote')), (3, Document("2", "a,b"))]


def test_a_cell_longer_than_the_csv_module_allows_by_itself(tmp_path: Path) -> None:
    _, found = read(tmp_path / "d.csv", "key,body\n1," + "x" * 200_000 + "\n", Columns.parse("key", "body"))
    assert found == [(2, Document("1", "x" * 200_000))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("key,text\n1,x\n", "no column 'body'"),
        ("key,body,key\n1,x,2\n", "more than one column 'key'"),
    ],
)
def test_a_header_that_does_not_fit(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read(tmp_path / "d.csv", content, Columns.parse("key", "body"))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(Invalid, match="str, int, float, bool"):
        Columns.parse("id", "text", metadata=["year:date"])


def test_within_a_folder_the_path_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,plot\n1,x\n")
    (tmp_path / "b.csv").write_bytes(b"\xfa,\x90\n")
    first, second = open_source(str(tmp_path)).entries()
    assert isinstance(first.found, RequestError)
    assert isinstance(second.found, RequestError)
    assert (first.place, second.place) == ("a.csv", "b.csv, line 1")
    assert first.found.message.startswith(
        "which column of the file is the text (--text-field)? Its columns: key, plot."
    )
    with pytest.raises(RequestError, match=r"^the header of .*b.csv: not UTF-"):
        list(open_source(str(tmp_path / "b.csv")).entries())
