"""Tuning is held to what the tuned collection then finds, and to exact search."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue
from small_codes import code_everything

from app.collection.collection import Collection
from app.encoders.turns import TurnsSpec
from app.errors import Conflict, Invalid
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.main import HANDLERS
from app.search import Query, search
from app.settings import DeterministicModel
from app.tasks.tasks import Running, Tasks
from app.tuning.options import Option
from app.tuning.trials import WIDTHS
from app.tuning.tune import Goal, Tried, best_of, read_queries, to_params, tune
from app.types import F32, Document, Turn

DIM = 12
COUNT = 300


def vectors(seed: int, mean: float = 0.0) -> F32:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(seed % 23 + 1_000).standard_normal(DIM)
    return (mean + centre + 0.9 * random.standard_normal((5, DIM))).astype(np.float32)


def filled(collection: Collection, mean: float = 0.0) -> Collection:
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i, mean)) for i in range(COUNT)])
    return collection


@pytest.fixture
def collection(open_catalogue: OpenCatalogue) -> Collection:
    return filled(open_catalogue().create("c", model=None, kind="multi_vector", dim=DIM))


def queries(count: int = 25, mean: float = 0.0) -> list[Query]:
    return [Query(vectors=vectors(10_000 + i, mean)[:3]) for i in range(count)]


def share(collection: Collection, asked: list[Query], k: int, width: int | None = None) -> float:
    """Recall by its definition, from the hits of both paths."""
    shares = []
    for query in asked:
        exact, quick = (
            {hit.id for hit in search(collection, replace(query, k=k, exact=path, candidates=width)).hits}
            for path in (True, False)
        )
        shares.append(len(exact & quick) / len(exact))
    return float(np.mean(shares))


def test_what_it_chose_reaches_the_goal_at_the_least_width(collection: Collection) -> None:
    report = tune(collection, Goal(0.93, k=5), queries())
    stage = collection.published.stage
    measured = report["measured"]
    assert measured["reached"]
    assert stage.width == measured["width"] < COUNT / 4, "so wide that nothing had to be found"
    assert share(collection, queries(), 5) == pytest.approx(measured["recall"])
    assert measured["recall"] >= 0.93
    narrower = [width for width in WIDTHS if width < stage.width]
    assert not narrower or share(collection, queries(), 5, narrower[-1]) < 0.93


def test_the_generation_keeps_the_report_and_the_recipe(collection: Collection) -> None:
    before = collection.published.generation.number
    report = tune(collection, Goal(0.9), queries(8))
    generation = collection.published.generation
    assert generation.number > before
    assert generation.stage is not None
    assert dict(generation.stage.report) == report
    names = [one["name"] for one in report["tried"]]
    assert report["chosen"] in names
    assert {"pooled", "muvera", "muvera, centred"} < set(names)
    assert any(name.startswith("ridge") for name in names)
    chosen = next(one for one in report["tried"] if one["name"] == report["chosen"])
    assert chosen["ms"] == min(one["ms"] for one in report["tried"] if one["reaches"] and one["fits"])


def test_the_memory_asked_for_bounds_the_choice(collection: Collection) -> None:
    free = tune(collection, Goal(0.9), queries(8))
    sizes = sorted({one["bytes"] for one in free["tried"]})
    bound = int(np.ceil(sizes[0]))
    report = tune(collection, Goal(0.9, max_bytes_per_document=bound), queries(8))
    chosen = next(one for one in report["tried"] if one["name"] == report["chosen"])
    assert chosen["bytes"] <= bound < sizes[-1]
    impossible = tune(collection, Goal(0.9, max_bytes_per_document=1), queries(8))
    assert not any(one["fits"] for one in impossible["tried"])
    chosen = next(one for one in impossible["tried"] if one["name"] == impossible["chosen"])
    assert chosen["bytes"] == sizes[0]


def test_a_drawn_query_leaves_its_own_document_out(collection: Collection) -> None:
    report = tune(collection, Goal(0.8, k=3), 30)
    assert (report["drawn"], report["queries"], report["passages"]) == (True, 30, COUNT)
    # Alone at width k the own document would take one of three places, so recall could not reach two thirds by itself.
    assert report["measured"]["recall"] >= 0.8


def test_vectors_that_share_a_large_mean_are_coped_with(open_catalogue: OpenCatalogue) -> None:
    # In float32: codes would spend their bits on the mean, and what is left between the vectors would be theirs.
    made = open_catalogue().create("m", model=None, kind="multi_vector", dim=DIM, precision="float32")
    collection = filled(made, mean=10.0)
    asked = queries(mean=10.0)
    report = tune(collection, Goal(0.9, k=5), asked)
    by_name = {one["name"]: one for one in report["tried"]}
    assert by_name["muvera, centred"]["width"] < by_name["muvera"]["width"]
    assert report["measured"]["reached"]
    assert share(collection, asked, 5) >= 0.9


def test_a_dense_collection_is_only_measured(open_catalogue: OpenCatalogue) -> None:
    collection = open_catalogue().create("d", model=None, kind="dense", dim=DIM)
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i)[:1]) for i in range(60)])
    report = tune(collection, Goal(1.0), 10)
    assert report["tried"] == []
    assert (report["chosen"], report["measured"]["recall"]) == ("pooled", 1.0)
    assert collection.published.stage.width == report["measured"]["width"] <= 20


def test_a_large_dense_collection_keeps_its_graph_unless_codes_are_measured_to_be_faster(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_everything(monkeypatch)
    collection = open_catalogue().create("d", model=None, kind="dense", dim=DIM)
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i)[:1]) for i in range(300)])
    seal(collection)
    assert [dict(view.part.kinds) for view in collection.published.segments] == [{"pooled": "hnsw"}]
    report = tune(collection, Goal(0.9), 10)
    measured = {one["index"]: one for one in report["indexes"]}
    assert len(measured) == 2
    assert measured["hnsw"]["reached"]
    assert report["measured"]["ms"] == min(one["ms"] for one in measured.values() if one["reached"])
    assert [dict(view.part.kinds) for view in collection.published.segments] == [
        {"pooled": report["measured"]["index"]}
    ]


def test_as_a_task_it_survives_its_parameters(collection: Collection, open_catalogue: OpenCatalogue) -> None:
    tasks = Tasks(collection, HANDLERS)
    goal = Goal(0.9, k=4)
    task = tasks.submit("tune", to_params(goal, queries(6)))
    HANDLERS["tune"](collection, Running(tasks, 1, task))
    ended = tasks.get(task.id)
    assert ended.result is not None
    assert ended.result["goal"] == {
        "target_recall": 0.9,
        "k": 4,
        "max_bytes_per_document": None,
        "max_memory_per_document": None,
    }
    assert ended.result["queries"] == 6


def test_conversations_among_its_queries_survive_as_parameters(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(models={"words": DeterministicModel(type="deterministic", dim=DIM)})
    talk = (Turn("user", "red fox"), Turn("system", "old owl"))
    spec = TurnsSpec(last=1)
    collection = catalogue.create("told", model="words", kind="multi_vector", turns=spec)
    asked = [Query(text=spec.heard(talk), turns=talk), Query(text="plain")]
    written = json.loads(json.dumps(to_params(Goal(0.9), asked)))["queries"]
    assert read_queries(collection, written) == asked
    with pytest.raises(Invalid, match="has no turns"):
        read_queries(catalogue.create("plain", model="words", kind="multi_vector"), written)


class Stop(Exception):
    pass


def test_stopped_it_leaves_the_former_generation(collection: Collection) -> None:
    tune(collection, Goal(0.5), 3)
    before = collection.published.generation
    calls: list[str] = []

    def tell(phase: str, done: int, total: int) -> None:
        calls.append(phase)
        if phase == "building":
            raise Stop

    with pytest.raises(Stop):
        tune(collection, Goal(0.9), queries(4), tell=tell)
    assert calls[-1] == "building"
    assert collection.published.generation == before
    assert len(search(collection, queries(1)[0]).hits) == 10


def test_nothing_can_be_tuned_without_documents(open_catalogue: OpenCatalogue) -> None:
    empty = open_catalogue().create("e", model=None, kind="multi_vector", dim=DIM)
    with pytest.raises(Conflict, match="no documents"):
        tune(empty, Goal(0.9), 3)
    with pytest.raises(Invalid, match="target_recall"):
        Goal(0.0)


def tried(name: str, **values: Any) -> tuple[Tried, Option]:
    given = {"dims": 1, "bytes": 10.0, "width": 10, "recall": 0.9, "ms": 1.0, "reaches": True, "fits": True, **values}
    return Tried(name, **given), Option(name, None, None, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ([tried("a", ms=2.0), tried("b", ms=1.0), tried("c", ms=0.1, reaches=False)], "b"),
        ([tried("a", ms=2.0), tried("b", ms=1.0, fits=False)], "a"),
        ([tried("a", reaches=False, recall=0.5), tried("b", reaches=False, recall=0.6)], "b"),
        ([tried("a", fits=False, bytes=20.0), tried("b", fits=False, bytes=15.0, reaches=False)], "b"),
    ],
)
def test_the_fastest_that_reaches_and_fits(options: list[tuple[Tried, Option]], best: str) -> None:
    assert best_of(options)[0].name == best
