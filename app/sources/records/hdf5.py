"""HDF5, whose data sets of one length are columns.

HDF5's own library may go round for ever in the texts of a damaged file (seen in 2.0.0, of one with changed bytes), and
no thread can stop it. So a process of its own reads the file, which the system ends where one step takes longer than
``LIMIT_S``; where the library ends the process itself, that is a fault of the file too. The other formats of arrays
were damaged likewise, and are read where the build is.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.errors import Invalid, RequestError
from app.sources.extras import foreign, library
from app.sources.fields import VECTORS
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row

BATCH: Final = 256
LIMIT_S: Final = 120.0
"""Of one batch of rows, which takes milliseconds, but of a file that lies far away or in large compressed chunks."""
_EMBEDDED: Final = ("embeddings", "embedding", "emb", "train")
"""Names that HDF5's vectors have beside ours."""
_SIZE: Final = 8
"""Bytes before each batch that say how many it has."""


def read_hdf5(path: Path, vector: str | None = None) -> Iterator[Row]:
    """vector: the data set of vectors, where it has none of the usual names. Raises Unreadable, Invalid."""
    library("h5py", "tables", "HDF5")
    # -P: nothing in the working folder is taken for a module. Where this process finds Sheaf, the other does.
    command = [sys.executable, "-P", "-m", __name__, str(LIMIT_S), str(path), *([] if vector is None else [vector])]
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    read = 0
    # A group of its own: what the terminal sends on Ctrl-C is for this process, which then ends the other.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=places, process_group=0
    ) as reader:
        try:
            while (found := _received(reader.stdout)) is not None:
                if isinstance(found, RequestError):
                    raise found
                yield from found
                read = found[-1].number
        except BaseException:
            reader.kill()
            raise
    if reader.returncode == -signal.SIGALRM:
        why = f"the library of HDF5 was not done with a step in {LIMIT_S:g} s, as with damaged files"
        raise Unreadable(f"not HDF5, or not whole: {why}", read + 1, "row")
    if reader.returncode:
        why = f"the process that read it ended by itself ({reader.returncode})"
        raise Unreadable(f"not HDF5, or not whole: {why}", read + 1, "row")


def _received(stream: Any) -> Any:
    """The next batch, or the fault; None at the end, and where the process ended within one."""
    size = int.from_bytes(stream.read(_SIZE), "little")
    content = stream.read(size)
    return pickle.loads(content) if size and len(content) == size else None  # noqa: S301 - of our own process


def _send(found: list[Row] | RequestError) -> None:
    content = pickle.dumps(found)
    sys.stdout.buffer.write(len(content).to_bytes(_SIZE, "little") + content)
    sys.stdout.buffer.flush()


def _read_for(limit_s: float, path: Path, vector: str | None) -> None:
    """The other process: the timer's signal ends it, whatever the library does. No time counts while it sends."""
    for one in (signal.SIGALRM, signal.SIGPIPE):
        signal.signal(one, signal.SIG_DFL)
    batches = _batches(path, vector)
    try:
        while True:
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            batch = next(batches, None)
            if batch is None:
                return
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(batch)
    except RequestError as error:
        _send(error)


def _batches(path: Path, vector: str | None) -> Iterator[list[Row]]:
    """Rows in the order of the file, ``BATCH`` at a time. Raises Unreadable, Invalid."""
    h5py = library("h5py", "tables", "HDF5")
    with foreign("HDF5"):
        file = h5py.File(path, "r")
    with closing(file):
        columns = _columns(h5py, file)
        known = [name for name in (vector, *VECTORS, *_EMBEDDED) if name in columns]
        main = columns[known[0]] if known else next(iter(columns.values()), None)
        if main is None or (vector is not None and vector not in columns):
            shown = ", ".join(columns) or "none"
            raise Invalid(f"expected a data set of vectors or texts (--vector-field, --text-field); its own: {shown}")
        kept = {name: one for name, one in columns.items() if len(one) == len(main)}
        for start in range(0, len(main), BATCH):
            with foreign("HDF5", start + 1):
                values = {name: _read(h5py, one, start) for name, one in kept.items()}
            rows = []
            for i in range(min(BATCH, len(main) - start)):
                row = {name: _plain(value[i]) for name, value in values.items()}
                if known and known[0] not in VECTORS and vector is None:
                    row["vector"] = row.pop(known[0])
                rows.append(Row(start + i + 1, row, (start + i + 1) / len(main)))
            yield rows


def _columns(h5py: Any, file: Any) -> dict[str, Any]:
    """The data sets that may be columns."""
    with foreign("HDF5"):
        return {name: one for name, one in file.items() if isinstance(one, h5py.Dataset) and one.ndim in (1, 2, 3)}


def _read(h5py: Any, column: Any, start: int) -> Any:
    if h5py.check_string_dtype(column.dtype) is not None:
        return column.asstr(errors="strict")[start : start + BATCH]
    return column[start : start + BATCH]


def _plain(value: Any) -> Any:
    """Scalars as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    _read_for(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
