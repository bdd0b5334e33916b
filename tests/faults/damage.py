"""Every persistent file cut short and with flipped bits, while nothing runs: noticed, or without any effect.

Each trial harms one file of a copy, opens the folder as a server does, and asks for everything. Good is: the collection
is refused with the file's name and a way out while the others answer as before; or every answer is as before. Never a
crash, never another answer. What was noticed must be found by scrub too; and what can be made anew is made anew.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from forks import in_child
from report import Report
from writing_process import say

from app.api.service import Lanes, Service
from app.collection.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.saved import SavedSnapshots
from app.collection.sealing import seal
from app.collection.tasks import ENDED, Tasks
from app.encoders.registry import Encoders
from app.errors import StoreError
from app.handlers import HANDLERS
from app.importing import ImportUpload
from app.ingest import delete_ids, write_documents
from app.scrub import REBUILD, scrub
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.types import Document

DIM = 6
NAMES = ("words", "own", "dense")
TRUNCATIONS, FLIPS = 20, 200
WITHOUT_CONTENT = ("writer.lock", ".server.lock", "collection.sqlite-shm")
"""Files that hold nothing: harm to them changes nothing."""


def settings(folder: Path) -> Settings:
    models = {"words": DeterministicModel(type="deterministic", dim=DIM)}
    return Settings(indexes=folder, models=models, threads=1)


def opened(folder: Path, *, tasks: bool = False) -> Catalogue:
    chosen = settings(folder)
    return Catalogue(folder, Encoders(chosen.models), chosen, HANDLERS if tasks else None)


def document(i: int, collection: Collection) -> Document:
    spec, vectors = collection.spec, None
    if spec.model is None:
        rows = 1 if spec.kind == "dense" else 3
        vectors = np.random.default_rng(i).normal(size=(rows, DIM)).astype(np.float32)
    return Document(f"d{i}", f"text {i} of many words", f"title {i}", {"n": i, "tags": [f"t{i % 3}"]}, vectors)


def fill(folder: Path) -> None:
    """Two segments, a tail in the database and in a file, dead rows, an accepted body, snapshots; then killed."""
    with opened(folder) as catalogue:
        catalogue.create("words", model="words", kind="multi_vector")
        catalogue.create("own", model=None, kind="multi_vector", dim=DIM)
        catalogue.create("dense", model=None, kind="dense", dim=DIM, similarity="inner_product")
        for name in NAMES:
            collection = catalogue.get(name)

            def write(numbers: range, collection: Collection = collection) -> None:
                write_documents(collection, [document(i, collection) for i in numbers])

            write(range(20))
            seal(collection)
            write(range(18, 30))
            seal(collection)
            delete_ids(collection, ["d3", "d19"])
            SavedSnapshots(folder).take(collection, f"{NAMES.index(name):032x}", lambda: None)
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
        os.kill(os.getpid(), signal.SIGKILL)


def contents(collection: Collection) -> dict[str, Any]:
    """Everything that a caller can read, but for generations."""
    documents = collection.listing(None, 1_000)[0]
    found: dict[str, Any] = {"listing": [repr(one) for one in documents]}
    found["by id"] = [repr(one) for one in collection.get_many([one.id for one in documents])]
    for exact in (True, False):
        for place, k in ((1, 1_000), (2, 5)):
            vectors = np.linspace(1, place, DIM, dtype=np.float32)[None]
            include = frozenset({"text", "metadata", "vectors"})
            hits = search(collection, Query(vectors=vectors, k=k, exact=exact, include=include)).hits
            found[f"exact={exact} k={k}"] = [
                (h.id, h.score, h.title, h.text, repr(h.metadata), None if h.vectors is None else h.vectors.tolist())
                for h in hits
            ]
    found["count"] = collection.count()
    with collection.snapshot() as snapshot:
        seqs = [int(seq) for view in snapshot.views for seq in view.part.seqs[view.alive]]
        stored = collection.stored_vectors(seqs, snapshot.published)
        by_id = {d.id: stored[seq] for seq, d in snapshot.documents(seqs).items()}
    found["raw"] = {i: None if p.raw is None else p.raw.values.tolist() for i, p in sorted(by_id.items())}
    tasks = Tasks(collection, {})
    found["tasks"] = [repr(tasks.get(task.id)) for task in tasks.all()]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def answers(folder: Path) -> None:
    """Says [name, what it holds] or [name, None, the error] of each, as a server that starts here would find it."""
    with opened(folder) as catalogue:
        catalogue.serve("http://here")
        service = Service(settings(folder), catalogue, {}, Lanes(settings(folder)))
        for name in NAMES:
            try:
                say(name, service.on(name, contents), "")
            except StoreError as error:
                if error.status != 503 or name not in catalogue.quarantined():
                    raise AssertionError(f"{name} is not quarantined") from error
                say(name, None, error.message)


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: harms drawn at random, every file first once; 0 is every file, cut at 20 places and with 200 bits
    flipped."""
    report = Report("damage", seed)
    image = folder / "image"
    assert in_child(lambda: fill(image)).signal == signal.SIGKILL
    shutil.copytree(image, folder / "read")
    read = in_child(lambda: answers(folder / "read"))
    assert read.well, read.errors
    expected = {name: held for name, held, _ in map(json.loads, read.output.splitlines())}
    assert all(expected[name] for name in NAMES), read.output[:2_000]
    files = sorted(path.relative_to(image) for path in image.rglob("*") if path.is_file())
    report.figures["files"] = len(files)
    chance = random.Random(seed)
    harms = [one for file in files for one in _harms(image, file, chance)]
    if trials:
        first = {file: (file, what, harm) for file, what, harm in chance.sample(harms, len(harms))}
        rest = chance.sample(harms, max(0, trials - len(first)))
        harms = [*first.values(), *rest][:trials]
    for file, what, harm in harms:
        report.trials += 1
        _trial(report, folder, image, file, what, harm, expected)
    derived = [file for file in files if "segments" in file.parts or "tail" in file.parts]
    for file in chance.sample(derived, min(len(derived), max(2, trials // 20))) if trials else derived:
        _rebuilt(report, folder, image, file, expected)
    return report.done()


Harm = Callable[[Path], None]


def _harms(image: Path, file: Path, chance: random.Random) -> list[tuple[Path, str, Harm]]:
    size = (image / file).stat().st_size

    def cut(place: int) -> Harm:
        return lambda path: os.truncate(path, place)

    def flip(place: int, bit: int) -> Harm:
        def harm(path: Path) -> None:
            with path.open("r+b") as content:
                content.seek(place)
                (byte,) = content.read(1)
                content.seek(place)
                content.write(bytes([byte ^ 1 << bit]))

        return harm

    cuts = [0, size - 1, *(chance.randrange(size) for _ in range(TRUNCATIONS - 2))] if size else []
    flips = [(chance.randrange(size), chance.randrange(8)) for _ in range(FLIPS)] if size else []
    return [
        *((file, f"cut at {place}", cut(place)) for place in cuts),
        *((file, f"bit {bit} of byte {place} flipped", flip(place, bit)) for place, bit in flips),
    ]


def _trial(
    report: Report, folder: Path, image: Path, file: Path, what: str, harm: Harm, expected: dict[str, Any]
) -> None:
    place = folder / "trial"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(image, place)
    harm(place / file)
    where = f"{file} {what}"
    scrubbed = in_child(lambda: say(*([f.file, f.block, f.what, f.remedy] for n in NAMES for f in scrub(place, n))))
    ended = in_child(lambda: answers(place))
    for child in (scrubbed, ended):
        if not child.well:
            died = f"killed by signal {child.signal}" if child.signal else "hung" if child.hung else "raised"
            report.fail(f"{where}: {died}: {child.errors[-1_500:]}")
            return
    findings = json.loads(scrubbed.output)
    hurt = file.parts[0]
    for line in ended.output.splitlines():
        name, held, error = json.loads(line)
        if held is not None:
            if held != expected[name]:
                wrong = [key for key in held if held[key] != expected[name].get(key)]
                report.fail(f"{where}: another answer of {name}: {wrong}")
                return
            continue
        if name != hurt:
            report.fail(f"{where}: {name} was refused too: {error}")
        known = file.name.removesuffix("-wal").removesuffix("-shm")
        if known not in error and file.name not in ("manifest.json",):
            report.fail(f"{where}: the file is not named: {error}")
        if "rebuild" not in error and "backup" not in error:
            report.fail(f"{where}: no way out is named: {error}")
        if not findings:
            report.fail(f"{where}: refused, but scrub found nothing: {error}")
        report.counts["refused"] += 1
        return
    report.counts["found by scrub alone" if findings else "without effect"] += 1
    if findings and not all(finding[0].startswith((hurt, ".snapshots")) for finding in findings):
        report.fail(f"{where}: scrub blames others: {findings}")
    if not findings and file.suffix in (".npy", ".npz", ".index", ".safetensors", ".tar", ".ndjson"):
        report.fail(f"{where}: neither refused nor found by scrub")


def _rebuilt(report: Report, folder: Path, image: Path, file: Path, expected: dict[str, Any]) -> None:
    """What scrub says can be made anew is made anew, to the same answers."""
    place = folder / "rebuilt"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(image, place)
    content = (place / file).read_bytes()
    (place / file).write_bytes(content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]))
    name = file.parts[0]
    found = in_child(lambda: say(*([f.file, f.remedy] for f in scrub(place, name))))
    if not found.well or [str(file), REBUILD] not in json.loads(found.output):
        report.counts["irreplaceable"] += 1
        return
    report.trials += 1

    def rebuild() -> None:
        with opened(place, tasks=True) as catalogue:
            catalogue.serve("http://here")
            identifier = catalogue.begin_rebuild(name).id
            deadline = time.monotonic() + 60
            while (task := catalogue.task(identifier)).state not in ENDED:
                assert time.monotonic() < deadline, task
                time.sleep(0.005)
            assert task.state == "succeeded", task
            assert catalogue.quarantined() == {}
            held = contents(catalogue.get(name))
            say(held)

    ended = in_child(rebuild)
    if not ended.well:
        report.fail(f"{file}: not rebuilt: {ended.errors[-1_500:]}")
        return
    held = json.loads(ended.output)[0]
    # The accepted import runs as well, and the rebuild is a task of its own.
    wanted = expected[name]["listing"]
    kept = [one for one in held["listing"] if "d30" not in one or any(f"'d30{i}'" not in one for i in range(4))]
    if not set(wanted) <= set(kept):
        report.fail(f"{file}: rebuilt, but another answer")
    for key in ("exact=True k=5", "exact=False k=5") if name != "words" else ():
        if held[key] != expected[name][key]:
            report.fail(f"{file}: rebuilt, but another answer to {key}")
    report.counts["rebuilt"] += 1
