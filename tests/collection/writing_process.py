"""A process that writes to a collection and prints a line when something was acknowledged; tests kill it.

python writing_process.py FOLDER crash SEED      upserts, deletes, seals and merges, until it is killed
python writing_process.py FOLDER write COUNT     takes the collection, obeys lines of standard input
python writing_process.py FOLDER import FILE     accepts an import of the file as a server does, until it is killed
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.main import HANDLERS
from app.settings import DeterministicModel, Settings
from app.store.database import IDLE
from app.tasks.importing import ImportUpload
from app.types import F32, Document, SparseVector

DIM = 4


def settings(folder: Path, **more: Any) -> Settings:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    return Settings(indexes=folder, models=models, threads=1, seal_documents=40, **more)


def say(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def vectors(identifier: str, version: int) -> F32:
    """The vectors of this version of a document; no two are equal."""
    generator = np.random.default_rng([version, *identifier.encode()])
    return generator.normal(size=(2, DIM)).astype(np.float32)


def weight(version: int) -> float:
    """Of the index 7, which each document of its own vectors has."""
    return 1.0 + version % 1_000


def document(identifier: str, version: int, *, own: bool) -> Document:
    text, metadata = f"version{version} of {identifier}", {"v": version}
    if not own:
        return Document(identifier, text, metadata=metadata)
    sparse = SparseVector(np.array([version % 5, 7], np.int32), np.array([1, weight(version)], np.float32))
    own_vectors, carried = vectors(identifier, version), np.full((1 + version % 2, 2), version % 1_000, np.float32)
    return Document(identifier, text, metadata=metadata, vectors=own_vectors, sparse=sparse, values=carried)


def crash(collections: list[Collection], seed: int) -> None:
    """Says what it is about to do, then does it, then says that it was done."""
    chance = random.Random(seed)
    version = seed * 1_000_000
    while True:
        version += 1
        collection = chance.choice(collections)
        own, name = collection.spec.model is None, collection.name
        ids = [f"d{i}" for i in chance.sample(range(60), chance.randrange(1, 12))]
        match chance.choice(["upsert", "upsert", "upsert", "delete", "seal", "merge"]):
            case "upsert":
                say("upsert", name, version, ids)
                write_documents(collection, [document(i, version, own=own) for i in ids])
            case "delete":
                say("delete", name, version, ids)
                delete_ids(collection, ids)
            case "seal":
                say("seal", name, version, [])
                seal(collection)
            case "merge":
                say("merge", name, version, [])
                merge(collection)
        say("done", name, version, ids)


def obey(collection: Collection) -> None:
    own = collection.spec.model is None
    for line in sys.stdin:
        command, *words = json.loads(line)
        match command:
            case "upsert":
                identifier, version = words
                write_documents(collection, [document(identifier, version, own=own)])
            case "delete":
                delete_ids(collection, words)
            case "seal":
                seal(collection)
            case "merge":
                while merge(collection):
                    pass
            case "flood":
                for version in range(words[0], words[1]):
                    write_documents(collection, [document(f"f{i}", version, own=own) for i in range(5)])
                    if version % 10 == 0:
                        seal(collection)
                        merge(collection)
        say("done", collection.published.generation.number)


def accept(catalogue: Catalogue, body: Path) -> None:
    upload = ImportUpload(catalogue.get("c"), catalogue.tasks("c"), "skip")
    upload.write(body.read_bytes())
    say("accepted", upload.commit().id)
    sys.stdin.read()


def main() -> None:
    folder, what, word = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    chosen = settings(folder)
    handlers = HANDLERS if what == "import" else None
    with Catalogue(folder, Encoders(chosen.models), chosen, handlers) as catalogue:
        collection = catalogue.get("c")
        say("open", collection.is_writer)
        if what == "crash":
            if int(word) % 2:
                IDLE.most = 0  # so that it may be killed while it closes what nobody uses
            crash([collection, catalogue.get("own")], int(word))
        elif what == "write":
            obey(collection)
        else:
            accept(catalogue, Path(word))


if __name__ == "__main__":
    main()
