"""Killed at any moment, a collection opens again by itself with everything that was acknowledged, and nothing else."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import prestarted
from ledger import Ledger, check, make
from writing_process import settings

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.main import HANDLERS
from app.search import Query, search
from app.tasks.records import ENDED

KILLS = 10
SCRIPT = Path(__file__).with_name("writing_process.py")
ROOT = Path(__file__).parents[2]


def launch(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return prestarted.Popen(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
    )


def killed_after(process: subprocess.Popen[str], lines: int, seconds: float) -> list[list[Any]]:
    """Lets it say so many lines once it is open, kills it a moment later, and gives the whole lines that it printed."""
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == ["open", True]
    output = "".join(process.stdout.readline() for _ in range(lines))
    time.sleep(seconds)
    process.kill()
    with process:
        output += process.stdout.read()
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith("\n")]


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_killed_ten_times(tmp_path: Path) -> None:
    make(tmp_path)
    chance = random.Random(20)
    ledgers = {"c": Ledger(), "own": Ledger()}
    done, stood = dict.fromkeys(ledgers, 0), dict.fromkeys(ledgers, 0)
    for seed in range(1, KILLS + 1):
        lines = killed_after(launch(tmp_path, "crash", seed), chance.randrange(30), chance.uniform(0.0, 0.05))
        for name, ledger in ledgers.items():
            done[name] += ledger.read(lines, name)
        check(tmp_path, ledgers)
        for name, ledger in ledgers.items():
            stood[name] += len(ledger.stands)
    for name in ledgers:
        assert done[name] > 5
        # The last kill may come after all were deleted, but not each.
        assert stood[name] > 0


def test_an_accepted_import_is_applied_after_any_kill(tmp_path: Path) -> None:
    make(tmp_path)
    lines = [json.dumps({"id": f"d{i}", "text": f"text {i} of many words", "metadata": {"n": i}}) for i in range(1500)]
    lines[700] = '{"id": "bad"}'
    body = tmp_path.with_suffix(".ndjson")
    body.write_text("\n".join(lines))
    process = launch(tmp_path, "import", body)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == ["open", True]
    word, task = json.loads(process.stdout.readline())
    assert word == "accepted"
    phases = set()
    chosen = settings(tmp_path)
    for delay in (0.05, 0.2, 0.3):
        # The first round kills the process that accepted it; the others kill ones that go on with it.
        time.sleep(delay)
        end(process)
        with Catalogue(tmp_path, Encoders(chosen.models), chosen) as catalogue:
            phases.add(catalogue.tasks("c").get(task).phase)
        process = launch(tmp_path, "import", os.devnull)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == ["open", True]
    end(process)
    with Catalogue(tmp_path, Encoders(chosen.models), chosen, HANDLERS) as catalogue:
        deadline = time.monotonic() + 60
        while catalogue.tasks("c").get(task).state not in ENDED:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ended = catalogue.tasks("c").get(task)
        assert (ended.state, ended.done, ended.total, ended.errors_total) == ("succeeded", 1500, 1500, 1)
        assert [(error.line, error.code) for error in ended.errors] == [(701, "invalid")]
        collection = catalogue.get("c")
        assert collection.count() == 1499
        assert collection.get("d1499").metadata == {"n": 1499}
        assert collection.published.tail.part.size == 0
        wanted = search(collection, Query(text="text 1234", k=1, exact=True)).hits[0]
        assert wanted.id == "d1234"
    # The catalogue's end waits for the task's, whose last step removes the body.
    assert not list((tmp_path / "c" / "imports").glob(f"{task}*"))
    assert phases <= {"queued", "checking", "applying", "indexing", "done"}
