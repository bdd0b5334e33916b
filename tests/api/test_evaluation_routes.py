"""Judged queries over HTTP, and reports of what is measured by them: the truth of each figure, and that nothing of the
collection moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import numpy as np
import pytest

from app.evaluation import compare
from app.search import search_encoded

WORDS = ["wren", "owl", "heron", "finch", "crane", "stork", "robin", "eagle"]
MODES = [{"name": mode, "search": {"mode": mode}} for mode in ("lexical", "hybrid", "semantic")]


@pytest.fixture
def birds(create: Callable[..., str], client: httpx.Client) -> str:
    """A document for each bird, which says its name, and one in which all stand."""
    address = create()
    documents = [
        {
            "id": word,
            "title": word.title(),
            "text": f"the {word} sings at dawn over water",
            "metadata": {"length": len(word)},
        }
        for word in WORDS
    ] + [{"id": "all", "text": " ".join(WORDS), "metadata": {"tags": ["a", "b"]}}]
    assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    return address


def judged(words: list[str] = WORDS) -> list[dict[str, Any]]:
    return [{"id": f"q-{word}", "query": f"which {word} sings", "grades": {word: 2, "all": 1}} for word in words]


def report(client: httpx.Client, address: str, **body: Any) -> Any:
    answer = client.post(f"{address}/evaluate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_set_is_kept_read_again_changed_and_forgotten(client: httpx.Client, birds: str) -> None:
    address = f"{birds}/judgements/people"
    made = client.put(address, json={"queries": judged()})
    assert (made.status_code, made.json()) == (201, {"name": "people", "queries": 8, "grades": 16, "relevant": 16})
    assert client.get(address).json() == {"queries": judged()}
    grades = [
        {"query": "q-wren", "document": "owl", "grade": 0},
        {"query": "q-wren", "document": "all", "grade": None},
        {"query": "q-new", "text": "a new one", "document": "owl", "grade": 1},
        {"query": "q-new", "document": "owl", "grade": 3},
    ]
    added = client.post(f"{address}/grades", json={"grades": grades})
    assert (added.status_code, added.json()) == (200, {"name": "people", "queries": 9, "grades": 17, "relevant": 16})
    found = {one["id"]: one for one in client.get(address).json()["queries"]}
    assert found["q-wren"]["grades"] == {"wren": 2, "owl": 0}
    assert found["q-new"] == {"id": "q-new", "query": "a new one", "grades": {"owl": 3}}
    assert client.put(address, json={"queries": judged(["owl"])}).status_code == 200
    assert client.get(f"{birds}/judgements").json() == {
        "judgements": [{"name": "people", "queries": 1, "grades": 2, "relevant": 2}]
    }
    assert client.delete(address).status_code == 204
    for method in ("GET", "DELETE"):
        gone = client.request(method, address)
        assert (gone.status_code, gone.json()["code"]) == (404, "judgements_not_found")
    assert client.get(f"{birds}/judgements").json() == {"judgements": []}


def test_a_set_survives_a_restart_and_comes_back_with_a_snapshot(serve: Callable[..., Any], tmp_path: Path) -> None:
    queries = [{"id": "é/1", "vectors": [[0.25, -1.5], [1.0, 0.0]], "grades": {"x" * 500: 1000}}]
    for again in (False, True):
        running = serve(indexes=tmp_path / "indexes")
        with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
            if not again:
                encoder = {"model": None, "kind": "multi_vector", "dim": 2}
                client.post("/v1/collections", json={"name": "own", "encoder": encoder})
                assert client.put("/v1/collections/own/judgements/a.b-1", json={"queries": queries}).status_code == 201
            assert client.get("/v1/collections/own/judgements/a.b-1").json() == {"queries": queries}
            if again:
                task = client.post("/v1/collections/own/snapshots").json()["id"]
                while client.get(f"/v1/tasks/{task}").json()["finished"] is None:
                    pass
                client.delete("/v1/collections/own/judgements/a.b-1")
                made = {"snapshot": task, "replace": True}
                assert client.post("/v1/collections/own/restore", json=made).status_code == 200
                assert client.get("/v1/collections/own/judgements/a.b-1").json() == {"queries": queries}
        running.stop()


def test_a_query_without_a_grade_is_left_out_of_means(client: httpx.Client, birds: str) -> None:
    nothing = {"id": "q-none", "query": "which wren sings", "grades": {}}
    settings, measures = MODES[:2], ["RR@10", "P@1"]
    alone = report(client, birds, queries=judged(), settings=settings, measures=measures)
    found = report(client, birds, queries=[*judged(), nothing], settings=settings, measures=measures, per_query=True)
    assert (found["queries"], found["ungraded"], alone["ungraded"]) == (9, 1, 0)
    for one, other in zip(found["settings"], alone["settings"], strict=True):
        assert (one["measures"], one["unjudged"]) == (other["measures"], other["unjudged"])
    last = found["per_query"][-1]["settings"]["lexical"]
    assert last["values"] == {}
    empty = report(client, birds, queries=[nothing], settings=settings, measures=measures)
    assert [one["measures"] for one in empty["settings"]] == [{}, {}]
    assert (empty["differences"], empty["ungraded"], len(empty["agreement"])) == ([], 1, 1)


def test_figures_are_those_of_the_searches(client: httpx.Client, birds: str) -> None:
    """Of each query and setting, by asking the same searches one by one."""
    client.put(f"{birds}/judgements/people", json={"queries": judged()})
    settings = [
        *MODES[:1],
        {"name": "long", "search": {"mode": "lexical", "filter": {"length": {"gte": 5}}}},
        {"name": "exact", "search": {"mode": "semantic", "exact": True}},
    ]
    found = report(client, birds, judgements="people", settings=settings, measures=["RR@10", "P@1"], per_query=True)
    assert (found["queries"], found["depth"], found.get("drawn")) == (8, 10, None)
    assert [one["id"] for one in found["per_query"]] == [one["id"] for one in judged()]
    for place, setting in enumerate(settings):
        ranks = {}
        for one in judged():
            hits = client.post(f"{birds}/search", json={"query": one["query"], **setting["search"]}).json()["hits"]
            ids = [hit["id"] for hit in hits]
            ranks[one["id"]] = next((1 / rank for rank, id in enumerate(ids, 1) if id in one["grades"]), 0.0)
        own = found["settings"][place]
        assert own["name"] == setting["name"]
        by_query = {one["id"]: one["settings"][setting["name"]]["values"] for one in found["per_query"]}
        assert {query: values["RR@10"] for query, values in by_query.items()} == pytest.approx(ranks)
        assert own["measures"]["RR@10"]["mean"] == pytest.approx(fmean(ranks.values()))
        assert own["measures"]["RR@10"]["low"] <= own["measures"]["RR@10"]["mean"] <= own["measures"]["RR@10"]["high"]
    # Without the short names the documents of three birds are out of reach, all of the words are not.
    moved = {one["id"]: one["settings"]["long"] for one in found["per_query"]}
    lost = moved["q-owl"]["lost"]
    assert {"document": "owl", "rank": 1, "grade": 2} in lost
    assert moved["q-heron"]["gained"] == []


def test_an_improvement_is_found_and_a_difference_that_is_none_is_not(client: httpx.Client, birds: str) -> None:
    worse = {"name": "worse", "search": {"mode": "lexical", "filter": {"length": {"lt": 5}}}}
    same = {"name": "same", "search": {"mode": "lexical", "candidates": 50}}
    found = report(client, birds, queries=judged(), settings=[worse, MODES[0], same], measures=["nDCG@10"])
    pairs = {(one["setting"], one["than"]): one for one in found["differences"]}
    assert list(pairs) == [("worse", "lexical"), ("worse", "same"), ("lexical", "same")]
    better = pairs["worse", "lexical"]
    assert better["mean"] > 0
    assert better["low"] > 0
    # All eight queries are better; 2 of 256 orders of signs are as far from 0. Of three pairs this is the least likely.
    assert better["p"] == pytest.approx(2 / 256)
    assert better["p_corrected"] == pytest.approx(6 / 256)
    assert better["different"]
    nothing = pairs["lexical", "same"]
    assert (nothing["mean"], nothing["p_corrected"], nothing["different"]) == (0, 1, False)
    few = report(client, birds, queries=judged(WORDS[:5]), settings=[worse, MODES[0]], measures=["nDCG@10"])
    # Five may be chance: 2 of 32.
    assert [(one["p"], one["different"]) for one in few["differences"]] == [(pytest.approx(2 / 32), False)]
    agreement = {(one["setting"], one["than"]): one for one in found["agreement"]}
    assert agreement["lexical", "same"]["overlap"] == pytest.approx(1)
    assert agreement["worse", "lexical"]["shared"] < 1


def test_what_nobody_judged_is_told(client: httpx.Client, birds: str) -> None:
    (lexical,) = report(client, birds, queries=judged(), settings=MODES[:1])["settings"]
    # A bird's own document and the one of all: what is found by its name is judged, by `sings` seven are not.
    assert lexical["unjudged"] == pytest.approx(7 / 9)


def test_known_items_are_drawn_and_said_to_be(client: httpx.Client, birds: str) -> None:
    for piece in ("title", "sentence", "keywords"):
        asked = {"known_items": {"piece": piece, "count": 5}, "settings": MODES[:1], "measures": ["RR@10"]}
        found = report(client, birds, **asked, per_query=True)
        assert (found["queries"], found["drawn"]) == (5, piece)
        assert found["settings"][0]["measures"]["RR@10"]["mean"] > 0.3
        assert found["per_query"] == report(client, birds, **asked, per_query=True)["per_query"]
        for one in found["per_query"]:
            whole = client.get(f"{birds}/documents/{one['id']}").json()
            words = one["text"].lower().split()
            assert all(word in f"{whole['title']} {whole['text']}".lower() for word in words)


@pytest.fixture(scope="module")
def classed(client: httpx.Client) -> tuple[str, np.ndarray, list[Any]]:
    """60 vectors that are not normalised, of four classes whose values are of four types; every tenth has none, one is
    alone in its class."""
    random = np.random.default_rng(3)
    values: list[Any] = ["1", 1, True, 2.5]
    labels = [None if i % 10 == 9 else "alone" if i == 8 else values[i % 4] for i in range(60)]
    centres = random.normal(size=(4, 6))
    vectors = np.array([centres[i % 4] + random.normal(size=6) for i in range(60)], np.float32)
    encoder = {"model": None, "kind": "dense", "dim": 6}
    for name, similarity in (("classed", "inner_product"), ("classed-cosine", "cosine")):
        body = {"name": name, "encoder": encoder, "similarity": similarity, "precision": "float32"}
        assert client.post("/v1/collections", json=body).status_code == 201
        for start in range(0, 60, 20):
            documents = [
                {
                    "id": f"d{i}",
                    "vector": vectors[i].tolist(),
                    "metadata": {} if labels[i] is None else {"kind": labels[i]},
                }
                for i in range(start, start + 20)
            ]
            assert client.post(f"/v1/collections/{name}/documents", json={"documents": documents}).status_code == 200
    return "/v1/collections/classed", vectors, labels


CLASS_MEASURES = ["NN", "FT", "ST", "E@5", "DCG", "AP"]


def of_classes(scores: np.ndarray, labels: list[Any], own: int) -> list[float]:
    """The second implementation: of one query, over its whole list, by plain loops."""
    order = sorted((i for i in range(len(labels)) if i != own), key=lambda i: (-scores[i], f"d{i}".encode()))
    hits = [labels[i] is not None and (type(labels[i]), labels[i]) == (type(labels[own]), labels[own]) for i in order]
    count = sum(hits)
    precise, whole = sum(hits[:5]) / 5, sum(hits[:5]) / count
    gained = sum(hit / max(1, np.log2(rank)) for rank, hit in enumerate(hits, 1))
    best = sum(1 / max(1, np.log2(rank)) for rank in range(1, count + 1))
    average = sum(sum(hits[:rank]) / rank for rank, hit in enumerate(hits, 1) if hit) / count
    e = 2 * precise * whole / (precise + whole) if precise else 0.0
    return [float(hits[0]), sum(hits[:count]) / count, sum(hits[: 2 * count]) / count, e, gained / best, average]


def test_class_labels_are_measured_as_by_a_second_implementation(client: httpx.Client, classed: Any) -> None:
    address, vectors, labels = classed
    wide = vectors.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    settings = [
        {"name": "inner", "search": {"mode": "semantic", "exact": True}},
        {"name": "cosine", "search": {"mode": "semantic", "exact": True}, "collection": "classed-cosine"},
    ]
    body = {"classes": {"field": "kind"}, "settings": settings, "measures": CLASS_MEASURES}
    found = report(client, address, **body, per_query=True)
    asking = [i for i, label in enumerate(labels) if label not in (None, "alone")]
    assert (found["queries"], found["drawn"], found["depth"]) == (len(asking), "classes", 60)
    assert [one["id"] for one in found["per_query"]] == [f"d{i}" for i in asking]
    for name, rows in (("inner", wide), ("cosine", unit)):
        for i, one in zip(asking, found["per_query"], strict=True):
            values = [one["settings"][name]["values"][measure] for measure in CLASS_MEASURES]
            assert values == pytest.approx(of_classes(rows @ rows[i], labels, i), abs=1e-9), (name, i)
    # Those of other classes are judged; those of none are not.
    assert 0 < found["settings"][0]["unjudged"] < 0.3
    drawn = report(client, address, **{**body, "classes": {"field": "kind", "count": 7}}, per_query=True)
    assert drawn["queries"] == 7
    assert {one["id"]: one for one in drawn["per_query"]}.items() <= {
        one["id"]: one for one in found["per_query"]
    }.items()
    shallow = report(client, address, classes={"field": "kind"}, settings=settings[:1], measures=["ST", "NN"])
    # 1 and true are two classes: of 14 documents, the most.
    assert shallow["depth"] == 2 * 14


def test_class_labels_without_two_alike_are_none(
    client: httpx.Client, classed: Any, finished: Callable[[str], Any]
) -> None:
    answer = client.post(f"{classed[0]}/evaluate", json={"classes": {"field": "colour"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "collection_empty")
    answer = client.post(f"{classed[0]}/evaluate", json={"classes": {"field": "kind"}, "background": True})
    assert answer.status_code == 202, answer.text
    task = finished(answer.headers["location"])
    assert task["state"] == "succeeded", task
    assert task["result"]["drawn"] == "classes"


def test_nothing_of_the_collection_learns_from_it(client: httpx.Client, birds: str) -> None:
    before = client.get(birds).json()
    report(client, birds, queries=judged(), settings=MODES)
    after = client.get(birds).json()
    assert before["lexical"] == after["lexical"]
    assert before == after
    client.post(f"{birds}/search", json={"query": "which wren sings"})
    assert client.get(birds).json() != before


def test_a_task_gives_the_same_report(client: httpx.Client, birds: str, finished: Callable[[str], Any]) -> None:
    body = {"queries": judged(), "settings": MODES, "measures": ["nDCG@10", "R@10"], "per_query": True}
    answer = client.post(f"{birds}/evaluate", json={**body, "background": True})
    assert answer.status_code == 202
    task = finished(answer.headers["location"])
    assert (task["kind"], task["state"], task["done"], task["total"]) == ("evaluate", "succeeded", 8, 8)

    def timeless(found: Any) -> Any:
        settings = [{key: value for key, value in one.items() if not key.endswith("_ms")} for one in found["settings"]]
        return {**found, "settings": settings}

    assert timeless(task["result"]) == timeless(report(client, birds, **body))


def test_what_takes_many_searches_is_a_task(client: httpx.Client, birds: str, finished: Callable[[str], Any]) -> None:
    queries = [{"id": str(i), "query": WORDS[i % 8], "grades": {WORDS[i % 8]: 1}} for i in range(251)]
    settings = [{"name": str(i), "search": {"mode": "lexical"}} for i in range(2)]
    answer = client.post(f"{birds}/evaluate", json={"queries": queries, "settings": settings})
    assert answer.status_code == 202
    assert finished(answer.headers["location"])["result"]["queries"] == 251


def test_a_pool_is_what_several_ways_find_and_nobody_has_graded(client: httpx.Client, birds: str) -> None:
    address = f"{birds}/judgements/people"
    client.put(address, json={"queries": judged(["wren", "owl"])})
    found = client.post(f"{address}/pool", json={"settings": MODES, "depth": 3, "most": 100}).json()
    expected = {}
    for one in judged(["wren", "owl"]):
        for mode in MODES:
            body = {"query": one["query"], "k": 3, **mode["search"]}
            for rank, hit in enumerate(client.post(f"{birds}/search", json=body).json()["hits"], 1):
                expected.setdefault((one["id"], hit["id"]), {})[mode["name"]] = rank
    graded = {(one["id"], document) for one in judged(["wren", "owl"]) for document in one["grades"]}
    assert (found["queries"], found["pooled"]) == (2, len(expected))
    assert found["judged"] == len(graded & set(expected))
    told = {(one["query"], one["document"]): one["ranks"] for one in found["to_judge"]}
    assert told == {pair: ranks for pair, ranks in expected.items() if pair not in graded}
    one = next(one for one in found["to_judge"] if one["document"] == "heron" or one["document"] in WORDS)
    assert one["text"].startswith(f"the {one['document']} sings")
    # A few of each query before more of any.
    few = client.post(f"{address}/pool", json={"settings": MODES, "depth": 3, "most": 2}).json()["to_judge"]
    assert [one["query"] for one in few] == ["q-wren", "q-owl"]
    new = {"queries": [{"id": "q-new", "query": "which crane sings"}], "depth": 1}
    (one,) = client.post(f"{birds}/judgements/other/pool", json=new).json()["to_judge"]
    assert (one["query"], one["asked"]) == ("q-new", "which crane sings")
    assert client.post(f"{birds}/judgements/other/pool", json={}).status_code == 404
    assert client.post(f"{address}/pool", json={"logged": 3}).json()["code"] == "collection_empty"
    both = client.post(f"{address}/pool", json={"logged": 3, **new})
    assert (both.status_code, both.json()["errors"][0]["pointer"]) == (422, "/logged")
    alone = client.post(f"{address}/pool", json={"draw": "frequent"})
    assert (alone.status_code, alone.json()["errors"][0]["pointer"]) == (422, "/draw")


def test_what_was_searched_can_be_judged(serve: Callable[..., Any]) -> None:
    running = serve(log_queries=10)
    with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}})
        documents = [{"id": word, "text": f"the {word} sings"} for word in WORDS]
        client.post("/v1/collections/c/documents", json={"documents": documents})
        for text in ("a wren", "an owl", "a wren"):
            client.post("/v1/collections/c/search", json={"query": text})
        asked = {"logged": 5, "depth": 2}
        found = client.post("/v1/collections/c/judgements/log/pool", json=asked).json()
        assert {one["query"] for one in found["to_judge"]} == {"a wren", "an owl"}
        grades = [{**one, "text": one["asked"], "grade": 1} for one in found["to_judge"]]
        grades = [{key: one[key] for key in ("query", "text", "document", "grade")} for one in grades]
        assert client.post("/v1/collections/c/judgements/log/grades", json={"grades": grades}).status_code == 200
        assert client.post("/v1/collections/c/judgements/log/pool", json=asked).json()["to_judge"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"judgements": "people", "known_items": {}}, ""),
        ({"judgements": "no name"}, "/judgements"),
        ({"queries": []}, "/queries"),
        ({"queries": judged(["owl"]) * 2}, "/queries/1/id"),
        ({"queries": [{"id": "q", "query": "owl", "grades": {"owl": -1}}]}, "/queries/0/grades/owl"),
        ({"queries": [{"id": "q", "query": "owl", "grades": {"owl": 0.5}}]}, "/queries/0/grades/owl"),
        ({"queries": [{"id": "q", "query": " ", "grades": {}}]}, "/queries/0/query"),
        ({"queries": [{"id": "q", "vector": [1, 2], "grades": {}}]}, "/queries/0/vector"),
        ({"known_items": {"count": 0}}, "/known_items/count"),
        ({"known_items": {}, "classes": {"field": "length"}}, ""),
        ({"classes": {}}, "/classes/field"),
        ({"classes": {"field": "a b"}}, "/classes/field"),
        ({"classes": {"field": "tags"}}, "/classes/field"),
        ({"classes": {"field": "length", "count": 0}}, "/classes/count"),
        (
            {"classes": {"field": "length"}, "settings": [{"name": "a", "search": {"syntax": "query"}}]},
            "/settings/0/search/syntax",
        ),
        ({"known_items": {}, "measures": ["nDCG@10", "speed"]}, "/measures/1"),
        ({"known_items": {}, "measures": ["P@1", "P@1"]}, "/measures"),
        ({"known_items": {}, "settings": []}, "/settings"),
        ({"known_items": {}, "settings": [MODES[0], MODES[0]]}, "/settings"),
        ({"known_items": {}, "settings": [{"name": "a", "search": {"k": 3}}]}, "/settings/0/search/k"),
        ({"known_items": {}, "settings": [{"name": "a", "search": {"query": "owl"}}]}, "/settings/0/search/query"),
        ({"known_items": {}, "settings": [{"name": "a", "search": {"mode": "browse"}}]}, "/settings/0/search/mode"),
        ({"known_items": {}, "settings": [{"name": "a", "search": {"mode": "sparse"}}]}, "/settings/0/search/mode"),
        (
            {"known_items": {}, "settings": [MODES[0], {"name": "a", "search": {"filter": {"a": {"near": 1}}}}]},
            "/settings/1/search/filter/a/near",
        ),
        (
            {"known_items": {}, "settings": [{"name": "a", "search": {"weights": {"words": 0}}}]},
            "/settings/0/search/weights",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_fault_is_told_by_its_place(client: httpx.Client, birds: str, body: dict[str, Any], pointer: str) -> None:
    for background in (False, True):
        answer = client.post(f"{birds}/evaluate", json={**body, **({"background": True} if background else {})})
        assert answer.status_code == 422, answer.text
        assert pointer in [one["pointer"] for one in answer.json()["errors"]]


def test_a_set_has_bounds_and_names(client: httpx.Client, birds: str) -> None:
    one = {"queries": judged(["owl"])}
    for name in ("a b", "é", ".hidden", "x" * 65):
        answer = client.put(f"{birds}/judgements/{name}", json=one)
        assert (answer.status_code, answer.json()["code"]) == (404, "judgements_not_found")
        assert "a name matches [A-Za-z0-9]" in answer.json()["detail"]
    for number in range(32):
        assert client.put(f"{birds}/judgements/s{number}", json=one).status_code == 201
    more = client.put(f"{birds}/judgements/more", json=one)
    assert (more.status_code, more.json()["code"]) == (409, "too_many_sets")
    assert client.put(f"{birds}/judgements/s3", json=one).status_code == 200
    unknown = client.post(
        f"{birds}/judgements/s3/grades", json={"grades": [{"query": "none", "document": "owl", "grade": 1}]}
    )
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/grades/0/text")


def test_an_empty_collection_has_nothing_to_draw(client: httpx.Client, create: Callable[..., str]) -> None:
    answer = client.post(f"{create()}/evaluate", json={"known_items": {}})
    assert (answer.status_code, answer.json()["code"]) == (409, "collection_empty")


def test_a_setting_may_be_another_collection_by_its_name_or_alias(
    client: httpx.Client, birds: str, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    """One of half of the birds, under the same ids: what it lacks is lost, and each figure is its own search's."""
    other = create(precision="1bit")
    documents = [client.get(f"{birds}/documents/{word}").json() for word in WORDS[:4]]
    kept = [{key: one[key] for key in ("id", "title", "text", "metadata")} for one in documents]
    assert client.post(f"{other}/documents", json={"documents": kept}).status_code == 200
    name = other.rpartition("/")[2]
    assert client.put("/v1/aliases/half-of-the-birds", json={"collection": name}).status_code in (200, 201)
    semantic = {"mode": "semantic", "exact": True}
    settings = [
        {"name": "all", "search": semantic},
        {"name": "half", "search": semantic, "collection": "half-of-the-birds"},
    ]
    body = {"queries": judged(), "settings": settings, "measures": ["P@1", "R@10"], "per_query": True}
    found = report(client, birds, **body)
    assert [one["collection"] for one in found["settings"]] == [birds.rpartition("/")[2], name]
    for one in judged():
        asked = {"query": one["query"], "k": 10, **semantic}
        hits = [hit["id"] for hit in client.post(f"{other}/search", json=asked).json()["hits"]]
        of_query = next(row for row in found["per_query"] if row["id"] == one["id"])["settings"]["half"]["values"]
        assert of_query["P@1"] == float(hits[0] in one["grades"])
        assert of_query["R@10"] == pytest.approx(len({*hits} & {*one["grades"]}) / 2)
    task = finished(client.post(f"{birds}/evaluate", json={**body, "background": True}).headers["location"])
    assert task["state"] == "succeeded", task
    assert task["result"]["per_query"] == found["per_query"]
    gone = client.post(f"{birds}/evaluate", json={**body, "settings": [{**settings[1], "collection": "none"}]})
    assert (gone.status_code, gone.json()["code"]) == (404, "collection_not_found")
    dense = create(encoder={"model": None, "kind": "dense", "dim": 3})
    unfit = [settings[0], {**settings[1], "collection": dense.rpartition("/")[2]}]
    for more in ({}, {"background": True}):
        assert client.post(f"{birds}/evaluate", json={**body, "settings": unfit, **more}).status_code == 409


def test_a_damaged_other_collection_takes_nothing_else_out_of_service(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    broken = tmp_path / "indexes" / "broken"
    broken.mkdir(parents=True)
    (broken / "collection.sqlite").write_bytes(b"no database")
    with httpx.Client(base_url=serve().url, trust_env=False, timeout=60) as client:
        assert client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).status_code == 201
        settings = [{"name": "there", "collection": "broken"}]
        for more in ({}, {"background": True}):
            body = {"queries": judged(), "settings": settings, **more}
            answer = client.post("/v1/collections/c/evaluate", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "collection_damaged")
        assert client.post("/v1/collections/c/search", json={"query": "owl"}).status_code == 200


def test_an_evaluation_is_of_one_moment(client: httpx.Client, birds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that comes while it runs is found by no query of it."""
    asked = 0

    def write(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            late = {"documents": [{"id": "late", "text": " ".join(["which", "sings", *WORDS])}]}
            assert client.post(f"{birds}/documents", json=late).status_code == 200
        return search_encoded(*_[:3], **_[3])

    monkeypatch.setattr(compare, "search_encoded", lambda *given, **named: write(*given, named))
    found = report(client, birds, queries=judged(), settings=MODES[:1], measures=["P@1"], per_query=True)
    assert asked == 8
    gained = client.post(f"{birds}/search", json={"query": "which wren sings", "mode": "lexical"}).json()["hits"]
    assert "late" in [hit["id"] for hit in gained]
    assert found["settings"][0]["unjudged"] == pytest.approx(7 / 9)
