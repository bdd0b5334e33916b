"""A BEIR folder: its documents, queries and judgements."""

import gzip
import json
from pathlib import Path

import pytest

from app.errors import Invalid, MalformedBody, NotFound
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import Document


def lines(*objects: object) -> str:
    return "".join(json.dumps(o) + "\n" for o in objects)


def test_documents_and_those_with_nothing_to_encode(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        lines(
            {"_id": "1", "title": "T", "text": "body", "metadata": {"url": "u", "year": 2020, "gone": None}},
            {"_id": "2", "title": "", "text": "  "},
            {"_id": "3", "title": None, "text": "x", "metadata": {}},
            {"_id": "4"},
            {"_id": 5.5, "text": "x"},
            {"title": "no id", "text": "x"},
            ["no", "object"],
        )
    )
    source = Beir(tmp_path)
    found = list(source.entries())
    assert [e.found for e in found[:2]] == [
        Document("1", "body", "T", {"url": "u", "year": 2020}),
        Document("3", "x"),
    ]
    assert [(e.line, type(e.found)) for e in found[2:]] == [(5, Invalid), (6, Invalid), (7, MalformedBody)]
    assert source.skipped == 2
    assert source.done == source.total


def test_metadata_that_cannot_be_kept_is_a_bad_line_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(lines({"_id": "1", "text": "x", "metadata": {"nested": {"a": 10**400}}}))
    (entry,) = Beir(tmp_path).entries()
    assert isinstance(entry.found, Invalid)
    assert entry.found.problems[0].pointer == "/metadata/nested/a"


def test_a_compressed_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines({"_id": "1", "text": "x"}).encode()))
    assert [e.found for e in Beir(tmp_path).entries()] == [Document("1", "x")]


def test_a_folder_without_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"neither corpus\.jsonl nor corpus\.jsonl\.gz"):
        Beir(tmp_path)


def test_queries_and_judgements(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text(lines({"_id": "q1", "text": "what"}, {"_id": "q2", "text": "why"}))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td 1\t2\nq1\td2\t0\nq2\td1\t1\n")
    assert beir_queries(tmp_path) == {"q1": "what", "q2": "why"}
    assert beir_qrels(tmp_path) == {"q1": {"d 1": 2, "d2": 0}, "q2": {"d1": 1}}


HEADER = "query-id\tcorpus-id\tscore\n"
THREE = "q1\td 1\t2\nq1\td2\t0\nq2\td1\t1\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADER + THREE,
        THREE,
        THREE.replace("\t2", "\t2.0").replace("\t0", "\t0.00"),
        THREE.replace("q1\t", "q1\t0\t").replace("q2\t", "q2\tQ0\t"),
        "\n" + THREE.replace("\n", "\r\n\n"),
    ],
)
def test_every_form_of_judgements_is_read_from_its_first_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_bytes(content.encode())
    assert beir_qrels(tmp_path) == {"q1": {"d 1": 2, "d2": 0}, "q2": {"d1": 1}}


def test_columns_of_trec_may_be_apart_by_spaces(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("q1 0  d1 2\nq2 0  d2 -1\n")
    assert beir_qrels(tmp_path) == {"q1": {"d1": 2}, "q2": {"d2": -1}}


@pytest.mark.parametrize(
    "line", ["q1\td1\t0.5", "q1\td1\tnan", "q1\td1\tinf", "q1\td1", "q1\t0\tx\td1\t1", "q1\td1\tgood"]
)
def test_a_judgement_that_is_no_whole_number_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(f"q1\td2\t1\n{line}\n")
    with pytest.raises(Invalid, match=r"test\.tsv, line 2: expected query-id"):
        beir_qrels(tmp_path)


def test_a_wrong_judgement_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\tgood\n")
    with pytest.raises(Invalid, match=r"test\.tsv, line 2"):
        beir_qrels(tmp_path)


def test_a_wrong_query_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text(lines({"_id": "q1", "text": "what"}, {"_id": "q2"}))
    with pytest.raises(Invalid, match=r"queries\.jsonl, line 2"):
        beir_queries(tmp_path)
