"""The first stage of a generation: learned, kept, swapped in one step, and whole again after anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import ranking
from made import OpenCatalogue

from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, Known, StageChoice
from app.collection.part import tokens
from app.encodings.muvera import MuveraParameters
from app.encodings.protocol import Sample
from app.encodings.recipes import MuveraRecipe, RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.errors import Damaged, Invalid
from app.indexing.fitting import learn
from app.indexing.restaging import restage
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, patch_document, write_documents
from app.search import Query, search
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, Document, TokenVectors

DIM = 8
RIDGE = RidgeRecipe(RidgeParameters(rank=8, samples=120, landmarks=60, probes=60))


class Stopped(Exception):
    pass


def vectors(seed: int) -> F32:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(seed % 7 + 1_000).standard_normal(DIM)
    return (centre + 0.8 * random.standard_normal((4, DIM))).astype(np.float32)


def fill(collection: Collection, start: int, stop: int) -> None:
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i), metadata={"n": i}) for i in range(start, stop)])


def learned(width: int = 15, recipe: Any = RIDGE, **more: Any) -> StageChoice:
    documents = TokenVectors.join([vectors(i) for i in range(100)])
    encoding = recipe.fit(Sample(documents, documents))
    stage = FirstStage(("fde", "pooled"), encoding, width)
    return StageChoice(stage, "tried", recipe.to_json(), {"documents": 100}, {"recall": 0.9}, **more)


def found(collection: Collection, seed: int = 5, **options: Any) -> list[tuple[str, float]]:
    query = vectors(seed) + np.float32(0.1)
    return [(hit.id, hit.score) for hit in search(collection, Query(vectors=query, **options)).hits]


def all_found(collection: Collection, **options: Any) -> list[Any]:
    return [found(collection, seed, **options) for seed in range(20)]


def files(collection: Collection) -> set[str]:
    return {path.name for path in (collection.folder / "encodings").glob("*")}


@pytest.fixture
def collection(open_catalogue: OpenCatalogue) -> Collection:
    catalogue = open_catalogue()
    made = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    for start in range(0, 120, 40):
        fill(made, start, start + 40)
        seal(made)
    return made


def reopened(open_catalogue: OpenCatalogue, collection: Collection, folder: Path) -> Collection:
    """A copy of the collection, opened by another catalogue."""
    shutil.copytree(collection.folder, folder / "c")
    (folder / "c" / "writer.lock").unlink()
    return open_catalogue(folder).get("c")


def test_every_segment_is_made_anew_and_found_by_the_new_stage(collection: Collection) -> None:
    exact = all_found(collection, exact=True)
    before = {segment.name for segment in collection.published.generation.segments}
    told: list[tuple[int, int]] = []
    restage(collection, learned(), progress=lambda done, total: told.append((done, total)))
    now = collection.published
    assert told == [(40, 120), (80, 120), (120, 120)]
    assert not before & {segment.name for segment in now.generation.segments}
    assert {path.name for path in (collection.folder / "segments").iterdir()} == {
        segment.name for segment in now.generation.segments
    }
    assert now.generation.reason == "tried"
    assert now.generation.stage is not None
    assert now.generation.stage.report == {"recall": 0.9}
    encoding = now.stage.encoding
    assert encoding is not None
    for view in now.segments:
        expected = encoding.encode_documents(tokens(view.part, 0, view.part.size)).astype(np.float16)
        rows = np.arange(view.part.size)
        stored = view.part.passages(rows).flat("encoded")
        assert stored is not None
        assert np.array_equal(stored, expected.astype(np.float32))
    assert all_found(collection, exact=True) == exact
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(all_found(collection), exact, strict=True)]
    assert np.mean(shares) > 0.85


def arrays(collection: Collection) -> list[dict[str, Any]]:
    return [
        {
            name: np.load(view.part.folder.path / name)
            for name in ("encoded.npy", "tokens.npy", "pooled.npy", "seqs.npy")
        }
        for view in collection.published.segments
    ]


def test_what_no_stage_decides_is_linked_where_all_rows_stand(collection: Collection) -> None:
    delete_ids(collection, ["d45"])
    places = [(view.part.folder.path / "tokens.npy").stat().st_ino for view in collection.published.segments]
    choice = learned()
    restage(collection, choice)
    after = [(view.part.folder.path / "tokens.npy").stat().st_ino for view in collection.published.segments]
    assert [old == new for old, new in zip(places, after, strict=True)] == [True, False, True]
    assert choice.stage.encoding is not None
    for view, stored in zip(collection.published.segments, arrays(collection), strict=True):
        expected = choice.stage.encoding.encode_documents(tokens(view.part, 0, view.part.size))
        assert stored["encoded.npy"].tobytes() == expected.astype(stored["encoded.npy"].dtype).tobytes()


def test_what_a_fit_has_met_is_taken_where_the_segment_is_the_same(collection: Collection) -> None:
    choice = learned()
    assert choice.stage.encoding is not None
    first, second, third = (view.part for view in collection.published.segments)
    made_up = np.full((80, choice.stage.encoding.encoded_dim), 0.5, np.float32)
    # Of the second, one row is not among them; the third was another segment then.
    seqs = np.concatenate([first.seqs, second.seqs[1:], third.seqs[:1]])
    known = Known.sorted(seqs, made_up, frozenset({first.record.name, second.record.name}))
    restage(collection, replace(choice, known=known))
    assert [bool((stored["encoded.npy"] == 0.5).all()) for stored in arrays(collection)] == [True, False, False]


def test_a_learned_stage_is_that_of_encoding_the_stored_vectors(collection: Collection) -> None:
    made = learn(collection, RIDGE)
    assert made.known is not None
    kept = arrays(collection)
    restage(collection, replace(made, known=None))
    for before, after in zip(kept, arrays(collection), strict=True):
        for name, array in before.items():
            assert array.tobytes() == after[name].tobytes(), name


def test_tail_and_segments_each_have_their_width(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    restage(collection, learned(width=15))
    # Better than all that is sealed, by a stage whose scores are another's.
    query = vectors(5) + np.float32(0.1)
    write_documents(collection, [Document(f"t{i}", vectors=query) for i in range(6)])
    from app.query import reaching

    asked: list[list[int]] = []
    original: Callable[..., Any] = reaching.rank

    def counting(views: Any, rows: Any, *rest: Any) -> Any:
        asked.append([len(part) for part in rows])
        return original(views, rows, *rest)

    monkeypatch.setattr(reaching, "rank", counting)
    assert [identifier for identifier, _ in found(collection, k=6)] == [f"t{i}" for i in range(6)]
    assert (sum(asked[-1][:-1]), asked[-1][-1]) == (15, 6)
    fill(collection, 200, 600)
    found(collection, candidates=31)
    assert (sum(asked[-1][:-1]), asked[-1][-1]) == (31, 31)
    found(collection)
    assert (sum(asked[-1][:-1]), asked[-1][-1]) == (15, collection.stage.width)


def test_a_selective_filter_stays_exact(collection: Collection) -> None:
    restage(collection, learned(width=10))
    fill(collection, 120, 150)
    query = vectors(5) + np.float32(0.1)
    from app.filters import parse

    for low, high in ((115, 125), (30, 42), (0, 3), (138, 150)):
        condition = parse({"and": [{"n": {"gte": low}}, {"n": {"lt": high}}]})
        got = search(collection, Query(vectors=query, k=10, filter=condition)).hits
        if high - low <= 10:
            truth = ranking([(f"d{i}", vectors(i)) for i in range(low, high)], query, 10, collection.spec)
            assert [(hit.id, hit.score) for hit in got] == truth
        assert len(got) == min(10, high - low)


def test_later_seals_and_merges_keep_to_it(collection: Collection) -> None:
    restage(collection, learned(width=1000))
    fill(collection, 120, 160)
    seal(collection)
    while merge(collection):
        pass
    now = collection.published
    assert len(now.segments) == 1
    assert now.generation.stage is not None
    encoding = now.stage.encoding
    assert encoding is not None
    (view,) = now.segments
    assert view.part.size == 160
    stored = view.part.passages(np.arange(160)).flat("encoded")
    expected = encoding.encode_documents(tokens(view.part, 0, 160)).astype(np.float16)
    assert stored is not None
    assert np.array_equal(stored, expected.astype(np.float32))


def test_a_document_whose_vectors_stay_goes_back_to_the_tail_encoded_for_it(collection: Collection) -> None:
    restage(collection, learned())
    patch_document(collection, "d7", Patch(metadata={"n": -7}))
    tail = collection.published.tail.part
    encoding = collection.stage.encoding
    assert encoding is not None
    stored = tail.passages(np.arange(tail.size)).flat("encoded")
    expected = encoding.encode_documents(tokens(tail, 0, tail.size)).astype(np.float16).astype(np.float32)
    assert stored is not None
    assert np.array_equal(stored, expected)


def test_reopened_it_ranks_as_before(collection: Collection, open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    restage(collection, learned())
    fill(collection, 120, 130)
    again = reopened(open_catalogue, collection, tmp_path / "copy")
    assert all_found(again) == all_found(collection)
    assert again.published.generation == collection.published.generation


def test_what_was_fitted_goes_when_another_takes_its_place(collection: Collection) -> None:
    restage(collection, learned())
    (first,) = files(collection)
    restage(collection, learned(recipe=MuveraRecipe(MuveraParameters(4, 3, 4), centred=True)))
    (second,) = files(collection)
    assert first != second
    restage(collection, learned(recipe=MuveraRecipe(MuveraParameters(4, 3, 4))))
    assert files(collection) == set()
    assert len(found(collection)) == 10


@pytest.mark.parametrize("step", [1, 2, 3])
def test_given_up_in_the_middle_nothing_has_changed(collection: Collection, step: int) -> None:
    restage(collection, learned())
    before = all_found(collection), collection.published.generation, files(collection)
    left = iter(range(step))

    def check() -> None:
        if next(left, None) is None:
            raise Stopped

    if step == 3:
        delete_ids(collection, ["d1"])
        before = all_found(collection), collection.published.generation, files(collection)
    with pytest.raises(Stopped):
        restage(collection, learned(width=9), check=check, progress=lambda done, total: check())
    assert (all_found(collection), collection.published.generation, files(collection)) == before
    named = {segment.name for segment in collection.published.generation.segments}
    assert {path.name for path in (collection.folder / "segments").iterdir()} == named


def test_a_stop_before_the_transaction_leaves_the_former_generation(
    collection: Collection, open_catalogue: OpenCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restage(collection, learned())
    before = all_found(collection), collection.published.generation, files(collection)
    kept: list[Path] = []

    def stop(*_: Any, **__: Any) -> None:
        # As the disk is at this moment, with the new segments and the new file on it, and none of them named.
        shutil.copytree(collection.folder, tmp_path / "copy" / "c")
        kept.append(tmp_path / "copy" / "c")
        raise Stopped

    monkeypatch.setattr(collection, "swap", stop)
    with pytest.raises(Stopped):
        restage(collection, learned(width=9))
    assert len(list((kept[0] / "encodings").iterdir())) == 2
    assert len(list((kept[0] / "segments").iterdir())) == 6
    (kept[0] / "writer.lock").unlink()
    again = open_catalogue(tmp_path / "copy").get("c")
    assert (all_found(again), again.published.generation, files(again)) == before
    assert len(list((again.folder / "segments").iterdir())) == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_of_the_file_is_noticed_and_a_rebuild_heals_it(
    collection: Collection, open_catalogue: OpenCatalogue, tmp_path: Path, damage: str
) -> None:
    restage(collection, learned())
    fill(collection, 120, 130)
    exact = all_found(collection, exact=True)
    folder = tmp_path / "copy"
    shutil.copytree(collection.folder, folder / "c")
    (folder / "c" / "writer.lock").unlink()
    (path,) = (folder / "c" / "encodings").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    catalogue = open_catalogue(folder, tasks=True)
    with pytest.raises(Damaged, match=path.name):
        catalogue.get("c")
    task = catalogue.begin_rebuild("c")
    again = catalogue.get("c")
    wait(lambda: catalogue.task(task.id).state == "succeeded")
    assert all_found(again, exact=True) == exact
    assert len(found(again)) == 10
    assert files(again) <= {getattr(again.published.generation.stage, "file", None)}


def wait(done: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_rebuild_keeps_it(collection: Collection) -> None:
    restage(collection, learned())
    before = all_found(collection), collection.published.generation.stage, files(collection)
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, 1, tasks.submit("rebuild", {})))
    assert (all_found(collection), collection.published.generation.stage, files(collection)) == before


def test_what_is_sealed_in_the_meantime_is_made_anew_too(open_catalogue: OpenCatalogue) -> None:
    collection = open_catalogue(seal_documents=20).create("c", model=None, kind="multi_vector", dim=DIM)
    fill(collection, 0, 40)
    seal(collection)

    def write_more(done: int, total: int) -> None:
        if done == 40:
            fill(collection, 40, 65)

    restage(collection, learned(), progress=write_more)
    now = collection.published
    assert sum(view.part.size for view in now.segments) == 65
    assert {len(view.part.passages(np.array([0])).flat("encoded")[0]) for view in now.segments} == {
        now.stage.encoding.encoded_dim
    }  # type: ignore
    assert len(found(collection, k=65)) == 65


def test_a_segment_without_a_standing_row_goes(collection: Collection) -> None:
    delete_ids(collection, [f"d{i}" for i in range(40)])
    restage(collection, learned())
    assert [view.part.size for view in collection.published.segments] == [40, 40]


def test_pooled_alone_is_a_stage(collection: Collection) -> None:
    restage(collection, StageChoice(FirstStage(("pooled",), None, 30), "pooled finds enough"))
    assert len(found(collection)) == 10
    seal(collection)
    fill(collection, 120, 140)
    seal(collection)
    assert len(found(collection, k=140, candidates=140)) == 140


@pytest.mark.parametrize(
    "stage",
    [
        FirstStage((), None, 10),
        FirstStage(("fde",), None, 10),
        FirstStage(("pooled",), None, 0),
        FirstStage(("pooled", "pooled"), None, 5),
    ],
)
def test_a_stage_that_cannot_be(collection: Collection, stage: FirstStage) -> None:
    with pytest.raises(Invalid):
        restage(collection, StageChoice(stage, "x"))
    other = learned().stage.encoding
    with pytest.raises(Invalid):
        restage(collection, StageChoice(FirstStage(("pooled",), other, 5), "x"))
    assert files(collection) == set()


def test_a_dense_collection_has_its_vectors_alone(open_catalogue: OpenCatalogue) -> None:
    collection = open_catalogue().create("c", model=None, kind="dense", dim=DIM)
    with pytest.raises(Invalid, match="dimensions"):
        restage(collection, learned())
