"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
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
    lines_of,
    search_body,
)
from app.client.sending import Request, Response, Retries, Steps, error_of, write

T = TypeVar("T")


class AsyncSheaf:
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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """key: one of the server's, with the scopes of what is asked. timeout_s: without a byte of an answer. http: a
        client of the caller's, which he closes; by default one that knows nothing of proxies in the environment."""
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._own = http is None
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False) if http is None else http
        self._do = Operations(self.url, retries or Retries())

    async def __aenter__(self) -> AsyncSheaf:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Its connections."""
        if self._own:
            await self._http.aclose()

    async def info(self) -> Json:
        """The server's version, its models and limits, and what the key may do."""
        return await self._run(self._do.json(Request("GET", "/v1/info")))

    async def collections(self) -> list[Json]:
        """All that the key reaches, as the server describes them."""
        found = await self._run(self._do.json(Request("GET", "/v1/collections")))
        return list(found["collections"])

    def collection(self, name: str) -> AsyncCollection:
        """A collection or an alias, whether it is there or not: nothing is asked."""
        return AsyncCollection(self, name)

    async def create(
        self,
        name: str,
        *,
        model: str | None = "builtin",
        kind: Literal["multi_vector", "dense", "sequence"] = "multi_vector",
        dim: int | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> AsyncCollection:
        """A new collection. model: an encoder of the server, None for callers' vectors, of which dim is needed.
        options: the other fields of the API, such as similarity, precision, lexical, passages.

        Raises Conflict (collection_exists)."""
        encoder: Json = {"model": model, "kind": kind, **({} if dim is None else {"dim": dim})}
        await self._run(self._do.create(name, {"encoder": encoder, **options}, idempotency_key))
        return AsyncCollection(self, name)

    async def search(
        self, collections: Sequence[str], query: str | None = None, *, vectors: ArrayLike | None = None, **options: Any
    ) -> Answer:
        """Several collections or aliases at once; each hit's `raw` names its own."""
        body = search_body(query, vectors, options)
        return await self._run(self._do.search_all(collections, body))

    @overload
    async def embed(self, texts: Sequence[str], *, model: str = ..., input_type: str = ...) -> Vectors: ...

    @overload
    async def embed(
        self, texts: Sequence[str], *, model: str = ..., input_type: str = ..., tokens: Literal[True]
    ) -> list[Vectors]: ...

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str = "builtin",
        input_type: str = "document",
        tokens: bool = False,
    ) -> Vectors | list[Vectors]:
        """(n, dim) float32, a vector a text; tokens: n matrices of token vectors. input_type: query or document."""
        return await self._run(self._do.embed(texts, model, input_type, tokens))

    async def rerank(
        self, query: str, texts: Sequence[str], *, model: str = "builtin", top: int | None = None
    ) -> list[tuple[int, float]]:
        """The places of the texts with their scores, the best first."""
        return await self._run(self._do.rerank(query, texts, model, top))

    async def task(self, id: str) -> Task:
        return await self._run(self._do.task(id))

    async def follow(
        self,
        task: Task | str,
        *,
        progress: Callable[[Task], None] | None = None,
        bad_line: BadLine | None = None,
    ) -> Task:
        """Waits until it has succeeded. progress: told of it at each look; bad_line: of each line that was not applied.

        Raises TaskFailed."""
        id = task if isinstance(task, str) else task.id
        return await self._run(self._do.follow(id, progress, bad_line))

    async def cancel(self, task: Task | str) -> Task:
        return await self._run(self._do.cancel(task if isinstance(task, str) else task.id))

    async def aliases(self) -> dict[str, str]:
        """The collection of each."""
        found = await self._run(self._do.json(Request("GET", "/v1/aliases")))
        return {one["alias"]: one["collection"] for one in found["aliases"]}

    async def point(self, alias: str, collection: str) -> None:
        """Makes an alias, or points it elsewhere, in one step."""
        path = f"/v1/aliases/{quote(alias, safe='')}"
        await self._run(self._do.json(Request("PUT", path, {"collection": collection})))

    async def ask(self, method: str, path: str, body: Any = None, *, again: bool | None = None) -> Json:
        """Anything else of the API. again: whether it may be sent a second time; by default what changes nothing."""
        may = method in ("GET", "HEAD", "PUT", "DELETE") if again is None else again
        return await self._run(self._do.json(Request(method, path, body, again=may)))

    async def _run(self, steps: Steps[T]) -> T:
        answer: Response | Exception | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Request):
                answer = await self._sent(step)
            else:
                await asyncio.sleep(step)
                answer = None

    async def _sent(self, request: Request) -> Response | Exception:
        headers = {**self._headers, **request.headers}
        if request.body is not None:
            headers["Content-Type"] = request.media
        try:
            answer = await self._http.request(
                request.method,
                self.url + request.path,
                params=request.params or None,
                content=request.content,
                headers=headers,
            )
        except httpx.HTTPError as error:
            return error
        return Response(answer.status_code, answer.headers, answer.content)

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come."""
        headers, params = {**self._headers, **request.headers}, request.params
        try:
            asked = self._http.stream(request.method, self.url + request.path, params=params, headers=headers)
            async with asked as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    error = error_of(self.url, Response(answer.status_code, answer.headers, answer.content))
                    assert error is not None, "it is refused"
                    raise error
                async for piece in answer.aiter_bytes():
                    yield piece
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error

    async def _stream(
        self, path: str, pieces: AsyncIterable[bytes], on_error: str, reading: Mapping[str, Any] | None = None
    ) -> Task:
        headers = {**self._headers, "Content-Type": "application/octet-stream" if reading else "application/x-ndjson"}
        params = {"on_error": on_error, **(reading or {})}
        try:
            answer = await self._http.post(self.url + path, params=params, content=pieces, headers=headers)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from error
        return self._do.begun(Response(answer.status_code, answer.headers, answer.content))


class AsyncCollection:
    """A collection of a server, by its name or an alias."""

    def __init__(self, sheaf: AsyncSheaf, name: str) -> None:
        self.sheaf, self.name = sheaf, name
        self._do, self._run = sheaf._do, sheaf._run

    async def describe(self, *, matrix: bool = False) -> Json:
        """As the server does. matrix: with all of that of its similarity, as ``create`` takes it. Raises NotFound."""
        params = {"include": "matrix"} if matrix else {}
        return await self._run(self._do.json(Request("GET", operations.at(self.name), params=params)))

    async def declare(self, schema: Mapping[str, str | None] | None) -> Json:
        """Declares the types of metadata fields; None takes a declaration back, or all of them. The collection as the
        server describes it then: `unfit` counts the documents that have something else there."""
        body = {"schema": None if schema is None else dict(schema)}
        return await self._run(self._do.json(write("PATCH", operations.at(self.name), body, None)))

    async def drop(self) -> None:
        """Deletes the collection, for good."""
        await self._run(self._do.json(Request("DELETE", operations.at(self.name))))

    async def write(
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
            done += await self._run(self._do.write(self.name, some, indexed, idempotency_key))
        return done

    async def put(
        self, document: Given, *, version: int | None = None, new: bool = False, idempotency_key: str | None = None
    ) -> int | None:
        """One document; its version. version: that stands, new: that none does, else PreconditionFailed."""
        return await self._run(self._do.put(self.name, document, version, new, idempotency_key))

    async def patch(
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
        body = operations.patch_body(metadata, title, text, vectors, sparse)
        return await self._run(self._do.patch(self.name, id, body, replace, version, idempotency_key))

    async def get(self, id: str | int, *, include: Include = PARTS) -> Document:
        """With its version. Raises NotFound."""
        return await self._run(self._do.get(self.name, id, include))

    async def get_many(self, ids: Sequence[str | int], *, include: Include = PARTS) -> list[Document]:
        """Those that are there, in the order of the ids."""
        return await self._run(self._do.get_many(self.name, ids, include))

    async def documents(
        self, *, filter: Json | None = None, include: Include = PARTS, page: int = 500
    ) -> AsyncIterator[Document]:
        """All that pass the filter, by the bytes of their ids; so many are asked for at a time."""
        cursor: str | None = None
        while True:
            found = await self._run(self._do.page(self.name, page, cursor, filter, include))
            for document in found.documents:
                yield document
            cursor = found.next
            if cursor is None:
                return

    async def export(self, *, filter: Json | None = None, include: Include = PARTS) -> AsyncIterator[Document]:
        """All that pass the filter, of one moment, in the order of their last writes: streamed, so that memory does not
        grow with them. What the collection's callers gave comes back, of vectors where they are included, and goes into
        another as it is. It is asked once. Raises Unavailable where it ends early."""
        lined = Lined()
        async for piece in self.sheaf._pieces(operations.export_request(self.name, filter, include)):
            for document in lined.take(piece):
                yield document

    async def export_file(
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
            async for piece in self.sheaf._pieces(operations.export_request(self.name, filter, include, format)):
                file.write(piece)
            return file.tell()

    async def delete(
        self, ids: Sequence[str | int] | None = None, *, filter: Json | None = None, idempotency_key: str | None = None
    ) -> int:
        """How many there were of these ids, or that pass the filter."""
        return await self._run(self._do.remove(self.name, ids, filter, idempotency_key))

    async def count(self, filter: Json | None = None) -> int:
        return await self._run(self._do.count(self.name, filter))

    async def fields(self) -> list[Json]:
        """The metadata fields that documents have: each `name` as filters say it, the `shapes` of its values, and the
        declared `type` or None."""
        return await self._run(self._do.fields(self.name))

    async def history(self) -> list[Json]:
        """What its generations were, the present one last: when and why each began, with how many documents, and the
        first stage that found them."""
        return await self._run(self._do.history(self.name))

    async def search(
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
        return await self._run(self._do.search(self.name, search_body(query, vectors, given)))

    async def search_batch(self, searches: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Several at once, encoded together: the arguments of ``search``, or any fields of the API."""
        bodies = [search_body(one.get("query"), None, {**one, "query": None}) for one in searches]
        return await self._run(self._do.search_batch(self.name, bodies))

    async def search_vectors(
        self,
        vectors: ArrayLike,
        *,
        k: int = 10,
        filter: Json | None = None,
        candidates: int | None = None,
        exact: bool = False,
        values: bool = False,
    ) -> Table:
        """As ``Collection.search_vectors``: many searches, as arrays."""
        include = "values" if values else None
        options = {"k": k, "filter": filter, "candidates": candidates, "exact": exact, "include": include}
        return await self._run(self._do.search_vectors(self.name, vectors, options))

    async def import_documents(
        self,
        documents: Iterable[Given] | AsyncIterable[Given],
        *,
        on_error: Literal["stop", "skip"] = "stop",
        sent: Sent | None = None,
    ) -> Task:
        """Streams any number of documents in one request; memory does not grow with them. It is applied by the task
        that it answers, which ``follow`` waits for. It is sent once: whether a broken one came through, tasks tell."""
        return await self.import_lines(_lines(documents, sent), on_error=on_error)

    async def import_lines(self, lines: AsyncIterable[bytes], *, on_error: Literal["stop", "skip"] = "stop") -> Task:
        """The same of a ready body, in pieces: NDJSON, a document a line."""
        return await self.sheaf._stream(f"{operations.at(self.name)}/import", lines, on_error)

    async def import_file(
        self, path: str | Path, *, on_error: Literal["stop", "skip"] = "stop", **reading: Any
    ) -> Task:
        """The same of a file, which the server reads by its form: CSV, JSON, Parquet, XLSX, PDF, Markdown and others.
        reading: as the import's parameters: format (by default what the name says), id of a file that is one document
        (by default its name), id_field, text_field, title_field, vector_field, select, rename, header, delimiter."""
        address, asked = f"{operations.at(self.name)}/import", operations.reading_of(Path(path), reading)
        return await self.sheaf._stream(address, _each(operations.pieces_of(Path(path))), on_error, asked)

    async def link_neighbours(self, links: int = 32) -> Task:
        """Builds the graph along which searches by a scorer go, of so many links a passage; 0 takes it away."""
        return await self._run(self._do.begin(self.name, "neighbours", {"links": links}))

    async def rebuild(self) -> Task:
        """Makes every index anew."""
        return await self._run(self._do.begin(self.name, "rebuild", None))

    async def snapshot(self) -> Task:
        """Keeps the collection of this moment; the snapshot has the task's id."""
        return await self._run(self._do.begin(self.name, "snapshots", None))

    async def judge(self, judgements: str, queries: Iterable[Mapping[str, Any]]) -> Json:
        """Keeps a set of judged queries: {"id", "query" or "vector" or "vectors", "grades": {document: grade}}."""
        return await self._run(self._do.judge(self.name, judgements, queries))

    async def judge_file(self, judgements: str, path: str | Path, *, split: str = "test") -> Json:
        """The same of a file, by its suffix: .ndjson or .jsonl, a query with its grades a line or BEIR's queries; .tsv,
        .txt or .qrels, queries as `id<TAB>text`, or judgements of TREC or BEIR, of queries that the set has by then;
        .zip, a BEIR folder. split: of that, which judgements."""
        return await self._run(self._do.judge_file(self.name, judgements, Path(path), split))

    async def grade(self, judgements: str, grades: Iterable[Mapping[str, Any]]) -> Json:
        """Adds judgements one by one: {"query": id, "text", "document", "grade"}; a grade of None takes it back."""
        return await self._run(self._do.grade(self.name, judgements, grades))

    async def pool(self, judgements: str, **request: Any) -> Json:
        """What to judge next: hits of several settings that the set has no grade of. request: queries or logged,
        settings, depth, most."""
        return await self._run(self._do.pool(self.name, judgements, request))

    async def judgements(self, judgements: str) -> list[Json]:
        """The queries of a set, as they can be kept again."""
        return await self._run(self._do.judgements(self.name, judgements))

    async def judgements_as(
        self, judgements: str, form: Literal["ndjson", "qrels", "queries", "beir"], *, split: str = "test"
    ) -> bytes:
        """A set as a file: lines, judgements or queries as TREC has them, or both in a ZIP as BEIR has them."""
        return await self._run(self._do.judgements_as(self.name, judgements, form, split))

    async def tune_by(self, judgements: str, *, progress: Callable[[Task], None] | None = None, **request: Any) -> Json:
        """Chooses by a set of judged queries: measure, parts (fusion, width, passages), documents; apply=True sets what
        its test carries. Gives the report. Raises TaskFailed."""
        return await self._run(self._do.tune_by(self.name, judgements, request, progress))

    async def learn_relevance(self, judgements: str, **request: Any) -> Json:
        """Teaches the collection from a set of judgements how relevant hits are, for searches with `relevance=True`.
        request: mode, depth, queries. Gives how well that was learned."""
        return await self._run(self._do.learn_relevance(self.name, judgements, request))

    async def relevance(self) -> list[Json]:
        """What was learned so, by mode."""
        return await self._run(self._do.relevance(self.name))

    async def map(self, *, points: int = 10_000) -> Json:
        """At most so many documents as points of a plane: ids, titles, and x and y as float32 arrays from -1 to 1;
        variance, the share of each axis; generation; of, how many documents there are."""
        return await self._run(self._do.map(self.name, points))

    async def searched(self, *, below: float | None = None, most: int = 20) -> Json:
        """What users searched, where the server keeps it: without_hits (or none of a score of `below`), frequent,
        slowest. The key needs the scope `admin`."""
        return await self._run(self._do.searched(self.name, below, most))

    async def evaluate(self, *, progress: Callable[[Task], None] | None = None, **request: Any) -> Json:
        """Measures ways to search: judgements, queries, known_items or classes; settings, measures, per_query. Gives
        the report, and waits for it where it takes a task. Raises TaskFailed."""
        return await self._run(self._do.evaluate(self.name, request, progress))


async def _lines(documents: Iterable[Given] | AsyncIterable[Given], sent: Sent | None) -> AsyncIterator[bytes]:
    if not isinstance(documents, AsyncIterable):
        for piece in lines_of(documents, sent):
            yield piece
        return
    # Each document is a piece of its own: what comes slowly is not held back.
    count, size = 0, 0
    async for document in documents:
        (piece,) = lines_of([document], None)
        yield piece
        count, size = count + 1, size + len(piece)
        if sent is not None:
            sent(count, size)


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
