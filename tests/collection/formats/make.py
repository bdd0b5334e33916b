"""Makes the small collections of this folder; run once for each format, by the Sheaf that first wrote it.

    python tests/collection/formats/make.py FORMAT_FOLDER

They are never made again: tests open what an old Sheaf wrote. Each has a sealed segment, a tail, and deletions in both;
`expected.json` holds what its searches gave.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.types import Document

COLLECTIONS = {
    "words": {"model": "words", "kind": "multi_vector"},
    "vectors": {"model": None, "kind": "multi_vector", "dim": 4, "similarity": "inner_product"},
    "dense": {"model": None, "kind": "dense", "dim": 4},
}
TEXTS = ["red apple", "green apple pie", "blue sky", "red sky at night", "a pie", "night of the comet", "blue moon"]


def main(target: Path) -> None:
    random = np.random.default_rng(1)
    settings = Settings(indexes=target, threads=1, models={"words": DeterministicModel(type="deterministic", dim=8)})
    expected = {}
    with Catalogue(target, Encoders(settings.models), settings) as catalogue:
        for name, options in COLLECTIONS.items():
            collection = catalogue.create(name, **options)
            documents = []
            for i, text in enumerate(TEXTS):
                rows = 1 if name == "dense" else 1 + i % 3
                own = None if name == "words" else random.integers(-8, 9, (rows, 4)).astype(np.float32) + 0.5
                documents.append(Document(f"d{i}", text, metadata={"n": i}, vectors=own))
            write_documents(collection, documents[:5])
            seal(collection)
            write_documents(collection, documents[5:])
            delete_ids(collection, ["d1", "d6"])
            vectors = np.array([[1, -2, 3, 0.25], [0.5, 1, 0, -1]][: 1 if name == "dense" else 2], np.float32)
            query = {"text": "red pie"} if name == "words" else {"vectors": vectors}
            hits = search(collection, Query(**query, k=9, exact=True, include=frozenset({"vectors"}))).hits
            expected[name] = [[hit.id, hit.score, hit.vectors.tolist()] for hit in hits]
    for left in (*target.glob(".*"), *target.glob("*/writer.lock"), *target.glob("*/*.sqlite-*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
