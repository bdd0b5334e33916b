"""A short run of requests made from the published schema; the long one is a command of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from schema_requests import SERVER, hold

BATCHES = "search/batch$"
"""Of searches like the single ones, of which every field is tried already; `make faults` tries theirs too."""


@pytest.mark.parametrize(
    ("phases", "paths"),
    [
        (("examples", "coverage", "fuzzing"), ("--exclude-path-regex", BATCHES)),
        (("examples", "fuzzing"), ("--include-path-regex", BATCHES)),
    ],
    ids=["all but batches", "batches"],
)
def test_every_answer_is_as_the_schema_says(tmp_path: Path, phases: tuple[str, ...], paths: tuple[str, ...]) -> None:
    status, said = hold(tmp_path, 5, 1, phases, 0, *paths)
    assert status == 0, said[-20_000:]
    # Every operation was asked, none was passed over for a body that cannot be made.
    assert "errored" not in said, said[-20_000:]


def test_what_is_wrong_is_noticed(tmp_path: Path) -> None:
    """The control: an answer that is not of its schema, and a failure of the server."""
    planted = """
from app.api.routes import health
health.encoded = lambda answer: b'{"version": 1}'
health.LiveAnswer = None
"""
    only = ("--include-path", "/v1/info", "--include-path", "/health/live")
    server = SERVER.replace("sys.exit(main())", planted + "sys.exit(main())")
    status, said = hold(tmp_path, 2, 1, ("coverage",), 0, *only, server=server)
    assert status != 0
    assert "Response violates schema: 2" in said, said
    assert "Server error: 1" in said
    assert "[500]" in said
