"""A folder with every kind of file that Sheaf writes, and everything that can be read from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import IN_DATABASE, run_task
from small_codes import code_everything
from writing_process import say

from app.api.service import Lanes, Service
from app.backup.saved import SavedSnapshots
from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.collection import chunks, segment_writing
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageChoice
from app.collection.spec import SparseSpec, ValueSpec
from app.compute import native
from app.encoders.openvino.model_cache import ModelCache
from app.encoders.registry import Encoders
from app.encoders.turns import TurnsSpec
from app.encodings.protocol import Sample
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.errors import Damaged, SheafError, StoreError
from app.indexing.reindexing import link
from app.indexing.restaging import restage
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.main import HANDLERS
from app.scoring.networks.network import Layer, Network
from app.scoring.similarities.measures import Options
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.tasks.importing import ImportUpload
from app.tasks.tasks import Tasks
from app.types import Document, SparseVector, TokenVectors, Turn, spoken

DIM = 6
NAMES = ("words", "own", "dense", "sequence", "talks", "learned")
ALIAS = "known-as"
MODEL = {"model": "m", "version_x": "1"}
"""Key of the one entry of the cache of converted models."""


def settings(folder: Path) -> Settings:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    return Settings(indexes=folder, models=models, threads=1)


def opened(folder: Path, *, tasks: bool = False) -> Catalogue:
    chosen = settings(folder)
    return Catalogue(folder, Encoders(chosen.models), chosen, HANDLERS if tasks else None)


def document(i: int, collection: Collection) -> Document:
    spec, vectors, sparse = collection.spec, None, None
    if spec.sparse is not None and i % 4:
        sparse = SparseVector(np.array([i % 7, 9], np.int32), np.array([i, 0.5], np.float32))
    if spec.model is None:
        rows = 1 if spec.kind == "dense" else 3
        vectors = np.random.default_rng(i).normal(size=(rows, DIM)).astype(np.float32)
    text, metadata = f"text {i} of many words", {"n": i, "tags": [f"t{i % 3}"]}
    values = None if spec.values is None else np.full((i % 3, spec.values.dim), i, np.float32)
    carried = None if values is None or not len(values) else values
    if spec.turns is not None and i % 3:
        turns = Turn("user", text), Turn("system", f"answer {i}")
        return Document(
            f"d{i}", spoken(turns), f"title {i}", metadata, turns=turns, summary=f"summary {i % 5}" * (i % 2)
        )
    return Document(f"d{i}", text, f"title {i}", metadata, vectors, sparse=sparse, values=carried)


def fill(folder: Path) -> None:
    """Two segments, a tail in the database and in a file, dead rows, an accepted body, snapshots, an alias, a learned
    first stage, codes, a graph of neighbours, a converted model and machine code; then killed."""
    with opened(folder) as catalogue, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "IN_DATABASE", IN_DATABASE)
        catalogue.create("words", model="words", kind="multi_vector")
        own = {"model": None, "dim": DIM, "sparse": SparseSpec(), "values": ValueSpec(dim=3)}
        catalogue.create("own", kind="multi_vector", **own)
        catalogue.create("dense", kind="dense", similarity="causal", options=Options(documents=10), **own)
        catalogue.create("sequence", model=None, kind="sequence", dim=DIM, segments_per_second=2)
        catalogue.create("talks", model="words", kind="multi_vector", turns=TurnsSpec())
        catalogue.create("learned", model=None, kind="multi_vector", dim=DIM, precision="1bit", keep_vectors=False)
        for name in NAMES:
            collection = catalogue.get(name)

            def write(numbers: range, collection: Collection = collection) -> None:
                write_documents(collection, [document(i, collection) for i in numbers])

            if name == "learned":
                code_everything(patch)
            write(range(20))
            seal(collection)
            write(range(18, 30))
            seal(collection)
            if name == "learned":
                _learn(collection)
            if name == "dense":
                patch.setattr(segment_writing, "FEWEST", 8)
                link(collection, 4, reason="linked")
            delete_ids(collection, ["d3", "d19"])
            SavedSnapshots(catalogue.files).take(collection, f"{NAMES.index(name):032x}", lambda: None)
            if name == "words":
                write(range(100, 260))  # into a file beside the database
            write(range(28, 36))
            write(range(40, 42))
            delete_ids(collection, ["d29", "d40"])
            if name == "words":
                upload = ImportUpload(collection, catalogue.tasks(name), "stop")
                for i in range(300, 304):
                    one = document(i, collection)
                    upload.write(json.dumps({"id": one.id, "text": one.text}).encode() + b"\n")
                upload.commit()
        catalogue.aliases.set(ALIAS, "own")
        models = ModelCache(folder / ".models")
        models.make(MODEL, lambda place: {"bytes": (place / "weights").write_bytes(bytes(range(256)) * 20)})
        # Machine code that the searches of the parent process have left beside the folder.
        (kept,) = native._kept
        shutil.copytree(kept, folder / ".compiled" / kept.name)
        os.kill(os.getpid(), signal.SIGKILL)


def _learn(collection: Collection) -> None:
    recipe = RidgeRecipe(RidgeParameters(rank=4, samples=60, landmarks=30, probes=30))
    vectors = [document(i, collection).vectors for i in range(30)]
    tokens = TokenVectors.join([one for one in vectors if one is not None])
    stage = FirstStage(("fde", "pooled"), recipe.fit(Sample(tokens, tokens)), 50)
    restage(collection, StageChoice(stage, "learned", recipe.to_json(), {"documents": 30}))


def contents(collection: Collection) -> dict[str, Any]:
    """Everything that a caller can read, but for generations."""
    documents = collection.listing(None, 1_000)[0]
    found: dict[str, Any] = {"listing": [repr(one) for one in documents]}
    found["by id"] = [repr(one) for one in collection.get_many([one.id for one in documents])]
    for exact in (True, False):
        for place, k in ((1, 1_000), (2, 5)):
            vectors = np.linspace(1, place, DIM, dtype=np.float32)[None]
            parts = {"text", "metadata", "vectors"} | ({"values"} if collection.spec.values is not None else set())
            include = frozenset(parts)
            hits = search(collection, Query(vectors=vectors, k=k, exact=exact, include=include)).hits
            found[f"exact={exact} k={k}"] = [
                (
                    h.id,
                    h.score,
                    h.title,
                    h.text,
                    repr(h.metadata),
                    None if h.vectors is None else h.vectors.tolist(),
                    repr(h.alignment),
                    None if h.values is None else h.values.tolist(),
                )
                for h in hits
            ]
    if collection.spec.sparse is not None:
        nine = SparseVector(np.array([2, 9], np.int32), np.ones(2, np.float32))
        found["sparse"] = [(h.id, h.score) for h in search(collection, Query(sparse=nine, mode="sparse", k=1_000)).hits]
    if collection.spec.turns is not None:
        turns = Turn("user", "text 7"), Turn("system", "answer 8")
        asked = Query(text=spoken(turns), turns=turns, mode="semantic", k=1_000)
        found["turns"] = [(h.id, h.score) for h in search(collection, asked).hits]
    if collection.spec.kind == "dense":
        scorer = Network((Layer(np.ones((DIM, 1), np.float32)),))
        found["scorer"] = [(h.id, h.score) for h in search(collection, Query(scorer=scorer, k=1_000)).hits]
    found["count"] = collection.count()
    with collection.snapshot() as snapshot:
        seqs = [int(seq) for view in snapshot.views for seq in view.part.seqs[view.alive]]
        stored = collection.stored_vectors(seqs, snapshot.published)
        by_id = {d.id: stored[seq] for seq, d in snapshot.documents(seqs).items()}
    found["sparse vectors"] = {i: p.ragged("sparse").values.tolist() for i, p in sorted(by_id.items()) if "sparse" in p}
    found["raw"] = {i: p.ragged("raw").values.tolist() if "raw" in p else None for i, p in sorted(by_id.items())}
    tasks = Tasks(collection, {})
    found["tasks"] = [repr(tasks.get(task.id)) for task in tasks.all()]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def answers(folder: Path, *, also: str = "") -> None:
    """Says [what, what is there] or [what, None, the error] of everything, as a server that starts here would find it.

    also: "restored" tells of the snapshots, each restored; "applied" of the accepted import, run.
    """
    with opened(folder) as catalogue:
        catalogue.serve("http://here")
        service = Service(settings(folder), catalogue, Lanes(settings(folder)))
        for name in NAMES:
            try:
                say(name, service.on(name, contents), "")
            except StoreError as error:
                if error.status != 503 or name not in catalogue.quarantined():
                    raise AssertionError(f"{name} is not quarantined") from error
                say(name, None, error.message)
        try:
            say("aliases", catalogue.aliases.all(), "")
        except Damaged as error:
            say("aliases", None, error.message)
        entry = ModelCache(folder / ".models").load(MODEL)
        say("models", None if entry is None else [entry.content, (entry.folder / "weights").read_bytes().hex()], "")
        if "restored" in also:
            for name in NAMES:
                _restored(catalogue, name)
        if "applied" in also:
            _applied(catalogue)


def _restored(catalogue: Catalogue, name: str) -> None:
    for saved in catalogue.snapshots.of(name):
        try:
            _, archive = catalogue.snapshots.get(name, saved.id)
            restore_file(catalogue, "restored", archive, replace=True)
        except SheafError as error:
            say(f"restored {name}", None, error.message)
        else:
            say(f"restored {name}", contents(catalogue.get("restored")), "")


def _applied(catalogue: Catalogue) -> None:
    try:
        collection = catalogue.get("words")
    except Damaged:
        return
    before = len(collection.listing(None, 1_000)[0])
    tasks = catalogue.tasks("words")
    (task,) = tasks.all()
    run_task(catalogue, "words", task.id, wanted=None)
    ended = tasks.get(task.id)
    if ended.state == "succeeded":
        found = contents(collection)
        del found["tasks"]
        say("applied", found, "")
        return
    assert len(collection.listing(None, 1_000)[0]) == before, "a damaged body was applied"
    say("applied", None, " ".join(error.message for error in ended.errors))
