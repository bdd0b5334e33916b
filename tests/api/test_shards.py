"""Collections whose segments are searched by shards on a real Ray cluster, on loopback: answers are one machine's, bit
for bit, whatever the number of shards, and what nobody answers for is said."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ray_hosts import ray_cluster

from app.errors import Invalid
from app.settings import DeterministicModel, Settings
from app.shards.members import Member, Members
from app.shards.placing import placed
from app.shards.router import Router, open_router
from app.store.files import MappedArray

SIZES = [290, 260, 230, 75, 60, 50, 9]
"""Of writes, of which all but the last become segments: no more of one tier than are left as they are."""
WORDS = [f"word{i}" for i in range(120)]
WEIGHTS = {"words": 0.3, "tokens": 0.4, "pooled": 0.3}
TEXT = {"query": "word3 word5 word7 word11"}
SOME = {"filter": {"n": {"lt": 3}}}
SEARCHES: list[dict[str, Any]] = [
    {"mode": mode, **TEXT, **how, **more}
    for mode in ("semantic", "dense", "hybrid")
    for how in ({}, {"exact": True})
    for more in (
        {"explain": True, "highlights": {}, "passages": 2},
        {**SOME, "k": 25, "facets": {"n": {"terms": 5}}},
        {"group_by": {"field": "n", "size": 2}, "k": 4, "include": ["metadata"]},
        {"offset": 15, "k": 15, "boosts": [{"filter": {"n": {"eq": 2}}, "weight": 0.5}]},
    )
]
SEARCHES += [
    {"mode": "lexical", **TEXT, "explain": True, "k": 20},
    {"mode": "semantic", **TEXT, "sort": [{"n": "desc"}], "k": 30},
    {"mode": "semantic", **TEXT, "diversity": {"weight": 0.4, "among": 30}},
    {"mode": "semantic", **TEXT, "candidates": 7, "k": 40, "min_score": 1.0},
    {"mode": "hybrid", "like": {"positive": ["d3", {"query": "word9"}], "negative": ["d5"]}, "explain": True},
    {"mode": "semantic", **TEXT, "include": ["vectors"], "k": 3},
    {"mode": "semantic", **TEXT, "partial": True},
    {"sort": [{"n": "asc"}], "k": 15},
]
COUNTED: dict[str, Any] = {"sort": [{"n": "asc"}], "k": 1}
PLAIN: list[dict[str, Any]] = [
    {"vector": np.random.default_rng(i).normal(size=6).tolist(), **how}
    for i in range(3)
    for how in ({"k": 20}, {"exact": True, "k": 40}, {"candidates": 30, "filter": {"n": {"gt": 2}}, "explain": True})
]


class Few:
    """The first shards of a cluster, as if there were no others."""

    def __init__(self, every: Members, count: int) -> None:
        self.every, self.ray, self._count = every, every.ray, count

    @cached_property
    def now(self) -> Mapping[str, Member]:
        return dict(sorted(self.every.now.items())[: self._count])

    def look(self) -> None:
        """None comes, none goes."""

    def tell(self, wanted: Mapping[str, Any]) -> bool:
        return self.every.tell(wanted)

    def lost(self, member: Member, error: Exception) -> None:
        self.every.lost(member, error)


@dataclass
class Made:
    """A writer, and a server whose segments are searched by the shards of a cluster."""

    writer: httpx.Client
    router: httpx.Client
    holders: Router
    segments: Callable[[str], list[Any]]
    every: Members
    place: Path

    def only(self, count: int, wait: Callable[[Callable[[], bool]], None]) -> list[Member]:
        """So many shards are there from now on."""
        few = Few(self.every, count)
        self.holders.members = few  # type: ignore[assignment]
        members = list(few.now.values())
        keys = {one.record.name for name in ("texts", "plain") for one in self.segments(name)}
        copies = min(count, 2)
        wait(lambda: sorted(k.name for one in members for k in one.ready) == sorted([*keys] * copies))
        return members


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a host that lends one processor."""
    with ray_cluster(1) as made:
        yield made.address


@pytest.fixture(scope="module")
def made(cluster: str, tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Any]) -> Iterator[Made]:
    place = tmp_path_factory.mktemp("shards")
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    chosen: dict[str, Any] = {"models": models, "threads": 1, "seal_documents": 20, "store": f"file://{place}/store"}
    with ExitStack() as stack:

        def started(**how: Any) -> tuple[httpx.Client, Any]:
            server = running(Settings(**chosen, **how)).opened()
            stack.callback(server.stop)
            client = httpx.Client(base_url=server.url, trust_env=False, timeout=60)
            return stack.enter_context(closing(client)), server.app.state.metrics.service.catalogue

        writer, _ = started(indexes=place / "writer")
        fill(writer)
        router, catalogue = started(
            indexes=place / "router",
            role="reader",
            cluster=cluster,
            shards=8,
            shard_folder=place / "held",
            shard_budget_ms=1_000,
            search_timeout_ms=300_000,
        )
        holders = catalogue.resources.holders
        assert isinstance(holders, Router)

        def segments(name: str) -> list[Any]:
            return [view.part for view in catalogue.get(name).published.segments]

        every = holders.members
        yield Made(writer, router, holders, segments, every, place)
        holders.members = every


def fill(writer: httpx.Client) -> None:
    random = np.random.default_rng(0)
    passages = {"size": 12, "overlap": 2}
    texts = {"encoder": {"model": "words"}, "passages": passages, "fusion": WEIGHTS}
    plain = {"encoder": {"model": None, "kind": "dense", "dim": 6}, "lexical": None}
    for name, body in (("texts", texts), ("plain", plain)):
        answer = writer.post("/v1/collections", json={"name": name, **body})
        assert answer.status_code == 201, answer.text
        first = 0
        for size in [count * (1 if name == "texts" else 4) for count in SIZES]:
            documents = [
                {
                    "id": f"d{i}",
                    "metadata": {"n": int(i % 5)},
                    # Of a few points, so that scores are equal and ids decide.
                    **(
                        {"text": " ".join(random.choice(WORDS, random.integers(4, 40)))}
                        if name == "texts"
                        else {"vector": [*random.integers(-2, 3, 5).tolist(), 1]}
                    ),
                }
                for i in range(first, first + size)
            ]
            answer = writer.post(f"/v1/collections/{name}/documents", json={"documents": documents})
            assert answer.status_code == 200, answer.text
            first += size
            while size >= 20 and writer.get(f"/v1/collections/{name}").json()["tail"]:
                time.sleep(0.01)
        gone = [f"d{i}" for i in range(0, first, 31) if i not in (3, 5)]
        assert writer.post(f"/v1/collections/{name}/delete", json={"ids": gone}).json() == {"deleted": len(gone)}


def asked(client: httpx.Client, name: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(f"/v1/collections/{name}/search", json=body)
    assert answer.status_code == 200, answer.text
    return {key: value for key, value in answer.json().items() if key not in ("took_ms", "stages")}


def arrays(client: httpx.Client, **asked: Any) -> tuple[Any, dict[str, Any]]:
    """Ids and scores of many searches of ``plain``, and what is told beside them but times."""
    file, queries = io.BytesIO(), np.random.default_rng(8).normal(size=(40, 6)).astype(np.float32)
    # Whole numbers, as the vectors are, so that scores are equal and ids decide.
    np.save(file, np.concatenate([queries, np.ones((1, 6), np.float32)]))
    kind = {"content-type": "application/x-npy"}
    answer = client.post(
        "/v1/collections/plain/search/vectors", content=file.getvalue(), headers=kind, params=asked, timeout=60
    )
    assert answer.status_code == 200, answer.text
    said = json.loads(answer.headers["x-sheaf-search"])
    told = {name: value for name, value in said.items() if name not in ("took_ms", "stages")}
    return np.load(io.BytesIO(answer.content)).tolist(), told


ARRAYS: list[dict[str, Any]] = [
    {},
    {"k": 40, "exact": True},
    {"k": 30, "candidates": 20, "filter": json.dumps({"n": {"gt": 2}})},
]


def test_arrays_of_queries_are_asked_of_shards(made: Made, eventually: Callable[[Callable[[], bool]], None]):
    eventually(lambda: asked(made.router, "plain", COUNTED) == asked(made.writer, "plain", COUNTED))
    expected = [arrays(made.writer, **one) for one in ARRAYS]
    for count in (4, 1):
        made.only(count, eventually)
        for how, one in zip(ARRAYS, expected, strict=True):
            assert arrays(made.router, **how) == one, (count, how)


def test_whatever_else_reads_parts_says_the_same_or_refuses_by_name(
    made: Made, eventually: Callable[[Callable[[], bool]], None]
):
    made.only(2, eventually)
    for name, query in (("texts", {"query": "word3 word5"}), ("plain", {"vector": PLAIN[0]["vector"]})):
        address = f"/v1/collections/{name}"
        judged = {
            "queries": [{"id": "q", **query, "grades": {"d3": 1, "d7": 1}}],
            "settings": [{"name": "meaning", "search": {"mode": "semantic"}}],
            "measures": ["nDCG@10"],
        }
        eventually(lambda name=name: asked(made.router, name, COUNTED) == asked(made.writer, name, COUNTED))  # type: ignore[misc]

        def measured(client: httpx.Client, address: str = address, query: Any = query, judged: Any = judged) -> Any:
            body = {"queries": [query], "k": 5, "float32": True}
            recall = client.post(f"{address}/recall", json=body)
            plane = client.get(f"{address}/map")
            lines = client.get(f"{address}/export", params={"include": ["text", "metadata", "vectors"]})
            like = client.post(f"{address}/search", json={"like": {"positive": ["d3"]}, "mode": "semantic"})
            evaluated = client.post(f"{address}/evaluate", json=judged)
            found = [recall, plane, lines, like, evaluated]
            assert [one.status_code for one in found] == [200] * 5, [one.text[:200] for one in found]
            times = ("approximate_ms", "exact_ms")
            shares = {key: value for key, value in recall.json().items() if key not in times}
            told = evaluated.json()["settings"][0]
            return [shares, plane.json(), sorted(lines.text.splitlines()), like.json()["hits"], told["measures"]]

        assert measured(made.router) == measured(made.writer)
        # What is kept beside documents is the writer's.
        for path, body in (("tune", {"target_recall": 0.9}), ("evaluate", {**judged, "background": True})):
            refused = made.router.post(f"{address}/{path}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "server_is_reader"), (path, refused.text)


def test_any_number_of_shards_answers_as_one_machine(made: Made, eventually: Callable[[Callable[[], bool]], None]):
    searches = [("texts", body) for body in SEARCHES] + [("plain", body) for body in PLAIN]
    expected = [asked(made.writer, *one) for one in searches]
    assert any(len(one.get("hits", [])) > 10 for one in expected)
    for name in ("texts", "plain"):
        eventually(lambda name=name: asked(made.router, name, COUNTED) == asked(made.writer, name, COUNTED))  # type: ignore[misc]
    assert len(made.segments("texts")) >= 5
    for count in (8, 4, 2, 1):
        made.only(count, eventually)
        for (name, body), one in zip(searches, expected, strict=True):
            assert asked(made.router, name, body) == one, (count, name, body)


def test_the_router_reads_no_vectors_for_a_search(
    made: Made, eventually: Callable[[Callable[[], bool]], None], monkeypatch: pytest.MonkeyPatch
):
    made.only(2, eventually)
    read = set[str]()
    for name in ("rows", "ranges"):
        own = getattr(MappedArray, name)

        def noted(self: MappedArray, *given: Any, own: Callable[..., Any] = own) -> Any:
            read.add(self._name)
            return own(self, *given)

        monkeypatch.setattr(MappedArray, name, noted)
    for body in SEARCHES:
        if "like" not in body and "vectors" not in body.get("include", ()):
            asked(made.router, "texts", body)
    for body in PLAIN:
        asked(made.router, "plain", body)
    for how in ARRAYS:
        arrays(made.router, **how)
    assert not {"tokens.npy", "pooled.npy", "encoded.npy", "norms.npy"} & read
    assert "spans.npy" in read
    assert not any("_searched" in one.__dict__ for name in ("texts", "plain") for one in made.segments(name))
    asked(made.writer, "texts", SEARCHES[0])
    assert "tokens.npy" in read


def test_what_a_lost_shard_held_its_copy_answers_for_and_without_copy_it_is_said(
    made: Made, eventually: Callable[[Callable[[], bool]], None]
):
    first, second, *_ = made.only(2, eventually)
    body = {"mode": "semantic", **TEXT, "exact": True, "k": 50}
    whole = asked(made.router, "texts", body)
    made.every.ray.kill(first.actor)
    assert asked(made.router, "texts", body) == whole
    made.every.ray.kill(second.actor)
    segments = made.segments("texts")
    left = asked(made.router, "texts", body)
    assert left["coverage"] == {"segments": len(segments), "answered": 0}
    assert (left["partial"], left["exact"]) == (True, False)
    assert [one["code"] for one in left["warnings"]] == ["segments_unreached"]
    # The tail is here.
    first_of_tail = sum(SIZES[:-1])
    assert {hit["id"] for hit in left["hits"]} == {f"d{first_of_tail + i}" for i in range(SIZES[-1])}
    assert left["total"] == {"count": SIZES[-1], "exact": False}
    assert all(hit in whole["hits"] for hit in left["hits"] if hit["id"] in {one["id"] for one in whole["hits"]})
    assert "next" not in left
    # So it is of arrays; and what would be a wrong figure is none.
    segments = made.segments("plain")
    rows, told = arrays(made.router, k=5)
    assert told["coverage"] == {"segments": len(segments), "answered": 0}
    assert told["partial"]
    assert [one["code"] for one in told["warnings"]] == ["segments_unreached"]
    first_of_tail = 4 * sum(SIZES[:-1])
    assert {identifier for own in rows for identifier, _ in own} <= {
        f"d{first_of_tail + i}".encode() for i in range(4 * SIZES[-1])
    }
    query = {"vector": PLAIN[0]["vector"]}
    judged = {"queries": [{"id": "q", **query, "grades": {"d3": 1}}], "settings": [{"name": "a", "search": {}}]}
    for path, further in (("recall", {"queries": [query]}), ("evaluate", {**judged, "measures": ["nDCG@10"]})):
        refused = made.router.post(f"/v1/collections/plain/{path}", json=further)
        assert (refused.status_code, refused.json()["code"]) == (503, "shards_unreached"), refused.text
    # Words are here, too: of these nothing is missing.
    spoken = {"mode": "lexical", **TEXT, "k": 50}
    assert asked(made.router, "texts", spoken) == asked(made.writer, "texts", spoken)
    # And comes back, with shards in the place of those.
    made.holders.members = made.every
    eventually(lambda: len(made.every.now) == 8)
    assert first not in made.every.now.values()
    eventually(lambda: asked(made.router, "texts", body) == whole)


def test_a_shard_that_hangs_is_not_waited_for(made: Made, eventually: Callable[[Callable[[], bool]], None]):
    members = made.only(2, eventually)
    body = {"mode": "semantic", **TEXT, "k": 20, "timeout_ms": 30_000}
    whole = asked(made.router, "texts", body)
    process = made.every.ray.get(members[0].actor.process.remote())
    os.kill(process, signal.SIGSTOP)
    try:
        assert asked(made.router, "texts", body) == whole
        # It is asked last from now on.
        assert members[0].suspect
        assert not members[1].suspect
    finally:
        os.kill(process, signal.SIGCONT)


def test_shards_that_all_hang_cost_no_more_than_one_wait_and_it_is_said(
    made: Made, eventually: Callable[[Callable[[], bool]], None]
):
    members = made.only(2, eventually)
    # Two thirds of it are longer than the client waits.
    body = {"mode": "semantic", **TEXT, "k": 20, "timeout_ms": 280_000}
    whole = asked(made.router, "texts", body)
    processes = [made.every.ray.get(one.actor.process.remote()) for one in members]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        # Nor does it where they have only just ceased to answer.
        for _ in range(2):
            left = asked(made.router, "texts", body)
            assert left["coverage"] == {"segments": len(made.segments("texts")), "answered": 0}
        assert all(one.silent for one in members)
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    eventually(lambda: asked(made.router, "texts", body) == whole)


def test_searches_go_on_while_shards_come_and_go(made: Made, eventually: Callable[[Callable[[], bool]], None]):
    made.holders.members = made.every
    eventually(lambda: len(made.every.now) == 8)
    body = {"mode": "semantic", **TEXT, "k": 20}
    whole = asked(made.writer, "texts", body)
    eventually(lambda: asked(made.router, "texts", body) == whole)
    ended, answers = threading.Event(), list[httpx.Response]()

    def search() -> None:
        while not ended.is_set():
            answers.append(made.router.post("/v1/collections/texts/search", json=body))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        for again in (True, False):
            member = min(made.every.now.values(), key=lambda one: len(one.ready) == 0)
            made.every.ray.kill(member.actor, no_restart=not again)
            before = len(answers)
            eventually(lambda before=before: len(answers) > before + 20)  # type: ignore[misc]
    finally:
        ended.set()
        for one in threads:
            one.join()
    assert {answer.status_code for answer in answers} == {200}
    eventually(lambda: asked(made.router, "texts", body) == whole)


def test_a_new_generation_is_seen_once_shards_hold_it(made: Made, eventually: Callable[[Callable[[], bool]], None]):
    made.only(2, eventually)
    documents = [{"id": f"new{i}", "text": f"word3 word{i}", "metadata": {"n": 1}} for i in range(30)]
    assert made.writer.post("/v1/collections/texts/documents", json={"documents": documents}).status_code == 200
    eventually(lambda: made.writer.get("/v1/collections/texts").json()["tail"] == 0)
    body = {"mode": "semantic", **TEXT, "k": 30, "exact": True}

    def same() -> bool:
        found, expected = asked(made.router, "texts", body), asked(made.writer, "texts", body)
        assert "coverage" not in found
        return found == expected

    eventually(same)


def test_a_router_is_a_process_that_ends_when_it_is_told(made: Made, cluster: str, start: Callable[..., Any]):
    """Though Ray would have the process end at once, as it was."""
    server = start(
        SHEAF_STORE=f"file://{made.place}/store",
        SHEAF_ROLE="reader",
        SHEAF_CLUSTER=cluster,
        SHEAF_SHARD_FOLDER=str(made.place / "held"),
        SHEAF_MODELS=json.dumps({"words": {"type": "deterministic", "dim": 16}}),
    )
    with httpx.Client(base_url=server.ready(), trust_env=False, timeout=60) as client:
        assert asked(client, "texts", SEARCHES[0]) == asked(made.writer, "texts", SEARCHES[0])
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_segments_lie_on_different_machines_and_few_move():
    shards = {f"{machine}/{i}": machine for machine in "abc" for i in range(2)}
    names = [f"s{i}" for i in range(300)]
    before = {name: placed(name, shards) for name in names}
    assert all(shards[first] != shards[second] for first, second in before.values())
    without = {name: machine for name, machine in shards.items() if machine != "c"}
    for name in names:
        after = placed(name, without)
        assert [one for one in before[name] if one in without] == [one for one in after if one in before[name]]
    held = [sum(shard in chosen for chosen in before.values()) for shard in shards]
    assert min(held) > 300 * 2 / len(shards) / 2


def test_a_cluster_that_is_not_there_is_said(cluster: str, tmp_path: Path):
    with pytest.raises(Invalid, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        open_router("127.0.0.1:1", f"file://{tmp_path}", str(tmp_path), 1, 1, 1.0)


def test_the_command_names_what_it_expects():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    command = [sys.executable, "-m", "app", "--cluster", "auto"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "SHEAF_CLUSTER: Value error, expected SHEAF_STORE and SHEAF_ROLE=reader too" in done.stderr
