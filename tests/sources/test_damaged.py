"""Whatever is wrong with a file of a folder: it is a fault with a place, and the file after it is read all the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from files_made import make

from app.errors import RequestError
from app.sources.choose import Reading, open_source
from app.sources.fields import Fields
from app.types import Document

TRIES = 15
FORMS = ("arrows", "csv", "docx", "feather", "fvecs", "html", "json", "md", "npy", "parquet", "pdf", "trec", "xlsx")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """With bytes changed, put in, taken out, or the end cut off."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 2, 8])):
        place = chance.randrange(max(1, len(made)))
        match chance.randrange(4):
            case 0:
                made[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                made[place:place] = bytes(chance.choices(b"\x00\xff<>{}[]\"':,-\n01", k=4))
            case 2:
                del made[place : place + chance.randrange(1, 30)]
            case _:
                del made[place:]
    return bytes(made)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_costs_no_other(tmp_path: Path, form: str) -> None:
    chance = random.Random(form)
    path = tmp_path / f"a.{form}"
    make(path)
    (tmp_path / "b.txt").write_text("the file after it")
    whole = path.read_bytes()
    reading = Reading(Fields(kind="dense"))
    faults = 0
    for content in (whole, *(damaged(whole, chance) for _ in range(TRIES))):
        path.write_bytes(content)
        *entries, last = open_source(str(tmp_path), reading=reading).entries()
        assert last.found == Document("b.txt", "the file after it", "b")
        for entry in entries:
            assert entry.file.startswith(path.name)
            if isinstance(entry.found, RequestError):
                faults += 1
                assert entry.found.message
                assert content != whole
    assert faults
