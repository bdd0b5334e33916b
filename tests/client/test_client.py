"""The client against a live server: what comes back is what went in, and what fails is tried again or told by name."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet
import pytest
from running import Running

from app.client import (
    AsyncCollection,
    AsyncSheaf,
    Collection,
    Document,
    Retries,
    Sheaf,
    TaskFailed,
    asynchronous,
    blocking,
    failures,
)
from app.client.operations import FORMS, Include
from app.encoders.deterministic import DeterministicEncoder
from app.errors import (
    Conflict,
    EncoderUnavailable,
    Invalid,
    NotFound,
    PreconditionFailed,
    RequestError,
    SheafError,
    TextRefused,
    TooOften,
    Unavailable,
)
from app.keys import ApiKey, hash_of, make_key
from app.settings import DeterministicModel, Settings
from app.sources.choose import RECORDS
from app.sources.folder import FILES

ANIMALS = [
    Document("cat", "a cat sleeps on the mat", "Cat", {"legs": 4, "tags": ["pet"]}),
    Document("dog", "a dog barks at night", "Dog", {"legs": 4, "loud": True}),
    Document("hen", "a hen lays eggs", "", {"legs": 2, "mass": 2.0}),
]
New = Callable[..., Collection]


def test_documents_come_back_as_they_were_written(new: New) -> None:
    animals = new()
    done = animals.write(ANIMALS)
    assert (done.written, done.duplicates, done.truncated) == (3, (), ())
    assert animals.get("cat").version is not None
    assert animals.get_many(["hen", "none", "cat"]) == [ANIMALS[2], ANIMALS[0]]
    assert [*animals.documents(page=1)] == ANIMALS
    assert [one.id for one in animals.documents(filter={"legs": {"eq": 4}})] == ["cat", "dog"]
    assert animals.count() == 3
    assert animals.count({"tags": {"eq": "pet"}}) == 1
    assert {"name": "tags", "shapes": ["list"], "type": None} in animals.fields()
    assert animals.history() == []
    changed = animals.patch("dog", {"loud": None, "age": 3})
    assert changed.metadata == {"legs": 4, "age": 3}
    assert animals.delete(["cat", "none"]) == 1
    assert animals.delete(filter={"legs": {"eq": 2}}) == 1
    assert [one.id for one in animals.documents()] == ["dog"]


def test_ids_are_made_and_integers_taken(new: New) -> None:
    animals = new()
    done = animals.write([{"text": "a wren"}, Document(text="an owl"), {"id": 7, "text": "a robin"}], batch=2)
    wren, owl, seven = done.ids
    assert (seven, len(wren), len(owl)) == ("7", 32, 32)
    assert animals.write([Document(text="an owl")]).ids == (owl,)
    assert animals.get(7).text == "a robin"
    assert [one.id for one in animals.get_many([7, wren])] == ["7", wren]
    assert animals.patch(7, {"n": 1}).metadata == {"n": 1}
    assert animals.put({"id": 7, "text": "a robin"}) == animals.get("7").version
    assert animals.delete([7]) == 1
    with pytest.raises(Invalid) as refused:
        animals.write([{"id": 1.5, "text": "x"}])
    assert refused.value.problems[0].pointer == "/documents/0/id"


def test_a_patch_changes_what_is_given(new: New) -> None:
    given, encoded = new(model=None, dim=3, sparse={}), new()
    vectors = np.eye(3, dtype=np.float32)
    given.write([Document("a", "text", "title", {"n": 1, "m": 2}, vectors, ([3], [0.5]))])
    everything: Include = ("text", "metadata", "vectors")
    changed = given.patch("a", {"m": None}, text="other")
    assert (changed.text, changed.title, changed.metadata) == ("other", "title", {"n": 1})
    given.patch("a", {"only": True}, replace=True, vectors=vectors[:2], sparse=([7, 9], [1, 2]))
    stands = given.get("a", include=everything)
    assert (stands.metadata, stands.sparse) == ({"only": True}, ([7, 9], [1, 2]))
    assert np.array_equal(np.asarray(stands.vectors), vectors[:2])
    with pytest.raises(PreconditionFailed):
        given.patch("a", title="x", version=changed.version)
    assert given.patch("a", sparse=([], []), version=stands.version).sparse is None
    assert given.get("a", include=everything).sparse is None
    encoded.write([{"id": "a", "text": "a wren"}, {"id": "b", "text": "an owl"}])
    encoded.patch("a", text="a zebra crossing")
    assert [hit.id for hit in encoded.search("zebra crossing", k=1)] == ["a"]
    assert encoded.search("wren", mode="lexical").hits == []
    with pytest.raises(Invalid, match="expected a field to change"):
        encoded.patch("a")


def test_an_export_into_a_file_is_there_when_it_is_whole(new: New, tmp_path: Path) -> None:
    animals = new(model=None, dim=2)
    animals.write([Document("a", "x", vectors=np.ones((2, 2))), Document("b", "y", "", {"n": 1}, np.ones((1, 2)))])
    path = tmp_path / "animals.parquet"
    size = animals.export_file(path, include=("metadata", "vectors"))
    assert size == path.stat().st_size
    table = pyarrow.parquet.read_table(path)
    assert table["vectors"].to_pylist() == [[[1, 1], [1, 1]], [[1, 1]]]
    assert animals.export_file(str(path), format="ndjson", filter={"n": 1}) == path.stat().st_size
    assert json.loads(path.read_bytes())["id"] == "b"
    before = path.read_bytes()
    with pytest.raises(NotFound):
        animals.sheaf.collection("absent").export_file(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["animals.parquet"]


def test_an_export_is_streamed_and_goes_into_another(new: New, sheaf: Sheaf) -> None:
    """Texts with what Unicode takes for the end of a line too, and vectors to the bit."""
    one, other = (new(model=None, dim=3) for _ in range(2))
    texts = ["a\u2028b", "\x85", "c\r\nd", "猫" * 100_000, "Füße"]
    matrices = np.random.default_rng(5).normal(size=(5, 2, 3)).astype(np.float32)
    one.write(Document(f"d{i}", text, "", {"n": i}, matrices[i]) for i, text in enumerate(texts))
    assert [(found.id, found.text, found.vectors) for found in one.export()] == [
        (f"d{i}", text, None) for i, text in enumerate(texts)
    ]
    assert [found.id for found in one.export(filter={"n": {"gt": 2}})] == ["d3", "d4"]
    whole: Include = ("text", "metadata", "vectors")
    assert sheaf.follow(other.import_documents(one.export(include=whole))).done == 5
    for found, text, matrix in zip(other.export(include=whole), texts, matrices, strict=True):
        assert found.text == text
        assert np.asarray(found.vectors).tobytes() == matrix.tobytes()
    with pytest.raises(NotFound, match="there is no collection"):
        next(sheaf.collection("none").export())
    with pytest.raises(Invalid):
        next(one.export(filter={"n": {"near": 1}}))


@pytest.mark.parametrize("id", ["a/b", "..", "../x", ".", "a b", "ü%2F", "?q#f", "a..b", "x" * 512])
def test_any_id_goes_into_a_path(new: New, id: str) -> None:
    collection = new()
    version = collection.put(Document(id, "one"))
    found = collection.get(id)
    assert (found.id, found.text, found.version) == (id, "one", version)


def test_searches_find_and_tell(new: New) -> None:
    animals = new()
    animals.write(ANIMALS)
    found = animals.search("a dog barks", k=2, filter={"legs": {"eq": 4}}, facets={"legs": {"terms": 3}})
    assert [hit.id for hit in found] == ["dog", "cat"]
    assert (found.hits[0].title, found.hits[0].metadata, len(found)) == ("Dog", {"legs": 4, "loud": True}, 2)
    assert found.total == 2
    assert "legs" in found.facets
    first, second = animals.search_batch([{"query": "eggs", "k": 1}, {"query": "mat", "k": 1, "include": []}])
    assert ([hit.id for hit in first], [hit.text for hit in second]) == (["hen"], [""])
    both = animals.sheaf.search([animals.name], "eggs", k=1)
    assert both.hits[0].raw["collection"] == animals.name


@pytest.mark.parametrize(("kind", "shape"), [("dense", (8,)), ("multi_vector", (3, 8))])
def test_vectors_go_and_come_as_arrays_to_the_bit(new: New, kind: Any, shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    collection = new(model=None, kind=kind, dim=8, similarity="inner_product")
    collection.write(Document(str(place), f"text {place}", vectors=array) for place, array in enumerate(given))
    read = [one.vectors for one in collection.documents(include=["vectors"])]
    assert np.array_equal(np.stack([np.asarray(one) for one in read]), given)
    (hit,) = collection.search(vectors=given[3], k=1, include=["vectors"], exact=True)
    scores = (given @ given[3]) if kind == "dense" else [(given[3] @ one.T).max(axis=1).sum() for one in given]
    assert hit.id == str(np.argmax(scores))
    assert hit.score == pytest.approx(max(scores), rel=1e-3)
    assert hit.vectors is not None
    assert hit.vectors.shape == shape


def test_sparse_vectors_go_and_come(new: New) -> None:
    collection = new(sparse={})
    collection.write([Document("a", "one", sparse=([7, 3], [0.5, 1.5]))])
    assert collection.get("a", include=["vectors"]).sparse == ([3, 7], [1.5, 0.5])


def test_encoders_by_themselves(sheaf: Sheaf) -> None:
    texts = ["read a zip archive", "a dog"]
    own = DeterministicEncoder(16, "multi_vector").encode_documents(texts)
    assert np.array_equal(sheaf.embed(texts, model="words"), own.pooled)
    found = sheaf.embed(texts, model="words", input_type="query", tokens=True)
    assert own.tokens is not None
    assert all(np.array_equal(one, other) for one, other in zip(found, own.tokens, strict=True))
    assert sheaf.rerank("a dog", texts, model="words", top=1) == [(1, pytest.approx(1))]


def test_what_is_not_there_and_what_is_taken(new: New, sheaf: Sheaf) -> None:
    collection = new()
    version = collection.put(Document("a", "one"), new=True)
    with pytest.raises(PreconditionFailed):
        collection.put(Document("a", "two"), new=True)
    with pytest.raises(PreconditionFailed):
        collection.put(Document("a", "two"), version=(version or 0) + 1)
    assert collection.put(Document("a", "two"), version=version) != version
    with pytest.raises(NotFound, match="has no document 'b'") as caught:
        collection.get("b")
    assert (caught.value.code, caught.value.status, len(caught.value.request_id)) == ("document_not_found", 404, 32)
    with pytest.raises(Conflict) as taken:
        sheaf.create(collection.name, model="words")
    assert taken.value.code == "collection_exists"
    with pytest.raises(Invalid) as wrong:
        collection.search("a", k=0)
    assert [problem.pointer for problem in wrong.value.problems] == ["/k"]
    with pytest.raises(ValueError, match="exactly one of ids and filter"):
        collection.delete()
    with pytest.raises(ValueError, match="JSON compliant"):
        collection.put(Document("a", "one", metadata={"x": float("nan")}))
    queries = [{"id": "q", "query": "a", "grades": {"a": 1, "b": float("nan")}}]
    with pytest.raises(Invalid, match="expected a finite number, got nan") as endless:
        collection.evaluate(queries=queries, settings=[{"name": "x"}])
    assert [problem.pointer for problem in endless.value.problems] == ["/queries/0/grades/b"]
    lines = [Document("a", "one"), Document("b", "two", metadata={"x/y": [1.0, float("-inf")]})]
    with pytest.raises(Invalid, match="line 2, /metadata/x~1y/1: expected a finite number, got -inf"):
        collection.import_documents(lines)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\)"):
        collection.search(vectors=np.ones((1, 1, 1)))


def test_every_error_of_a_server_is_raised_as_itself() -> None:
    for kind in _tree(SheafError):
        status = kind.status
        made = failures.refusal("http://x", status, {}, {"code": kind.code, "detail": "why", "request_id": "r"}, "")
        assert isinstance(made, Invalid if kind is TextRefused else kind)
        assert (made.code, made.status, made.request_id) == (kind.code, status, "r")
        assert str(made) == f"the server at http://x says {status}: why" + (made.status == 401) * (
            ". SHEAF_API_KEY holds the key that commands send"
        )
    proxy = failures.refusal("http://x", 502, {"retry-after": "3"}, {}, "<html>")
    assert isinstance(proxy, Unavailable)
    assert proxy.headers == {"Retry-After": "3"}


def _tree(root: type[SheafError]) -> list[type[SheafError]]:
    own = [one for one in root.__subclasses__() if one.__module__ == "app.errors"]
    return [root, *(kind for one in own for kind in _tree(one))]


# Imports and tasks


def test_an_import_is_streamed_told_of_and_followed(new: New) -> None:
    collection = new()
    told: list[tuple[int, int]] = []
    drawn = 0

    def documents() -> Any:
        nonlocal drawn
        for drawn in range(1, 5_001):
            yield {"id": str(drawn), "text": f"document {drawn} " + "word " * 20}

    def sent(count: int, size: int) -> None:
        # What is not sent yet was not asked for either.
        assert drawn == count
        told.append((count, size))

    task = collection.import_documents(documents(), sent=sent)
    assert (len(told) > 1, told[-1][0]) == (True, 5_000)
    seen: list[str] = []
    done = collection.sheaf.follow(task, progress=lambda one: seen.append(one.state))
    assert (done.state, seen[-1], collection.count()) == ("succeeded", "succeeded", 5_000)


def test_a_file_is_sent_as_it_is_and_read_by_the_server(new: New, tmp_path: Path) -> None:
    collection = new()
    (tmp_path / "birds.csv.gz").write_bytes(gzip.compress(b"key;text;n\nwren;sings;3\nowl;hoots;4\n"))
    (tmp_path / "notes.md").write_text("# Herons\n\nThey stand still.")
    task = collection.import_file(tmp_path / "birds.csv.gz", delimiter=";", id_field="key", select="n:int")
    assert collection.sheaf.follow(task).state == "succeeded"
    assert collection.sheaf.follow(collection.import_file(tmp_path / "notes.md")).state == "succeeded"
    assert collection.get("owl").metadata == {"n": 4}
    assert collection.get("notes.md").title == "Herons"
    (tmp_path / "bad.json").write_text('[{"id": "x", "text": "y"}, 3]')
    said: list[tuple[int, str]] = []
    task = collection.import_file(tmp_path / "bad.json", on_error="skip")
    collection.sheaf.follow(task, bad_line=lambda line, why: said.append((line, why)))
    assert [line for line, _ in said] == [2]
    with pytest.raises(ValueError, match="form"):
        collection.import_file(tmp_path / "birds")
    assert {**RECORDS, **FILES, ".zip": "zip"} == FORMS


def test_bad_lines_are_told_by_their_place(new: New) -> None:
    collection, told = new(), list[int]()
    lines: list[dict[str, Any]] = [{"id": "a", "text": "one"}, {"id": "b"}, {"id": "c", "text": "three"}, {}]
    task = collection.import_documents(lines, on_error="skip")
    collection.sheaf.follow(task, bad_line=lambda line, why: told.append(line))
    assert (told, collection.count()) == ([2, 4], 2)
    task = collection.import_documents(lines)
    with pytest.raises(TaskFailed, match=r"failed: .*faults") as caught:
        collection.sheaf.follow(task.id)
    assert caught.value.task["state"] == "failed"


def test_other_work_is_followed_too(new: New) -> None:
    collection = new()
    collection.write(ANIMALS, batch=2, indexed=True)
    assert collection.sheaf.follow(collection.rebuild()).state == "succeeded"
    assert collection.sheaf.follow(collection.snapshot()).state == "succeeded"
    collection.sheaf.point("pets", collection.name)
    assert collection.sheaf.aliases()["pets"] == collection.name
    assert collection.sheaf.collection("pets").count() == 3
    assert collection.name in [one["name"] for one in collection.sheaf.collections()]
    collection.drop()
    with pytest.raises(NotFound):
        collection.describe()


# Trying again


class Losing(httpx.HTTPTransport):
    """A connection that loses the first answers: the server has done what it was asked."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left, self.sent = answers, list[httpx.Request]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        answer = super().handle_request(request)
        if self.left:
            self.left -= 1
            answer.read()
            answer.close()
            raise httpx.ReadError("the connection was lost")
        return answer


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which are not waited for."""
    pauses: list[float] = []
    monkeypatch.setattr(blocking, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_a_write_whose_answer_was_lost_is_applied_once(server: Running, new: New, paused: list[float]) -> None:
    name = new().name
    transport = Losing(2)
    with httpx.Client(transport=transport) as http:
        collection = Sheaf(server.url, http=http).collection(name)
        version = collection.put(Document("a", "one"))
        keys = {request.headers["idempotency-key"] for request in transport.sent}
        assert (len(transport.sent), len(keys), len(paused)) == (3, 1, 2)
        assert collection.get("a").version == version
        collection.put(Document("b", "two"))
        assert transport.sent[-1].headers["idempotency-key"] not in keys


def test_tries_have_an_end_and_pauses_grow(server: Running, new: New, paused: list[float]) -> None:
    transport = Losing(100)
    with httpx.Client(transport=transport) as http:
        collection = Sheaf(server.url, http=http, retries=Retries(tries=6, first_s=1, longest_s=4)).collection("c")
        with pytest.raises(Unavailable, match="does not answer: the connection was lost") as caught:
            collection.count()
    assert (len(transport.sent), caught.value.code) == (6, "no_answer")
    assert all(0 <= pause <= bound for pause, bound in zip(paused, [1, 2, 4, 4, 4], strict=True))


def test_what_would_be_done_twice_is_sent_once(server: Running, new: New, paused: list[float]) -> None:
    name = new().name
    for ask in (lambda c: c.rebuild(), lambda c: c.import_documents(ANIMALS)):
        transport = Losing(1)
        with httpx.Client(transport=transport) as http, pytest.raises(Unavailable):
            ask(Sheaf(server.url, http=http).collection(name))
        assert (len(transport.sent), paused) == (1, [])


def test_a_refusal_is_not_asked_again(server: Running, paused: list[float]) -> None:
    transport = Losing(0)
    with httpx.Client(transport=transport) as http, pytest.raises(RequestError):
        Sheaf(server.url, http=http).collection("none").count()
    assert (len(transport.sent), paused) == (1, [])


def test_the_servers_own_pause_is_kept(tmp_path: Any, paused: list[float]) -> None:
    key = make_key()
    keys = (ApiKey(name="slow", sha256=hash_of(key), scopes=("admin",)),)
    models = {"words": DeterministicModel(type="deterministic", dim=4)}
    running = Running(Settings(indexes=tmp_path, models=models, keys=keys, rate=0.01)).opened()
    try:
        with Sheaf(running.url, key, retries=Retries(tries=3)) as sheaf:
            sheaf.info()
            with pytest.raises(TooOften, match="asks more often") as caught:
                sheaf.info()
            # As far as one waits for it at all: a minute and more is the caller's to decide.
            assert (int(caught.value.headers["Retry-After"]) > 60, paused) == (True, [])
    finally:
        running.stop()
    retries, short = Retries(), TooOften("too often", 7)
    assert retries.pause(short, 1, 0) == 7
    assert retries.pause(Conflict("taken"), 1, 0) is None
    loading = EncoderUnavailable("loading", code="encoder_loading")
    assert Retries(tries=1, loading_s=1e12).pause(loading, 9, 0) == 5
    assert Retries(loading_s=0).pause(loading, 1, 0) is None


def test_one_key_is_of_one_request(new: New) -> None:
    collection = new()
    assert collection.write(ANIMALS, idempotency_key="mine").written == 3
    collection.delete(["cat"])
    # The server answers what it answered, and writes nothing.
    assert collection.write(ANIMALS, idempotency_key="mine").written == 3
    assert collection.count() == 2
    with pytest.raises(ValueError, match="one idempotency_key is of one request"):
        collection.write(ANIMALS, batch=2, idempotency_key="another")


# For asyncio


@pytest.mark.parametrize(("one", "other"), [(Sheaf, AsyncSheaf), (Collection, AsyncCollection)])
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: [*inspect.signature(method).parameters] for name, method in methods if name[0] != "_"}

    assert surface(one) == surface(other)
    awaited = [name for name in surface(one) if name not in ("collection", "documents", "export")]
    assert all(inspect.iscoroutinefunction(getattr(other, name)) for name in awaited)


def test_the_same_is_done_for_asyncio(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drawn() -> AsyncIterator[Document]:
        for document in ANIMALS:
            yield document

    async def work() -> None:
        async with AsyncSheaf(server.url) as sheaf:
            animals = await sheaf.create("for-asyncio", model="words")
            told: list[tuple[int, int]] = []
            task = await animals.import_documents(drawn(), sent=lambda count, size: told.append((count, size)))
            assert (await sheaf.follow(task)).state == "succeeded"
            assert [count for count, _ in told] == [1, 2, 3]
            assert told[-1][1] == sum(len(json.dumps(one.body())) + 1 for one in ANIMALS)
            assert [one async for one in animals.documents(page=2)] == ANIMALS
            assert [one async for one in animals.export()] == ANIMALS
            with pytest.raises(NotFound):
                await anext(sheaf.collection("none").export())
            assert [hit.id for hit in await animals.search("a dog barks", k=1)] == ["dog"]
            assert (await animals.write([Document("cow", "a cow")])).written == 1
            found = await asyncio.gather(*(animals.search(text, k=1) for text in ("cow", "eggs", "mat")))
            assert [answer.hits[0].id for answer in found] == ["cow", "hen", "cat"]
            with pytest.raises(NotFound):
                await animals.get("none")
            other = await (await sheaf.create("of-lists", model="words")).import_documents(ANIMALS)
            await sheaf.follow(other)
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        monkeypatch.setattr(asynchronous, "asyncio", SimpleNamespace(sleep=sleep))
        async with AsyncSheaf("http://127.0.0.1:9", retries=Retries(tries=3)) as nobody:
            with pytest.raises(Unavailable, match="does not answer"):
                await nobody.info()
        assert len(pauses) == 2

    asyncio.run(work())
