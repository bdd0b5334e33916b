"""HDF5: its columns, and that no file of it holds up or ends a build, whatever its library does with it."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.errors import RequestError
from app.sources.choose import Reading, open_source
from app.sources.fields import Fields
from app.sources.records import hdf5
from app.types import Document

STAND_IN = """
import os, signal, time
class Dataset:
    ndim, dtype = 1, None
    def __len__(self): return 300
    def __getitem__(self, rows):
        if rows.start: {then}
        return ["x"] * 256
class File(dict):
    def __init__(self, path, mode): self["text"] = Dataset()
    def close(self): pass
def check_string_dtype(dtype): return None
"""
"""In the place of h5py, which reads 256 rows. Real files at which the library goes on for ever, or breaks the process,
depend on its version."""


def read(path: Path, **fields: str) -> tuple[list[Document], dict[str, str]]:
    """Documents, and faults by their places."""
    documents, faults = [], {}
    for entry in open_source(str(path), reading=Reading(Fields(kind="dense", **fields))).entries():
        if isinstance(entry.found, Document):
            documents.append(entry.found)
        else:
            assert isinstance(entry.found, RequestError)
            faults[entry.place] = entry.found.message
    return documents, faults


def test_columns_are_data_sets_of_one_length(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["embeddings"] = np.arange(4, dtype=np.float16).reshape(2, 2)
        file["id"] = [5, 6]
        file["text"] = ["eins", "zwei"]
        file["neighbors"] = np.zeros((9, 3))
    (one, two), faults = read(tmp_path / "a.h5")
    assert one.vectors is not None
    assert (one.id, one.text, one.vectors.tolist(), one.metadata) == ("5", "eins", [[0, 1]], {})
    assert (two.id, faults) == ("6", {})
    documents, _ = read(tmp_path / "a.h5", vector="embeddings", id="id")
    assert [found.id for found in documents] == ["5", "6"]
    _, faults = read(tmp_path / "a.h5", vector="other")
    assert "its own: embeddings, id, neighbors, text" in faults[""]


def test_rows_come_in_their_order_from_more_than_one_batch(tmp_path: Path) -> None:
    count = 2 * hdf5.BATCH + 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["id"] = np.arange(count)
        file["text"] = ["x"] * count
    documents, faults = read(tmp_path / "a.h5")
    assert [int(one.id) for one in documents] == list(range(count))
    assert faults == {}


def test_what_is_no_hdf5_is_a_fault_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    documents, faults = read(tmp_path / "f.h5")
    assert documents == []
    assert faults[""].startswith("not HDF5, or not whole: ")


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("time.sleep(3600)", "the library of HDF5 was not done with a step in 0.5 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process that read it ended by itself (-11)"),
    ],
)
def test_a_library_that_hangs_or_breaks_off_is_a_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, why: str
) -> None:
    (tmp_path / "h5py.py").write_text(STAND_IN.format(then=then))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "h5py")
    monkeypatch.setattr(hdf5, "LIMIT_S", 0.5)
    (tmp_path / "a.h5").touch()
    documents, faults = read(tmp_path / "a.h5")
    assert len(documents) == hdf5.BATCH
    assert list(faults) == ["row 257"]
    assert why in faults["row 257"]


def test_a_reader_that_is_left_ends_its_process(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = ["x" * 1000] * 2000
    rows = hdf5.read_hdf5(tmp_path / "a.h5")
    assert next(rows).number == 1
    reader = rows.gi_frame.f_locals["reader"]  # type: ignore[attr-defined]
    rows.close()  # type: ignore[attr-defined]
    assert reader.returncode is not None
