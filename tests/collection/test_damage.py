"""Damage on disk is noticed: never a wrong answer, never a crash; and what can be made anew is."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, OpenCatalogue
from small_codes import code_everything

from app.catalogue.catalogue import Catalogue
from app.catalogue.scrub import REBUILD, RESTORE, scrub, scrub_aliases
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageChoice
from app.collection.part import tokens
from app.collection.spec import SparseSpec
from app.encoders.registry import Encoders
from app.encodings.protocol import Sample
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.errors import Damaged, FormatTooNew, Unavailable
from app.filters import parse
from app.indexing.restaging import restage
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.lexical.files import FILES as WORD_FILES
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.sparse.files import FILES as SPARSE_FILES
from app.store.database import get_meta, put_meta
from app.store.files import BLOCK
from app.store.layout import FORMAT
from app.tasks.records import ENDED, TaskError
from app.tasks.tasks import Running, Tasks
from app.types import Document, Metadata, SparseVector, TokenVectors

SETTINGS: dict[str, Any] = {"models": {"words": DeterministicModel(type="deterministic", dim=DIM)}, "threads": 1}

GIVEN = SparseSpec()


def opened(folder: Path) -> Catalogue:
    settings = Settings(indexes=folder, **SETTINGS)
    return Catalogue(folder, Encoders(settings.models), settings)


def contents(collection: Collection) -> dict[str, Any]:
    """All that a caller can read, but for sequence numbers and generations."""
    found: dict[str, Any] = {"documents": [repr(d) for d in collection.listing(None, 1_000)[0]]}
    ids = [d.id for d in collection.listing(None, 1_000)[0]]
    found["by id"] = [repr(d) for d in collection.get_many(ids)]
    query = np.linspace(1, 2, DIM, dtype=np.float32)[None]
    for exact in (True, False):
        wanted = Query(vectors=query, k=1_000, exact=exact, include=frozenset({"text", "metadata", "vectors"}))
        hits = search(collection, wanted).hits
        found[f"exact={exact}"] = [
            (h.id, h.score, h.title, h.text, repr(h.metadata), None if h.vectors is None else h.vectors.tobytes())
            for h in hits
        ]
    few = Query(vectors=query, k=3, candidates=5, filter=parse({"n": {"gte": 3}}))
    found["filtered"] = [(h.id, h.score) for h in search(collection, few).hits]
    for text in ("text 7 words", '+"of many" title:title'):
        spoken = search(collection, Query(text=text, mode="lexical", syntax="query", k=1_000)).hits
        found[f"words {text}"] = [(hit.id, hit.score) for hit in spoken]
    if collection.spec.sparse is not None:
        nine = SparseVector(np.array([2, 9], np.int32), np.ones(2, np.float32))
        found["sparse"] = [(h.id, h.score) for h in search(collection, Query(sparse=nine, mode="sparse", k=1_000)).hits]
    found["count"] = collection.count(parse({"n": {"lt": 9}}))
    with collection.snapshot() as snapshot:
        seqs = [int(seq) for view in snapshot.views for seq in view.part.seqs[view.alive]]
        stored = collection.stored_vectors(seqs, snapshot.published)
        by_id = {d.id: stored[seq] for seq, d in snapshot.documents(seqs).items()}
    found["vectors"] = {
        i: [p.flat("pooled").tobytes(), *(p.ragged(name).values.tobytes() for name in ("raw", "sparse") if name in p)]
        for i, p in sorted(by_id.items())
    }
    tasks = Tasks(collection, {})
    found["tasks"] = [tasks.get(task.id) for task in tasks.all() if task.kind == "import"]
    return found


def document(i: int, own: bool) -> Document:
    vectors = np.random.default_rng(i).normal(size=(3, DIM)).astype(np.float32) if own else None
    sparse = SparseVector(np.array([i % 7, 9], np.int32), np.array([1 + i, 0.5], np.float32)) if own and i % 4 else None
    metadata: Metadata = {"n": i, "tags": [f"t{i % 3}"]}
    return Document(f"d{i}", f"text {i} of many words", "title", metadata, vectors, sparse=sparse)


def fill(collection: Collection) -> None:
    """Two segments, a tail of chunks in the database and in a file, dead rows everywhere, a task with an error."""
    own = collection.spec.model is None
    write_documents(collection, [document(i, own) for i in range(20)])
    seal(collection)
    write_documents(collection, [document(i, own) for i in range(18, 30)])
    seal(collection)
    write_documents(collection, [document(i, own) for i in range(28, 40)])
    for i in range(40, 48):
        write_documents(collection, [document(i, own)])
    delete_ids(collection, ["d0", "d20", "d30"])
    tasks = Tasks(collection, {})
    task = tasks.submit("import", {"position": 5, "on_error": "skip"})
    Running(tasks, 1, task).fail_lines([TaskError(3, "invalid", "bad")])
    tasks.cancel(task.id)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`words`: of the encoder; `own`: of callers' vectors; `other`: untouched. Closed."""
    folder = tmp_path_factory.mktemp("healthy") / "indexes"
    with pytest.MonkeyPatch.context() as patch:
        # The larger chunks go into files.
        patch.setattr("app.collection.chunks.IN_DATABASE", 50_000)
        with opened(folder) as catalogue:
            fill(catalogue.create("words", model="words", kind="multi_vector"))
            # An index with a file, for so few rows too.
            with patch.context() as coded:
                code_everything(coded)
                fill(catalogue.create("own", model=None, kind="multi_vector", dim=DIM, sparse=GIVEN))
            fill(catalogue.create("other", model="words", kind="multi_vector"))
    return folder


@pytest.fixture(scope="module")
def expected(healthy: Path) -> dict[str, dict[str, Any]]:
    with opened(healthy) as catalogue:
        return {name: contents(catalogue.get(name)) for name in ("words", "own", "other")}


@pytest.fixture
def copied(healthy: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "indexes"
    shutil.copytree(healthy, folder)
    return folder


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


Harm = Callable[[Path], object]


def last(path: Path) -> int:
    return path.stat().st_size - 1


HARMS: dict[str, Harm] = {
    "first byte": lambda path: flip(path, 0, 3),
    "middle": lambda path: flip(path, path.stat().st_size // 2, 5),
    "last byte": lambda path: flip(path, last(path), 7),
    "cut by one": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: last(path) // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "missing": lambda path: path.unlink(),
}


def segment_files(folder: Path) -> list[str]:
    (segment, *_) = sorted((folder / "segments").iterdir())
    return sorted(path.name for path in segment.iterdir())


def test_every_kind_of_file_is_checked(healthy: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    files = {
        "manifest.json", "seqs.npy", "pooled.npy", "norms.npy", "tokens.offsets.npy", "tokens.npy", "encoded.npy",
        "raw.offsets.npy", "raw.npy", "columns.npz", "encoded.index", "pooled.index", *WORD_FILES,
        "sparse.npy", "sparse.offsets.npy", *SPARSE_FILES,
    }  # fmt: skip
    assert set(segment_files(healthy / "own")) == files
    paths = sorted((healthy / "own" / "segments").iterdir())[0].iterdir()
    paths = [*paths, *(healthy / "own" / "tail").iterdir()]
    assert len(paths) == len(files) + 1
    for path in paths:
        for harm in HARMS.values():
            shutil.rmtree(tmp_path / "indexes", ignore_errors=True)
            shutil.copytree(healthy / "own", tmp_path / "indexes" / "own")
            harm(tmp_path / "indexes" / path.relative_to(healthy))
            with opened(tmp_path / "indexes") as catalogue:
                with pytest.raises(Damaged, match=path.stem) as caught:
                    contents(catalogue.get("own"))
                assert caught.value.code == "collection_damaged"
                assert catalogue.quarantined().keys() == {"own"}


def test_a_block_is_checked_before_its_first_use(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    catalogue = open_catalogue()
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=64)
    random_numbers = np.random.default_rng(1)
    for i in range(4):
        own = random_numbers.normal(size=(14_000, 64)).astype(np.float32)
        write_documents(collection, [Document(f"d{i}", vectors=own)])
    seal(collection)
    (path,) = collection.folder.glob("segments/*/tokens.npy")
    catalogue.close()
    assert path.stat().st_size > 3 * BLOCK
    flip(path, last(path))
    collection = open_catalogue().get("c")
    with collection.snapshot() as snapshot:
        # The blocks that are whole serve.
        assert len(tokens(snapshot.views[0].part, 0, 1)) == 1
        with pytest.raises(Damaged, match=r"tokens\.npy.*block 3"):
            tokens(snapshot.views[0].part, 3, 4)
    query = np.ones((1, 64), np.float32)
    for exact in (True, False):
        with pytest.raises(Damaged, match=r"tokens\.npy"):
            search(collection, Query(vectors=query, exact=exact))


def outcome(folder: Path, name: str, expected: dict[str, Any]) -> bool:
    """Whether damage was noticed; if it was not, everything is as it was."""
    with opened(folder) as catalogue:
        try:
            found = contents(catalogue.get(name))
        except Damaged:
            return True
        assert found == expected[name]
        # Nor may it do harm later, when the damaged place is written over.
        collection = catalogue.get(name)
        try:
            write_documents(collection, [Document(f"n{i}", f"new {i} " * 50) for i in range(10)])
            delete_ids(collection, [f"d{i}" for i in range(10, 15)])
            seal(collection)
        except Damaged:
            return True
        ids = {d.id for d in collection.listing(None, 1_000)[0]}
        assert ids == {hit.id for hit in search(collection, Query(text="x", k=1_000, exact=True)).hits}
    return False


def test_flipped_bits_in_the_database(healthy: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    content = (healthy / "words" / "collection.sqlite").read_bytes()
    chance = random.Random(5)
    noticed = 0
    for number in range(100):
        # The first pages hold what SQLite itself trusts.
        position = chance.randrange(len(content) if number % 4 else 2 * 4096)
        shutil.rmtree(tmp_path / "indexes", ignore_errors=True)
        shutil.copytree(healthy / "words", tmp_path / "indexes" / "words")
        flip(tmp_path / "indexes" / "words" / "collection.sqlite", position, chance.randrange(8))
        noticed += outcome(tmp_path / "indexes", "words", expected)
    # The others fell into bytes that nothing uses.
    assert noticed > 50


TABLES = ["meta", "state", "documents", "live", "dead", "tail", "tasks", "task_errors"]


@pytest.mark.parametrize("table", TABLES)
def test_a_changed_value_in_any_table(healthy: Path, expected: dict[str, Any], tmp_path: Path, table: str) -> None:
    """A value that SQLite finds valid, in every column of every table."""
    with opened(healthy) as catalogue, catalogue.get("words").database.read() as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    for column in columns:
        if (table, column) in {("dead", "died"), ("tasks", "number"), ("task_errors", "task"), ("state", "one")}:
            # Nothing that a caller reads depends on these.
            continue
        shutil.rmtree(tmp_path / "indexes", ignore_errors=True)
        shutil.copytree(healthy / "words", tmp_path / "indexes" / "words")
        database = sqlite3.connect(tmp_path / "indexes" / "words" / "collection.sqlite")
        with database:
            row = "ORDER BY seq DESC LIMIT 1" if table == "documents" else "LIMIT 1"
            ((kind, value),) = database.execute(f"SELECT typeof({column}), {column} FROM {table} {row}").fetchall()
            changed = value + 1 if kind == "integer" else b"x" + (value or b"") if kind == "blob" else f"x{value or ''}"
            database.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {column} IS ?", (changed, value))
        database.close()
        with opened(tmp_path / "indexes") as catalogue, pytest.raises(Damaged):
            contents(catalogue.get("words"))


def crashed(open_catalogue: OpenCatalogue, folder: Path, target: Path) -> None:
    """The folder that a killed writer leaves: its files copied while it is open, the write-ahead log full."""
    with opened(folder) as catalogue:
        collection = catalogue.get("words")
        for i in range(60, 70):
            write_documents(collection, [document(i, own=False)])
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*-shm"))


def test_a_damaged_log_loses_nothing_silently(open_catalogue: OpenCatalogue, copied: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    crashed(open_catalogue, copied, image)
    log = image / "words" / "collection.sqlite-wal"
    size = log.stat().st_size
    assert size > 40_000
    with opened(copied) as catalogue:
        whole = contents(catalogue.get("words"))

    def noticed(harm: Harm) -> bool:
        shutil.rmtree(tmp_path / "indexes", ignore_errors=True)
        shutil.copytree(image, tmp_path / "indexes")
        harm(tmp_path / "indexes" / "words" / "collection.sqlite-wal")
        with opened(tmp_path / "indexes") as catalogue:
            try:
                assert contents(catalogue.get("words")) == whole
            except Damaged:
                return True
        return False

    assert not noticed(lambda path: None)
    frame = 24 + 4096
    frames = (size - 32) // frame
    assert noticed(lambda path: path.unlink())
    assert noticed(lambda path: path.write_bytes(b""))
    for count in (0, 1, frames // 2, frames - 1):
        cut = 32 + count * frame
        assert noticed(lambda path, cut=cut: path.write_bytes(path.read_bytes()[:cut]))  # type: ignore[misc]
    chance = random.Random(6)
    places = [32 + number * frame + chance.randrange(frame) for number in (0, frames // 2, frames - 2, frames - 1)]
    for place in [0, 20, *places, *(chance.randrange(32, size) for _ in range(20))]:
        assert noticed(lambda path, place=place: flip(path, place, 1))  # type: ignore[misc]


def test_the_mark_outlives_one_damaged_slot(copied: Path, expected: dict[str, Any]) -> None:
    mark = copied / "words" / "commits.mark"
    content = mark.read_bytes()
    for position in range(len(content)):
        mark.write_bytes(content)
        flip(mark, position)
        with opened(copied) as catalogue:
            assert catalogue.get("words").count() == len(expected["words"]["documents"])
    for broken in (b"", content[:31], bytes(64), None):
        mark.write_bytes(content)
        flip(mark, 3)
        flip(mark, 35)
        if broken is None:
            mark.unlink()
        elif broken != bytes(64):
            mark.write_bytes(broken)
        with opened(copied) as catalogue, pytest.raises(Damaged, match=r"commits\.mark"):
            catalogue.get("words")


def test_a_database_of_an_older_day_is_refused(copied: Path, tmp_path: Path) -> None:
    old = (copied / "words" / "collection.sqlite").read_bytes()
    with opened(copied) as catalogue:
        write_documents(catalogue.get("words"), [document(99, own=False)])
    (copied / "words" / "collection.sqlite").write_bytes(old)
    with opened(copied) as catalogue, pytest.raises(Damaged, match="acknowledged"):
        catalogue.get("words")


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused(copied: Path, number: int) -> None:
    with opened(copied) as catalogue, catalogue.get("words").database.write() as txn:
        put_meta(txn, {"format": number})
    with opened(copied) as catalogue:
        with pytest.raises(FormatTooNew, match=f"format {number}"):
            catalogue.get("words")
        assert catalogue.quarantined().keys() == {"words"}
        with pytest.raises(FormatTooNew):
            catalogue.begin_rebuild("words")


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("first_stage", lambda stage: {**stage, "encoding": {**stage["encoding"], "to come": 1}}),
        ("first_stage", lambda stage: {key: value for key, value in stage.items() if key != "sources"}),
        ("spec", lambda spec: {**spec, "to come": 1}),
        ("spec", lambda spec: {**spec, "vectors": {**spec["vectors"], "to come": 1}}),
        ("spec", lambda spec: {**spec, "similarity": "to come"}),
        ("spec", lambda spec: {**spec, "encoder": None}),
        ("spec", lambda spec: []),
        ("generation", lambda generation: {**generation, "to come": 1}),
        ("generation", lambda generation: {"number": 1}),
    ],
)
def test_what_another_version_wrote_is_refused_while_the_others_serve(
    copied: Path, key: str, changed: Callable[[Any], Any]
) -> None:
    with opened(copied) as catalogue, catalogue.get("words").database.write() as txn:
        put_meta(txn, {key: changed(get_meta(txn, key, "words"))})
    with opened(copied) as catalogue:
        catalogue.serve("http://here")
        assert catalogue.ready
        assert catalogue.quarantined().keys() == {"words"}
        with pytest.raises(FormatTooNew, match="another version"):
            catalogue.get("words")


def wait(catalogue: Catalogue, identifier: str) -> Any:
    deadline = time.monotonic() + 60
    while (task := catalogue.task(identifier)).state not in ENDED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return task


UNREADABLE = ["collection.sqlite", "commits.mark", "writer.lock", "manifest.json", "seqs.npy", "tokens.npy"]


@pytest.mark.parametrize("how", ["a folder", "a link to itself"])
def test_what_the_system_does_not_read_keeps_no_other_from_serving(
    healthy: Path, expected: dict[str, Any], open_catalogue: OpenCatalogue, tmp_path: Path, how: str
) -> None:
    """It stands for a bad disk, and for a backup that was put back by another user."""
    for file in (*UNREADABLE, "columns.npz", ".aliases.json"):
        folder = tmp_path / file
        shutil.copytree(healthy, folder)
        paths = [folder / file] if file == ".aliases.json" else list((folder / "own").rglob(file))
        for path in paths:
            path.unlink(missing_ok=True)
            path.mkdir() if how == "a folder" else path.symlink_to(path.name)
        with open_catalogue(folder, tasks=True) as catalogue:
            catalogue.serve("http://here")
            assert catalogue.ready
            assert contents(catalogue.get("other")) == expected["other"]
            if file == ".aliases.json":
                with pytest.raises(Damaged, match=file):
                    catalogue.aliases.all()
                assert [finding.file for finding in scrub_aliases(folder)] == [file]
                continue
            assert catalogue.quarantined().keys() == {"own"}
            assert file in catalogue.quarantined()["own"]
            assert "restore a backup" in catalogue.quarantined()["own"].lower()
            if file != "writer.lock":
                assert [True for finding in scrub(folder, "own") if file in finding.file]


# A caller's own vectors are found by these; nothing can make them anew.
IRREPLACEABLE = {*("raw.npy", "raw.offsets.npy", "sparse.npy", "sparse.offsets.npy", "seqs.npy", "manifest.json")}
# The same where they are kept only as they are stored.
STORED = {
    *("pooled.npy", "tokens.offsets.npy", "tokens.npy", "norms.npy", "sparse.npy", "sparse.offsets.npy", "seqs.npy"),
    "manifest.json",
}


@pytest.mark.parametrize("name", ["words", "own"])
@pytest.mark.parametrize("harm", ["middle", "missing"])
def test_a_damaged_collection_is_quarantined_and_rebuilt(
    healthy: Path, expected: dict[str, Any], open_catalogue: OpenCatalogue, tmp_path: Path, name: str, harm: str
) -> None:
    files = [file for file in segment_files(healthy / name) if name == "words" or file not in IRREPLACEABLE]
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(healthy / name, folder / name)
        shutil.copytree(healthy / "other", folder / "other")
        for path in sorted((folder / name / "segments").iterdir())[: 1 + number % 2]:
            HARMS[harm](path / file)
        with open_catalogue(folder, tasks=True) as catalogue:
            catalogue.serve("http://here")
            assert catalogue.ready
            assert catalogue.quarantined().keys() == {name}
            assert file in catalogue.quarantined()[name]
            info = catalogue.describe(name)
            assert (info.state, file in (info.error or "")) == ("quarantined", True)
            with pytest.raises(Damaged):
                catalogue.get(name)
            assert contents(catalogue.get("other")) == expected["other"]
            task = wait(catalogue, catalogue.begin_rebuild(name).id)
            assert (task.state, task.errors) == ("succeeded", ())
            assert (task.done, task.total) == (len(expected[name]["documents"]),) * 2
            assert catalogue.quarantined() == {}
            assert catalogue.describe(name).state == "ready"
            assert contents(catalogue.get(name)) == expected[name]
            write_documents(catalogue.get(name), [document(77, name == "own")])
            delete_ids(catalogue.get(name), ["d77"])
            generation = catalogue.describe(name).generation
        with open_catalogue(folder) as catalogue:
            assert contents(catalogue.get(name)) == expected[name]
            assert catalogue.describe(name).generation == generation


def test_a_damaged_tail_is_made_anew_by_the_encoder(
    copied: Path, expected: dict[str, Any], open_catalogue: OpenCatalogue
) -> None:
    (path,) = (copied / "words" / "tail").iterdir()
    path.unlink()
    with open_catalogue(copied, tasks=True) as catalogue:
        catalogue.serve("http://here")
        assert catalogue.quarantined().keys() == {"words"}
        assert wait(catalogue, catalogue.begin_rebuild("words").id).state == "succeeded"
        assert contents(catalogue.get("words")) == expected["words"]


def test_vectors_that_are_kept_only_as_they_are_stored_outlive_what_was_made_of_them(
    open_catalogue: OpenCatalogue, tmp_path: Path
) -> None:
    """Also where segments and tail have first stages of different widths; scrub says which files can be made anew."""
    with open_catalogue(tmp_path / "whole") as catalogue, pytest.MonkeyPatch.context() as patch:
        code_everything(patch)
        collection = catalogue.create("own", model=None, kind="multi_vector", dim=DIM, keep_vectors=False, sparse=GIVEN)
        fill(collection)
        recipe = RidgeRecipe(RidgeParameters(rank=4, samples=60, landmarks=30, probes=30))
        tokens = TokenVectors.join([given for i in range(30) if (given := document(i, True).vectors) is not None])
        stage = FirstStage(("fde", "pooled"), recipe.fit(Sample(tokens, tokens)), 50)
        restage(collection, StageChoice(stage, "learned", recipe.to_json(), {"documents": 30}))
        whole = contents(collection)["exact=True"]
    files = segment_files(tmp_path / "whole" / "own")
    assert {"encoded.npy", "encoded.index", "pooled.index", "columns.npz", *WORD_FILES, *SPARSE_FILES} | STORED == set(
        files
    )
    for file in files:
        folder = tmp_path / file
        shutil.copytree(tmp_path / "whole", folder)
        for path in (folder / "own" / "segments").iterdir():
            HARMS["middle"](path / file)
        assert {finding.remedy for finding in scrub(folder, "own")} == {RESTORE if file in STORED else REBUILD}
        with open_catalogue(folder, tasks=True) as catalogue:
            catalogue.serve("http://here")
            assert file in catalogue.quarantined()["own"]
            if file not in STORED:
                assert wait(catalogue, catalogue.begin_rebuild("own").id).state == "succeeded"
                assert contents(catalogue.get("own"))["exact=True"] == whole


@pytest.mark.parametrize("file", sorted(IRREPLACEABLE))
def test_lost_vectors_of_callers_are_not_made_up(copied: Path, open_catalogue: OpenCatalogue, file: str) -> None:
    for path in (copied / "own" / "segments").iterdir():
        HARMS["middle"](path / file)
    with open_catalogue(copied, tasks=True) as catalogue:
        catalogue.serve("http://here")
        try:
            task = wait(catalogue, catalogue.begin_rebuild("own").id)
        except Damaged:
            return
        assert task.state == "failed"
        assert task.errors[0].code == "collection_damaged"


def test_until_it_is_rebuilt_it_answers_no_search(
    copied: Path, expected: dict[str, Any], open_catalogue: OpenCatalogue
) -> None:
    for path in (copied / "words" / "segments").iterdir():
        HARMS["middle"](path / "encoded.npy")
    # Without handlers the task is kept for a server: the time between its acceptance and its end, stretched.
    with open_catalogue(copied) as catalogue:
        catalogue.serve("http://here")
        accepted = catalogue.begin_rebuild("words")
        collection = catalogue.get("words")
        for attempt in (
            lambda: search(collection, Query(text="x")),
            lambda: collection.count(),
            lambda: write_documents(collection, [document(1, own=False)]),
        ):
            with pytest.raises(Unavailable, match="rebuilt"):
                attempt()
        assert collection.get("d1").text == document(1, own=False).text
        assert catalogue.describe("words").state == "quarantined"
    # An accepted task is done after a restart, without being asked for again.
    with open_catalogue(copied, tasks=True) as catalogue:
        catalogue.serve("http://here")
        assert wait(catalogue, accepted.id).state == "succeeded"
        assert catalogue.quarantined() == {}
        assert contents(catalogue.get("words")) == expected["words"]


def test_a_collection_that_lost_its_empty_folders_opens(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    with open_catalogue() as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, [Document("a", "text")])
    for folder in ("segments", "tail"):
        (collection.folder / folder).rmdir()
    with open_catalogue() as catalogue:
        collection = catalogue.get("c")
        assert catalogue.describe("c").documents == 1
        seal(collection)
        assert [hit.id for hit in search(collection, Query(text="text")).hits] == ["a"]


def test_a_late_reader_does_not_stop_the_rebuild(copied: Path, open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(copied)
    old = catalogue.get("words")
    damage = Damaged("found by two readers at once")
    catalogue.quarantine(old, damage)
    assert catalogue.quarantined() == {"words": damage.message}
    with pytest.raises(Damaged, match="two readers"):
        catalogue.get("words")
    task = catalogue.begin_rebuild("words")
    rebuilding = catalogue.get("words")
    for late in (old, rebuilding):
        catalogue.quarantine(late, damage)
    assert catalogue.get("words") is rebuilding
    assert catalogue.task(task.id).state == "queued"
