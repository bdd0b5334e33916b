"""Tuning by the command."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Command, OpenCatalogue

from app.ingest import write_documents
from app.types import Document


def test_it_tunes_a_collection_and_says_what_it_tried(
    command: Command, open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    with open_catalogue() as catalogue:
        made = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(made, [Document(f"d{i}", f"word{i} word{i % 7} word{i % 11}", f"t{i}") for i in range(60)])
    (tmp_path / "queries").write_text("word1 word2\n\nword3\n")
    report = tmp_path / "report.json"
    line = ("c", "--target-recall", "0.8", "--k", "5", "--queries-file", tmp_path / "queries", "--json", report)
    done = command("tune", *line)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert (found["queries"], found["drawn"], found["passages"]) == (2, False, 60)
    assert found["measured"]["reached"]
    assert f"* {found['chosen']}" in done.stdout
    with open_catalogue() as catalogue:
        stage = catalogue.get("c").published.generation.stage
        assert stage is not None
        assert dict(stage.report) == found


def test_what_it_cannot_do_it_says(command: Command) -> None:
    done = command("tune", "absent")
    assert done.returncode == 1
    assert "there is no collection 'absent'" in done.stderr
    assert "Traceback" not in done.stderr
