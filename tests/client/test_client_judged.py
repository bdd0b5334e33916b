"""What the client asks of judged queries, and of a collection as a whole, against a live server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.client import Collection, Document

New = Callable[..., Collection]


def test_judged_queries_come_and_go_as_files(new: New, tmp_path: Path) -> None:
    collection = new()
    for name, content in (("queries.tsv", "q1\towl\nq2\twren\n"), ("people.qrels", "q1 0 owl 2\n")):
        (tmp_path / name).write_text(content)
        found = collection.judge_file("people", tmp_path / name)
    assert found == {"name": "people", "queries": 1, "grades": 1, "relevant": 1}
    assert collection.judgements_as("people", "qrels") == b"q1 0 owl 2\n"
    (tmp_path / "folder.zip").write_bytes(collection.judgements_as("people", "beir", split="dev"))
    assert collection.judge_file("again", tmp_path / "folder.zip", split="dev")["grades"] == 1
    assert collection.judgements("again") == collection.judgements("people")
    with pytest.raises(ValueError, match=r"cannot tell the form of 'people\.csv'"):
        collection.judge_file("people", tmp_path / "people.csv")


def test_a_collection_is_tuned_by_judged_queries(new: New) -> None:
    collection = new()
    collection.judge("people", [{"id": str(i), "query": "owl", "grades": {"owl": 1}} for i in range(10)])
    found = collection.tune_by("people", measure="P@1", parts=["fusion"])
    assert (found["parts"]["fusion"]["verdict"], found["applied"]) == ("unchanged", [])


def test_a_collection_is_mapped(new: New) -> None:
    collection = new()
    collection.write([Document(word, f"the {word} sings", title=word) for word in ("wren", "owl", "finch")])
    found = collection.map(points=2)
    assert (found["ids"], found["titles"], found["of"]) == (["wren", "owl"], ["wren", "owl"], 3)
    assert found["x"].shape == found["y"].shape == (2,)
    assert abs(found["x"]).tolist() == [1, 1]


def test_what_was_searched_is_told(new: New) -> None:
    assert new().searched(below=0.5, most=3)["texts"] == 0


def test_how_relevant_hits_are_is_learned_from_judgements(new: New) -> None:
    collection = new()
    words = [f"{one}{number}" for number in range(4) for one in ("wren", "owl", "finch")]
    collection.write([Document(word, f"the {word} sings") for word in words])
    collection.judge("people", [{"id": word, "query": f"{word} sings", "grades": {word: 1}} for word in words])
    learned = collection.learn_relevance("people", mode="lexical", depth=5)
    assert collection.relevance() == [learned]
    (hit, *_) = collection.search("owl2 sings", mode="lexical", relevance=True).hits
    assert hit.raw["relevance"] > 0.5


def test_searches_are_compared_by_judged_queries(new: New) -> None:
    collection = new()
    collection.write([Document(word, f"the {word} sings") for word in ("wren", "owl", "finch")])
    queries = [{"id": word, "query": f"{word} sings", "grades": {word: 1}} for word in ("wren", "owl")]
    assert collection.judge("people", queries) == {"name": "people", "queries": 2, "grades": 2, "relevant": 2}
    assert collection.grade("people", [{"query": "owl", "document": "wren", "grade": 0}])["grades"] == 3
    assert collection.judgements("people")[1] == {**queries[1], "grades": {"owl": 1, "wren": 0}}
    settings = [{"name": mode, "search": {"mode": mode}} for mode in ("lexical", "semantic")]
    found = collection.pool("people", settings=settings, depth=3)
    assert (found["queries"], found["pooled"], found["judged"], len(found["to_judge"])) == (2, 6, 3, 3)
    report = collection.evaluate(judgements="people", settings=settings, measures=["P@1"])
    assert report["settings"][0]["measures"]["P@1"]["mean"] == 1.0
    seen: list[str] = []
    task = collection.evaluate(
        judgements="people",
        settings=settings,
        measures=["P@1"],
        background=True,
        progress=lambda task: seen.append(task.state),
    )
    assert task["settings"][0]["measures"] == report["settings"][0]["measures"]
    assert seen[-1] == "succeeded"
