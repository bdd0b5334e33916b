"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, overload
from urllib.parse import quote

import httpx
from numpy.typing import ArrayLike

from app.client import operations
from app.client.documents import Answer, Document, Json, Table, Task, Vectors, Written
from app.client.failures import no_answer
from app.client.files import whole_file
from app.client.operations import (
    PARTS,
    BadLine,
    Given,
    Include,
    Lined,
    Operations,
    Sent,
    batches,
    export_request,
    lines_of,
    patch_body,
    search_body,
)
from app.client.sending import Request, Response, Retries, Steps, error_of, write

T = TypeVar("T")


class Sheaf:
    """A server. Raises the server's errors, and Unavailable where it does not answer.

    Reads and searches are sent again where that may help; so are writes, each under an Idempotency-Key of its own, so
    that it is applied once. `idempotency_key` gives a write the caller's own.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """key: one of the server's, with the scopes of what is asked. timeout_s: without a byte of an answer. http: a
        client of the caller's, which he closes; by default one that knows nothing of proxies in the environment."""
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._own = http is None
        self._http = httpx.Client(timeout=timeout_s, trust_env=False) if http is None else http
        self._do = Operations(self.url, retries or Retries())

    def __enter__(self) -> Sheaf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections."""
        if self._own:
            self._http.close()

    def info(self) -> Json:
        """The server's version, its models and limits, and what the key may do."""
        return self._run(self._do.json(Request("GET", "/v1/info")))

    def collections(self) -> list[Json]:
        """All that the key reaches, as the server describes them."""
        found = self._run(self._do.json(Request("GET", "/v1/collections")))
        return list(found["collections"])

    def collection(self, name: str) -> Collection:
        """A collection or an alias, whether it is there or not: nothing is asked."""
        return Collection(self, name)

    def create(
        self,
        name: str,
        *,
        model: str | None = "builtin",
        kind: Literal["multi_vector", "dense", "sequence"] = "multi_vector",
        dim: int | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Collection:
        """A new collection. model: an encoder of the server, None for callers' vectors, of which dim is needed.
        options: the other fields of the API, such as similarity, precision, lexical, passages.

        Raises Conflict (collection_exists)."""
        encoder: Json = {"model": model, "kind": kind, **({} if dim is None else {"dim": dim})}
        self._run(self._do.create(name, {"encoder": encoder, **options}, idempotency_key))
        return Collection(self, name)

    def search(
        self, collections: Sequence[str], query: str | None = None, *, vectors: ArrayLike | None = None, **options: Any
    ) -> Answer:
        """Several collections or aliases at once; each hit's `raw` names its own."""
        body = search_body(query, vectors, options)
        return self._run(self._do.search_all(collections, body))

    @overload
    def embed(self, texts: Sequence[str], *, model: str = ..., input_type: str = ...) -> Vectors: ...

    @overload
    def embed(
        self, texts: Sequence[str], *, model: str = ..., input_type: str = ..., tokens: Literal[True]
    ) -> list[Vectors]: ...

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str = "builtin",
        input_type: str = "document",
        tokens: bool = False,
    ) -> Vectors | list[Vectors]:
        """(n, dim) float32, a vector a text; tokens: n matrices of token vectors. input_type: query or document."""
        return self._run(self._do.embed(texts, model, input_type, tokens))

    def rerank(
        self, query: str, texts: Sequence[str], *, model: str = "builtin", top: int | None = None
    ) -> list[tuple[int, float]]:
        """The places of the texts with their scores, the best first."""
        return self._run(self._do.rerank(query, texts, model, top))

    def task(self, id: str) -> Task:
        return self._run(self._do.task(id))

    def follow(
        self,
        task: Task | str,
        *,
        progress: Callable[[Task], None] | None = None,
        bad_line: BadLine | None = None,
    ) -> Task:
        """Waits until it has succeeded. progress: told of it at each look; bad_line: of each line that was not applied.

        Raises TaskFailed."""
        id = task if isinstance(task, str) else task.id
        return self._run(self._do.follow(id, progress, bad_line))

    def cancel(self, task: Task | str) -> Task:
        return self._run(self._do.cancel(task if isinstance(task, str) else task.id))

    def aliases(self) -> dict[str, str]:
        """The collection of each."""
        found = self._run(self._do.json(Request("GET", "/v1/aliases")))
        return {one["alias"]: one["collection"] for one in found["aliases"]}

    def point(self, alias: str, collection: str) -> None:
        """Makes an alias, or points it elsewhere, in one step."""
        path = f"/v1/aliases/{quote(alias, safe='')}"
        self._run(self._do.json(Request("PUT", path, {"collection": collection})))

    def ask(self, method: str, path: str, body: Any = None, *, again: bool | None = None) -> Json:
        """Anything else of the API. again: whether it may be sent a second time; by default what changes nothing."""
        may = method in ("GET", "HEAD", "PUT", "DELETE") if again is None else again
        return self._run(self._do.json(Request(method, path, body, again=may)))

    def _run(self, steps: Steps[T]) -> T:
        answer: Response | Exception | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Request):
                answer = self._sent(step)
            else:
                time.sleep(step)
                answer = None

    def _sent(self, request: Request) -> Response | Exception:
        headers = {**self._headers, **request.headers}
        if request.body is not None:
            headers["Content-Type"] = request.media
        try:
            answer = self._http.request(
                request.method,
                self.url + request.path,
                params=request.params or None,
                content=request.content,
                headers=headers,
            )
        except httpx.HTTPError as error:
            return error
        return Response(answer.status_code, answer.headers, answer.content)

    def _pieces(self, request: Request) -> Iterator[bytes]:
        """The bytes of an answer as they come."""
        headers, params = {**self._headers, **request.headers}, request.params
        try:
            with self._http.stream(request.method, self.url + request.path, params=params, headers=headers) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    error = error_of(self.url, Response(answer.status_code, answer.headers, answer.content))
                    assert error is not None, "it is refused"
                    raise error
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error

    def _stream(
        self, path: str, pieces: Iterable[bytes], on_error: str, reading: Mapping[str, Any] | None = None
    ) -> Task:
        headers = {**self._headers, "Content-Type": "application/octet-stream" if reading else "application/x-ndjson"}
        params = {"on_error": on_error, **(reading or {})}
        try:
            answer = self._http.post(self.url + path, params=params, content=pieces, headers=headers)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error
        return self._do.begun(Response(answer.status_code, answer.headers, answer.content))


class Collection:
    """A collection of a server, by its name or an alias."""

    def __init__(self, sheaf: Sheaf, name: str) -> None:
        self.sheaf, self.name = sheaf, name
        self._do, self._run = sheaf._do, sheaf._run

    def describe(self, *, matrix: bool = False) -> Json:
        """As the server does. matrix: with all of that of its similarity, as ``create`` takes it. Raises NotFound."""
        params = {"include": "matrix"} if matrix else {}
        return self._run(self._do.json(Request("GET", operations.at(self.name), params=params)))

    def declare(self, schema: Mapping[str, str | None] | None) -> Json:
        """Declares the types of metadata fields; None takes a declaration back, or all of them. The collection as the
        server describes it then: `unfit` counts the documents that have something else there."""
        body = {"schema": None if schema is None else dict(schema)}
        return self._run(self._do.json(write("PATCH", operations.at(self.name), body, None)))

    def drop(self) -> None:
        """Deletes the collection, for good."""
        self._run(self._do.json(Request("DELETE", operations.at(self.name))))

    def write(
        self,
        documents: Iterable[Given],
        *,
        batch: int = 1_000,
        indexed: bool = False,
        idempotency_key: str | None = None,
    ) -> Written:
        """Inserts documents, or replaces those whose id is there; so many a request, each of which is applied whole.
        indexed: waits until they are in an index, too. idempotency_key: of one request, so of no more than a batch."""
        done = Written()
        for number, some in enumerate(batches(documents, batch)):
            if number and idempotency_key is not None:
                raise ValueError(f"one idempotency_key is of one request: expected at most {batch:,} documents")
            done += self._run(self._do.write(self.name, some, indexed, idempotency_key))
        return done

    def put(
        self, document: Given, *, version: int | None = None, new: bool = False, idempotency_key: str | None = None
    ) -> int | None:
        """One document; its version. version: that stands, new: that none does, else PreconditionFailed."""
        return self._run(self._do.put(self.name, document, version, new, idempotency_key))

    def patch(
        self,
        id: str | int,
        metadata: Mapping[str, Any] | None = None,
        *,
        replace: bool = False,
        title: str | None = None,
        text: str | None = None,
        vectors: ArrayLike | None = None,
        sparse: tuple[Sequence[int], Sequence[float]] | None = None,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Document:
        """Changes what is given of a document; the rest stays. In metadata None removes a key; with `replace` they take
        the place of those that stand, and None is a value. sparse: `([], [])` takes it away."""
        body = patch_body(metadata, title, text, vectors, sparse)
        return self._run(self._do.patch(self.name, id, body, replace, version, idempotency_key))

    def get(self, id: str | int, *, include: Include = PARTS) -> Document:
        """With its version. Raises NotFound."""
        return self._run(self._do.get(self.name, id, include))

    def get_many(self, ids: Sequence[str | int], *, include: Include = PARTS) -> list[Document]:
        """Those that are there, in the order of the ids."""
        return self._run(self._do.get_many(self.name, ids, include))

    def documents(self, *, filter: Json | None = None, include: Include = PARTS, page: int = 500) -> Iterator[Document]:
        """All that pass the filter, by the bytes of their ids; so many are asked for at a time."""
        cursor: str | None = None
        while True:
            found = self._run(self._do.page(self.name, page, cursor, filter, include))
            yield from found.documents
            cursor = found.next
            if cursor is None:
                return

    def export(self, *, filter: Json | None = None, include: Include = PARTS) -> Iterator[Document]:
        """All that pass the filter, of one moment, in the order of their last writes: streamed, so that memory does not
        grow with them. What the collection's callers gave comes back, of vectors where they are included, and goes into
        another as it is. It is asked once. Raises Unavailable where it ends early."""
        lined = Lined()
        for piece in self.sheaf._pieces(export_request(self.name, filter, include)):
            yield from lined.take(piece)

    def export_file(
        self,
        path: Path | str,
        *,
        format: Literal["parquet", "ndjson"] = "parquet",
        filter: Json | None = None,
        include: Include = PARTS,
    ) -> int:
        """The same into a file, which is there when all of it is; its bytes. Parquet has metadata as JSON, vectors as
        lists of float32. Raises Unavailable where it ends early, OSError."""
        with whole_file(path) as file:
            for piece in self.sheaf._pieces(export_request(self.name, filter, include, format)):
                file.write(piece)
            return file.tell()

    def delete(
        self, ids: Sequence[str | int] | None = None, *, filter: Json | None = None, idempotency_key: str | None = None
    ) -> int:
        """How many there were of these ids, or that pass the filter."""
        return self._run(self._do.remove(self.name, ids, filter, idempotency_key))

    def count(self, filter: Json | None = None) -> int:
        return self._run(self._do.count(self.name, filter))

    def fields(self) -> list[Json]:
        """The metadata fields that documents have: each `name` as filters say it, the `shapes` of its values, and the
        declared `type` or None."""
        return self._run(self._do.fields(self.name))

    def history(self) -> list[Json]:
        """What its generations were, the present one last: when and why each began, with how many documents, and the
        first stage that found them."""
        return self._run(self._do.history(self.name))

    def search(
        self,
        query: str | None = None,
        *,
        vectors: ArrayLike | None = None,
        k: int = 10,
        mode: str | None = None,
        filter: Json | None = None,
        include: Include = PARTS,
        **options: Any,
    ) -> Answer:
        """The best documents for a text, for vectors, (dim,) or (n, dim), or both. options: the other fields of the
        API, such as exact, explain, facets, rerank, like, sort, cursor."""
        given = {"k": k, "mode": mode, "filter": filter, "include": list(include), **options}
        return self._run(self._do.search(self.name, search_body(query, vectors, given)))

    def search_batch(self, searches: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Several at once, encoded together: the arguments of ``search``, or any fields of the API."""
        bodies = [search_body(one.get("query"), None, {**one, "query": None}) for one in searches]
        return self._run(self._do.search_batch(self.name, bodies))

    def search_vectors(
        self,
        vectors: ArrayLike,
        *,
        k: int = 10,
        filter: Json | None = None,
        candidates: int | None = None,
        exact: bool = False,
        values: bool = False,
    ) -> Table:
        """Many searches by vectors at once, sent and answered as arrays: (queries, dim), or (queries, vectors, dim) in
        a multi-vector collection. Each finds what it would find alone. values: with what the documents carry."""
        include = "values" if values else None
        options = {"k": k, "filter": filter, "candidates": candidates, "exact": exact, "include": include}
        return self._run(self._do.search_vectors(self.name, vectors, options))

    def import_documents(
        self,
        documents: Iterable[Given],
        *,
        on_error: Literal["stop", "skip"] = "stop",
        sent: Sent | None = None,
    ) -> Task:
        """Streams any number of documents in one request; memory does not grow with them. It is applied by the task
        that it answers, which ``follow`` waits for. It is sent once: whether a broken one came through, tasks tell."""
        return self.import_lines(lines_of(documents, sent), on_error=on_error)

    def import_lines(self, lines: Iterable[bytes], *, on_error: Literal["stop", "skip"] = "stop") -> Task:
        """The same of a ready body, in pieces: NDJSON, a document a line."""
        return self.sheaf._stream(f"{operations.at(self.name)}/import", lines, on_error)

    def import_file(self, path: str | Path, *, on_error: Literal["stop", "skip"] = "stop", **reading: Any) -> Task:
        """The same of a file, which the server reads by its form: CSV, JSON, Parquet, XLSX, PDF, Markdown and others.
        reading: as the import's parameters: format (by default what the name says), id of a file that is one document
        (by default its name), id_field, text_field, title_field, vector_field, select, rename, header, delimiter."""
        address, asked = f"{operations.at(self.name)}/import", operations.reading_of(Path(path), reading)
        return self.sheaf._stream(address, operations.pieces_of(Path(path)), on_error, asked)

    def link_neighbours(self, links: int = 32) -> Task:
        """Builds the graph along which searches by a scorer go, of so many links a passage; 0 takes it away."""
        return self._run(self._do.begin(self.name, "neighbours", {"links": links}))

    def rebuild(self) -> Task:
        """Makes every index anew."""
        return self._run(self._do.begin(self.name, "rebuild", None))

    def snapshot(self) -> Task:
        """Keeps the collection of this moment; the snapshot has the task's id."""
        return self._run(self._do.begin(self.name, "snapshots", None))

    def judge(self, judgements: str, queries: Iterable[Mapping[str, Any]]) -> Json:
        """Keeps a set of judged queries: {"id", "query" or "vector" or "vectors", "grades": {document: grade}}."""
        return self._run(self._do.judge(self.name, judgements, queries))

    def judge_file(self, judgements: str, path: str | Path, *, split: str = "test") -> Json:
        """The same of a file, by its suffix: .ndjson or .jsonl, a query with its grades a line or BEIR's queries; .tsv,
        .txt or .qrels, queries as `id<TAB>text`, or judgements of TREC or BEIR, of queries that the set has by then;
        .zip, a BEIR folder. split: of that, which judgements."""
        return self._run(self._do.judge_file(self.name, judgements, Path(path), split))

    def grade(self, judgements: str, grades: Iterable[Mapping[str, Any]]) -> Json:
        """Adds judgements one by one: {"query": id, "text", "document", "grade"}; a grade of None takes it back."""
        return self._run(self._do.grade(self.name, judgements, grades))

    def pool(self, judgements: str, **request: Any) -> Json:
        """What to judge next: hits of several settings that the set has no grade of. request: queries or logged,
        settings, depth, most."""
        return self._run(self._do.pool(self.name, judgements, request))

    def judgements(self, judgements: str) -> list[Json]:
        """The queries of a set, as they can be kept again."""
        return self._run(self._do.judgements(self.name, judgements))

    def judgements_as(
        self, judgements: str, form: Literal["ndjson", "qrels", "queries", "beir"], *, split: str = "test"
    ) -> bytes:
        """A set as a file: lines, judgements or queries as TREC has them, or both in a ZIP as BEIR has them."""
        return self._run(self._do.judgements_as(self.name, judgements, form, split))

    def tune_by(self, judgements: str, *, progress: Callable[[Task], None] | None = None, **request: Any) -> Json:
        """Chooses by a set of judged queries: measure, parts (fusion, width, passages), documents; apply=True sets what
        its test carries. Gives the report. Raises TaskFailed."""
        return self._run(self._do.tune_by(self.name, judgements, request, progress))

    def learn_relevance(self, judgements: str, **request: Any) -> Json:
        """Teaches the collection from a set of judgements how relevant hits are, for searches with `relevance=True`.
        request: mode, depth, queries. Gives how well that was learned."""
        return self._run(self._do.learn_relevance(self.name, judgements, request))

    def relevance(self) -> list[Json]:
        """What was learned so, by mode."""
        return self._run(self._do.relevance(self.name))

    def map(self, *, points: int = 10_000) -> Json:
        """At most so many documents as points of a plane: ids, titles, and x and y as float32 arrays from -1 to 1;
        variance, the share of each axis; generation; of, how many documents there are."""
        return self._run(self._do.map(self.name, points))

    def searched(self, *, below: float | None = None, most: int = 20) -> Json:
        """What users searched, where the server keeps it: without_hits (or none of a score of `below`), frequent,
        slowest. The key needs the scope `admin`."""
        return self._run(self._do.searched(self.name, below, most))

    def evaluate(self, *, progress: Callable[[Task], None] | None = None, **request: Any) -> Json:
        """Measures ways to search: judgements, queries, known_items or classes; settings, measures, per_query. Gives
        the report, and waits for it where it takes a task. Raises TaskFailed."""
        return self._run(self._do.evaluate(self.name, request, progress))
