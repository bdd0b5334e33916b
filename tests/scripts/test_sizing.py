"""scripts/sizing.py as it is typed, at a tiny size, held to what each precision must take."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from commands import ROOT, Command

sys.path.insert(0, str(ROOT / "scripts"))
import scale_data

from app.codes.choose import code_for
from app.types import TokenVectors


def test_the_whole_command(command: Command, tmp_path: Path) -> None:
    values = scale_data.unit(np.random.default_rng(0).standard_normal((1_000, 16)).astype(np.float32))
    pool = TokenVectors(values, np.arange(0, 1_001, 100))
    np.savez(tmp_path / "pool-16.npz", values=pool.values, offsets=pool.offsets)
    done = command("sizing", "--folder", tmp_path, "--documents", 300, "--dim", 16, "--precision", "4bit", "dense")
    assert done.returncode == 0, done.stderr
    names, *rows = [line.split() for line in done.stdout.splitlines()[1:]]
    found = {
        row[0]: dict(zip(names, map(float, (cell.replace(",", "") for cell in row[1:])), strict=True)) for row in rows
    }
    each = code_for("4bit", 16).bytes_per_vector
    for precision, row in found.items():
        parts = sum(row[name] for name in ("tokens", "encoded", "pooled", "indexes", "database", "other"))
        assert abs(row["disk"] - parts) <= 6
        # The header of a file is a few bytes a document.
        assert 0 <= row["pooled"] - 16 * 4 < 2
        assert 0 <= row["tokens"] - (0 if precision == "dense" else scale_data.TOKENS * each) < 2
        assert row["mapped"] >= row["pooled"]
        assert row["exact"] >= row["tokens"]
        assert 0 < row["loaded"] < 200
