"""Evaluation by the command, on a small collection whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Command

QUERIES = {f"q{i}": f"word{i} word{i + 1}" for i in range(10)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Query i is all of document i; its other judged document shares no word with it."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{i}", "title": "", "text": f"word{i} word{i + 1}"} for i in range(200)]
    corpus.append({"_id": "empty", "title": "", "text": ""})
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in corpus))
    queries = [{"_id": q, "text": text} for q, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    qrels = "".join(f"q{i}\td{i}\t1\n" for i in range(9)) + "q9\tempty\t1\n"
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_builds_measures_and_writes_both_forms(command: Command, folder: Path, tmp_path: Path, kind: str) -> None:
    line = (folder, "--collection", "c", "--model", "words", "--kind", kind, "--json", tmp_path / "out.json")
    done = command("evaluate", *line)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["documents"], found["skipped_documents"], found["queries"]) == (200, 1, 10)
    assert (found["kind"], found["model"]) == (kind, "words")
    # Nine of ten queries have their one right document first; the tenth's does not exist.
    for measure in ("nDCG@10", "R@100", "RR@10", "AP@100"):
        assert found["quality"]["exact"][measure] == pytest.approx(0.9), measure
    assert found["quality"]["approximate"]["RR@10"] == pytest.approx(0.9)
    assert 0.5 < found["recall@10"] <= 1.0
    for path in ("encode", "approximate", "exact"):
        assert 0 < found["latency_ms"][path]["p50"] <= found["latency_ms"][path]["p95"]
    assert "collection c: 200 written" in done.stdout
    assert "nDCG@10" in done.stdout
    assert f"recall@10 of approximate against exact: {found['recall@10']:.4f}" in done.stdout
    again = command("evaluate", *line)
    assert "collection c: 0 written, 200 unchanged" in again.stdout
    repeated = json.loads((tmp_path / "out.json").read_text())
    assert (repeated["quality"], repeated["recall@10"]) == (found["quality"], found["recall@10"])


def test_no_judgements_of_that_name(command: Command, folder: Path) -> None:
    done = command("evaluate", folder, "--collection", "c", "--model", "words", "--split", "dev")
    assert done.returncode == 1
    assert "dev.tsv" in done.stderr


def test_a_judged_query_without_text(command: Command, folder: Path) -> None:
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "word0"}\n')
    done = command("evaluate", folder, "--collection", "c", "--model", "words")
    assert done.returncode == 1
    assert "9 judged queries have no text, the first: 'q1'" in done.stderr


def test_runs_go_out_and_come_back(command: Command, folder: Path, tmp_path: Path) -> None:
    """What was written is worth what was found; a foreign run with ties what trec_eval says; also alone."""
    mine, other, out = tmp_path / "mine.run", tmp_path / "other.run", tmp_path / "out.json"
    # The right document ties with two others: one before it by ids from the last, one after.
    other.write_text("".join(f"q{i} Q0 {name} 1 2.5 x\n" for i in range(10) for name in (f"d{i}", f"d{i}~", f"a{i}")))
    line = (folder, "--collection", "c", "--model", "words", "--run-out", mine, "--run-of", "exact", "--run-in", other)
    done = command("evaluate", *line, "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["quality"]["other.run"]["RR@10"] == pytest.approx(0.9 / 2)
    assert "other.run" in done.stdout
    alone = command("evaluate", folder, "--run-in", mine, other, "--json", out)
    assert alone.returncode == 0, alone.stderr
    again = json.loads(out.read_text())["quality"]
    assert again["mine.run"] == found["quality"]["exact"]
    assert again["other.run"] == found["quality"]["other.run"]
    refused = command("evaluate", folder)
    assert (refused.returncode, "--collection" in refused.stderr) == (1, True)
