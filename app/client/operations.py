"""Each operation once, as steps (``app.client.sending``): what is asked, and what is made of the answer."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike

from app.client.documents import Answer, Document, Json, Listed, Table, Task, Vectors, Written, said, vector_field
from app.client.failures import TaskFailed
from app.client.sending import Request, Response, Retries, Steps, answered, as_json, asked, error_of, read_json, write

PIECE: Final = 2**18
"""Bytes of an import sent at a time."""
POLL_S: Final = 0.5
"""Between two looks at a task."""

Given: TypeAlias = Document | Mapping[str, Any]
"""A document, or the JSON object of one."""
Include: TypeAlias = Sequence[Literal["text", "metadata", "vectors", "values"]]
Sent: TypeAlias = Callable[[int, int], None]
"""Told how many documents and bytes of an import were sent."""
BadLine: TypeAlias = Callable[[int, str], None]
"""Told of each line that was not applied, from 1, and why."""
PARTS: Final = ("text", "metadata")
FORMS: Final = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".trec": "trec",
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".arrows": "arrow",
    ".feather": "arrow", ".npy": "npy", ".fvecs": "fvecs", ".h5": "hdf5", ".hdf5": "hdf5", ".md": "markdown",
    ".markdown": "markdown", ".txt": "text", ".text": "text", ".rst": "text", ".html": "html", ".htm": "html",
    ".xhtml": "html", ".pdf": "pdf", ".docx": "docx", ".zip": "zip",
}  # fmt: skip
"""Suffix of a file -> its form, as the server has them."""
JUDGED: Final = {
    **dict.fromkeys((".ndjson", ".jsonl"), "application/x-ndjson"),
    **dict.fromkeys((".tsv", ".txt", ".qrels"), "text/plain"),
    ".zip": "application/zip",
}
"""Suffix of a file of judged queries -> its content type."""
NAMED: Final = 512
"""Characters of a file's name that a task keeps."""
SINGLE: Final = ("markdown", "text", "html", "pdf", "docx")
"""Those that are one document."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one server."""

    url: str
    retries: Retries

    def json(self, request: Request) -> Steps[Json]:
        """What the server answers, as it is."""
        return asked(self.url, self.retries, request, lambda body: body)

    # The server

    def create(self, name: str, body: Json, key: str | None) -> Steps[Json]:
        return self.json(write("POST", "/v1/collections", {"name": name, **body}, key))

    def embed(self, texts: Sequence[str], model: str, input_type: str, tokens: bool) -> Steps[Vectors | list[Vectors]]:
        body = {
            "model": model,
            "input": list(texts),
            "input_type": input_type,
            "encoding_format": "base64",
            "vectors": "tokens" if tokens else "pooled",
        }

        def read(answer: Json) -> Vectors | list[Vectors]:
            made = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
            arrays = [array.astype(np.float32) for array in made]
            if not tokens:
                return np.stack(arrays)
            return [array.reshape(one["shape"]) for array, one in zip(arrays, answer["data"], strict=True)]

        return asked(self.url, self.retries, Request("POST", "/v1/embeddings", body), read)

    def rerank(self, query: str, texts: Sequence[str], model: str, top: int | None) -> Steps[list[tuple[int, float]]]:
        body = {"model": model, "query": query, "documents": list(texts), **({} if top is None else {"top_n": top})}

        def read(answer: Json) -> list[tuple[int, float]]:
            return [(one["index"], one["relevance_score"]) for one in answer["results"]]

        return asked(self.url, self.retries, Request("POST", "/v2/rerank", body), read)

    def search_all(self, collections: Sequence[str], body: Json) -> Steps[Answer]:
        request = Request("POST", "/v1/search", {"collections": list(collections), **body})
        return asked(self.url, self.retries, request, Answer.of)

    # Tasks

    def task(self, id: str, errors_after: int | None = None) -> Steps[Task]:
        params = {} if errors_after is None else {"errors_after": str(errors_after)}
        request = Request("GET", f"/v1/tasks/{quote(id, safe='')}", params=params)
        return asked(self.url, self.retries, request, Task.of)

    def cancel(self, id: str) -> Steps[Task]:
        request = Request("POST", f"/v1/tasks/{quote(id, safe='')}/cancel")
        return asked(self.url, self.retries, request, Task.of)

    def follow(self, id: str, progress: Callable[[Task], None] | None, bad_line: BadLine | None) -> Steps[Task]:
        """Until it has ended. Raises TaskFailed where it did not succeed."""
        after = 0
        while True:
            task = yield from self.task(id, after)
            for error in task.raw["errors"]:
                after = error["line"]
                if bad_line is not None:
                    bad_line(error["line"], error["message"])
            if progress is not None:
                progress(task)
            if task.raw["errors"]:
                continue
            if task.state == "succeeded":
                return task
            if task.ended:
                whole = yield from self.task(id)
                reasons = [error["message"] for error in whole.raw["errors"] if error["line"] == 0]
                reason = "; ".join(reasons) or f"{task.raw['errors_total']:,} faults"
                raise TaskFailed(f"task {id} of the server at {self.url} {task.state}: {reason}", whole.raw)
            yield POLL_S

    def begun(self, answer: Response) -> Task:
        """The task of an import whose body was sent. Raises the server's error."""
        error = error_of(self.url, answer)
        if error is not None:
            raise error
        return Task.of(read_json(answer))

    # A collection

    def write(self, name: str, documents: Sequence[Given], indexed: bool, key: str | None) -> Steps[Written]:
        body = {"documents": [body_of(document) for document in documents]}
        request = write("POST", f"{at(name)}/documents", body, key, params={"wait": "indexed"} if indexed else {})
        return asked(self.url, self.retries, request, _written)

    def put(self, name: str, document: Given, version: int | None, new: bool, key: str | None) -> Steps[int | None]:
        body = body_of(document)
        conditions = {} if version is None else {"If-Match": f'"{version}"'}
        conditions |= {"If-None-Match": "*"} if new else {}
        request = write("PUT", _at(name, body["id"]), body, key, headers=conditions)
        return asked(self.url, self.retries, request, lambda answer: answer.get("version"))

    def patch(
        self, name: str, id: str | int, body: Json, replace: bool, version: int | None, key: str | None
    ) -> Steps[Document]:
        conditions = {} if version is None else {"If-Match": f'"{version}"'}
        params = {"metadata": "replace"} if replace else {}
        request = write("PATCH", _at(name, id), body, key, params=params, headers=conditions)
        return asked(self.url, self.retries, request, Document.of)

    def get(self, name: str, id: str | int, include: Include) -> Steps[Document]:
        params: dict[str, Any] = {"include": list(include), "vectors_format": "base64"}
        return asked(self.url, self.retries, Request("GET", _at(name, id), params=params), Document.of)

    def get_many(self, name: str, ids: Sequence[str | int], include: Include) -> Steps[list[Document]]:
        body = {"ids": list(ids), "include": list(include), "vectors_format": "base64"}
        request = Request("POST", f"{at(name)}/documents/get", body)
        return asked(self.url, self.retries, request, lambda found: [*map(Document.of, found["documents"])])

    def page(self, name: str, limit: int, cursor: str | None, filter: Json | None, include: Include) -> Steps[Listed]:
        params: dict[str, Any] = {"limit": str(limit), "include": list(include), "vectors_format": "base64"}
        if cursor is not None:
            params["cursor"] = cursor
        if filter is not None:
            params["filter"] = json.dumps(filter)
        request = Request("GET", f"{at(name)}/documents", params=params)
        return asked(
            self.url,
            self.retries,
            request,
            lambda found: Listed([*map(Document.of, found["documents"])], found.get("next")),
        )

    def remove(self, name: str, ids: Sequence[str | int] | None, filter: Json | None, key: str | None) -> Steps[int]:
        if (ids is None) == (filter is None):
            raise ValueError("expected exactly one of ids and filter")
        body = {"ids": list(ids)} if ids is not None else {"filter": filter}
        request = write("POST", f"{at(name)}/delete", body, key)
        return asked(self.url, self.retries, request, lambda answer: int(answer["deleted"]))

    def count(self, name: str, filter: Json | None) -> Steps[int]:
        request = Request("POST", f"{at(name)}/count", {} if filter is None else {"filter": filter})
        return asked(self.url, self.retries, request, lambda answer: int(answer["count"]))

    def fields(self, name: str) -> Steps[list[Json]]:
        return asked(
            self.url, self.retries, Request("GET", f"{at(name)}/fields"), lambda answer: list(answer["fields"])
        )

    def history(self, name: str) -> Steps[list[Json]]:
        request = Request("GET", f"{at(name)}/history")
        return asked(self.url, self.retries, request, lambda answer: list(answer["generations"]))

    def search(self, name: str, body: Json) -> Steps[Answer]:
        return asked(self.url, self.retries, Request("POST", f"{at(name)}/search", body), Answer.of)

    def search_batch(self, name: str, bodies: Sequence[Json]) -> Steps[list[Answer]]:
        request = Request("POST", f"{at(name)}/search/batch", {"searches": list(bodies)})
        return asked(self.url, self.retries, request, lambda found: [*map(Answer.of, found["results"])])

    def search_vectors(self, name: str, vectors: ArrayLike, options: Json) -> Steps[Table]:
        file = io.BytesIO()
        np.save(file, np.asarray(vectors, np.float32), allow_pickle=False)
        params = {key: _said(value) for key, value in options.items() if value is not None}
        request = Request(
            "POST", f"{at(name)}/search/vectors", file.getvalue(), params=params, media="application/x-npy"
        )
        answer = yield from answered(self.url, self.retries, request)
        return Table.of(answer.content, json.loads(answer.headers["x-sheaf-search"]))

    def judge(self, name: str, judgements: str, queries: Iterable[Mapping[str, Any]]) -> Steps[Json]:
        return self.json(Request("PUT", _set(name, judgements), {"queries": [*map(dict, queries)]}))

    def judge_file(self, name: str, judgements: str, path: Path, split: str) -> Steps[Json]:
        """Raises ValueError where the name of the file does not tell its form."""
        media = JUDGED.get(path.suffix.lower())
        if media is None:
            raise ValueError(f"cannot tell the form of {path.name!r} by its name: expected {', '.join(JUDGED)}")
        params = {"split": split}
        return self.json(Request("PUT", _set(name, judgements), path.read_bytes(), params=params, media=media))

    def judgements_as(self, name: str, judgements: str, form: str, split: str) -> Steps[bytes]:
        request = Request("GET", _set(name, judgements), params={"format": form, "split": split})
        answer = yield from answered(self.url, self.retries, request)
        return answer.content

    def grade(self, name: str, judgements: str, grades: Iterable[Mapping[str, Any]]) -> Steps[Json]:
        # The last grade of a document holds, so it may be sent again.
        return self.json(Request("POST", f"{_set(name, judgements)}/grades", {"grades": [*map(dict, grades)]}))

    def pool(self, name: str, judgements: str, body: Json) -> Steps[Json]:
        return self.json(Request("POST", f"{_set(name, judgements)}/pool", body))

    def judgements(self, name: str, judgements: str) -> Steps[list[Json]]:
        request = Request("GET", _set(name, judgements))
        return asked(self.url, self.retries, request, lambda found: list(found["queries"]))

    def tune_by(self, name: str, judgements: str, body: Json, progress: Callable[[Task], None] | None) -> Steps[Json]:
        begun = yield from self.begin(name, "tune", {"judgements": judgements, **body})
        task = yield from self.follow(begun.id, progress, None)
        report: Json = task.raw["result"]
        return report

    def learn_relevance(self, name: str, judgements: str, request: Json) -> Steps[Json]:
        return self.json(Request("PUT", f"{at(name)}/relevance", {"judgements": judgements, **request}))

    def relevance(self, name: str) -> Steps[list[Json]]:
        request = Request("GET", f"{at(name)}/relevance")
        return asked(self.url, self.retries, request, lambda found: list(found["learned"]))

    def map(self, name: str, points: int) -> Steps[Json]:
        def read(answer: Json) -> Json:
            places = {axis: np.frombuffer(base64.b64decode(answer[axis]), "<f4").astype(np.float32) for axis in "xy"}
            return {**answer, **places}

        return asked(self.url, self.retries, Request("GET", f"{at(name)}/map", params={"points": str(points)}), read)

    def searched(self, name: str, below: float | None, most: int) -> Steps[Json]:
        params = {"most": str(most), **({} if below is None else {"below": repr(below)})}
        return self.json(Request("GET", f"{at(name)}/queries/report", params=params))

    def evaluate(self, name: str, body: Json, progress: Callable[[Task], None] | None) -> Steps[Json]:
        """Where it is long it is followed as a task. Raises TaskFailed."""
        answer = yield from self.json(Request("POST", f"{at(name)}/evaluate", body, again=False))
        if "settings" in answer:
            return answer
        task = yield from self.follow(answer["id"], progress, None)
        report: Json = task.raw["result"]
        return report

    def begin(self, name: str, what: str, body: Json | None) -> Steps[Task]:
        """A task: rebuild, tune, snapshots."""
        return asked(self.url, self.retries, Request("POST", f"{at(name)}/{what}", body, again=False), Task.of)


def _said(value: Any) -> str:
    """A parameter of the query."""
    return value if isinstance(value, str) else json.dumps(value)


def patch_body(
    metadata: Mapping[str, Any] | None,
    title: str | None,
    text: str | None,
    vectors: ArrayLike | None,
    sparse: tuple[Sequence[int], Sequence[float]] | None,
) -> Json:
    """As the API takes it, of what is given."""
    body: Json = {} if vectors is None else vector_field(vectors)
    if metadata is not None:
        body["metadata"] = dict(metadata)
    if sparse is not None:
        body["sparse_vector"] = {"indices": list(sparse[0]), "values": list(sparse[1])}
    return body | {name: value for name, value in (("title", title), ("text", text)) if value is not None}


def scorer(
    layers: Iterable[tuple[ArrayLike, ArrayLike | None]],
    activation: str = "relu",
    residual: str = "none",
    norm: str = "none",
) -> Json:
    """The option ``scorer`` of a search, a network: of each layer its weights, (inputs, outputs), and bias, (outputs,)
    or None, as base64 of float32.

    >>> scorer([([[1.0], [2.0]], None)])["layers"][0]["weights"]["shape"]
    [2, 1]
    """
    made = []
    for weights, bias in layers:
        layer = {"weights": vector_field(weights)["vectors"]}
        made.append(layer if bias is None else layer | {"bias": vector_field(bias)["vector"]})
    return {"layers": made, "activation": activation, "residual": residual, "norm": norm}


def search_body(query: str | None, vectors: ArrayLike | None, options: Mapping[str, Any]) -> Json:
    """As the API takes it; options: its other fields, None where they are left out."""
    body: Json = {} if query is None else {"query": query}
    body |= {} if vectors is None else vector_field(vectors)
    made = body | {"vectors_format": "base64"} | {name: value for name, value in options.items() if value is not None}
    if (turns := made.get("turns")) and not any(isinstance(turn, Mapping) for turn in turns):
        made["turns"] = said(turns)
    return made


def reading_of(path: Path, reading: Mapping[str, Any]) -> dict[str, Any]:
    """How a file is to be read, where ``reading`` does not say. Raises ValueError where its name does not tell.

    >>> reading_of(Path("films.csv.gz"), {})
    {'file': 'films.csv.gz', 'format': 'csv', 'compression': 'gz'}
    >>> reading_of(Path("notes/wren.md"), {})
    {'file': 'wren.md', 'format': 'markdown', 'id': 'wren.md'}
    """
    found, suffix = {}, path.suffix.lower()
    if suffix in (".gz", ".zst"):
        found["compression"], suffix = suffix[1:], Path(path.stem).suffix.lower()
    form = reading.get("format") or FORMS.get(suffix)
    if form is None:
        raise ValueError(f"cannot tell the form of {path.name!r} by its name: give `format`")
    found = {"file": path.name[:NAMED], "format": form, **found, **({"id": path.name} if form in SINGLE else {})}
    return {**found, **{name: value for name, value in reading.items() if value is not None}}


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def lines_of(documents: Iterable[Given], sent: Sent | None) -> Iterator[bytes]:
    """The body of an import, in pieces."""
    piece, count, size = bytearray(), 0, 0
    for document in documents:
        count += 1
        piece += as_json(body_of(document), count) + b"\n"
        if len(piece) >= PIECE:
            yield bytes(piece)
            size += len(piece)
            piece.clear()
            if sent is not None:
                sent(count, size)
    yield bytes(piece)
    if sent is not None:
        sent(count, size + len(piece))


def body_of(document: Given) -> Json:
    return document.body() if isinstance(document, Document) else dict(document)


def export_request(name: str, filter: Json | None, include: Include, format: str = "ndjson") -> Request:
    params: dict[str, Any] = {"include": list(include), "format": format}
    if format == "ndjson":
        params["vectors_format"] = "base64"
    if filter is not None:
        params["filter"] = json.dumps(filter)
    return Request("GET", f"{at(name)}/export", params=params)


class Lined:
    """The documents of an export from its bytes as they come: lines end with a line feed alone, though a text may hold
    what Unicode takes for the end of one."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def take(self, piece: bytes) -> list[Document]:
        """Those that are whole with this piece."""
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = bytes(self._begun) + lines[0]
            self._begun.clear()
        self._begun += rest
        return [Document.of(json.loads(line)) for line in lines]


def batches(documents: Iterable[Given], size: int) -> Iterator[list[Given]]:
    batch: list[Given] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def at(name: str) -> str:
    """The path of a collection."""
    return f"/v1/collections/{quote(name, safe='')}"


def _at(name: str, id: str | int) -> str:
    """The path of a document. Its dots are encoded too: clients and proxies take `..` away."""
    return f"{at(name)}/documents/{quote(str(id), safe='').replace('.', '%2E')}"


def _set(name: str, judgements: str) -> str:
    return f"{at(name)}/judgements/{quote(judgements, safe='')}"


def _written(answer: Json) -> Written:
    told = tuple(answer["ids"]), tuple(answer["duplicates"]), tuple(answer["truncated"])
    return Written(answer["written"], *told)
