"""scripts/scale.py as it is typed, at a tiny size; what it draws from is tested by its laws."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, Command

from app.types import TokenVectors

sys.path.insert(0, str(ROOT / "scripts"))
import scale_data


@pytest.fixture(scope="module")
def pool() -> scale_data.Pool:
    values = np.random.default_rng(0).standard_normal((1_000, 16)).astype(np.float32)
    return scale_data.Pool.of(TokenVectors(scale_data.unit(values), np.arange(0, 1_001, 100)))


def test_passages_are_the_same_in_whatever_collection_and_pieces(pool: scale_data.Pool) -> None:
    chunks = list(scale_data.chunks(pool, 3_000))
    assert [len(chunk.vectors) for chunk in chunks] == [2_048, 952]
    again = scale_data.chunk(pool, 1, 1_000_000)
    assert np.array_equal(again.vectors[:952], chunks[1].vectors)
    np.testing.assert_allclose(np.linalg.norm(chunks[0].vectors, axis=2), 1, atol=1e-6)
    assert len({vectors.tobytes() for chunk in chunks for vectors in chunk.vectors}) == 3_000


def test_a_query_is_nearest_to_the_passage_it_was_drawn_around(
    pool: scale_data.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The vectors of this pool have nothing in common, so that a whole difference of two would bury any third.
    monkeypatch.setattr(scale_data, "QUERY_SHIFT", 0.2)
    size = 300
    passages = scale_data.chunk(pool, 0, size).vectors
    queries = scale_data.queries(pool, size, 8)
    origins = np.random.default_rng([0, 1, 1]).integers(size, size=8)
    for query, origin in zip(queries, origins.tolist(), strict=True):
        scores = np.einsum("qd,ptd->pqt", query, passages).max(axis=2).sum(axis=1)
        assert origin in np.argsort(-scores)[:3]


@pytest.mark.parametrize(("stage", "precision", "recall"), [("default", "float32", 1.0), ("ridge", "4bit", 0.6)])
def test_the_whole_command(stage: str, precision: str, recall: float, command: Command, tmp_path: Path) -> None:
    """Every step leaves its file; where all passages are rescored recall is the codes', 1 in single precision."""
    folder = tmp_path / "scale"
    given = [
        "--folder", folder, "--sizes", 300, 900, "--width", 20, 900, "--queries", 4, "--model", "words",
        "--texts", 40, "--dim", 16, "--stage", stage, "--precision", precision, "--picture", tmp_path / "cost.svg",
    ]  # fmt: skip
    done = command("scale", *given)
    assert done.returncode == 0, done.stderr
    for size in (300, 900):
        rows = json.loads((folder / f"{size}.ask.json").read_text())["rows"]
        assert {row["kept"] for row in rows} == {1.0, 0.001, 0.01, 0.1, 0.5}
        assert all(row["recall"] >= recall for row in rows if row["width"] == 900)
        built = json.loads((folder / f"{size}.build.json").read_text())
        assert sum(built["segments"]) == size
        assert built["memory"]["anonymous"] > 0
        assert ("learn_s" in built["steps"]) == (stage == "ridge")
    picture = ElementTree.parse(tmp_path / "cost.svg").getroot()
    drawn = "".join(picture.itertext())
    assert "900" in drawn
    assert "keeps 0.1 %" in drawn
    again = command("scale", *given)
    assert again.returncode == 0
    assert "passages:" not in again.stdout  # nothing is done twice
