"""Bulk build through a server that holds the collection: one streamed import, then its task is followed.

The server lists bad lines by their place in what it was sent; here they get back their place in the source.
"""

from __future__ import annotations

import base64
import json
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx

from app.errors import Invalid, NotFound, RequestError, Unavailable
from app.load.bulk import BadLine, OnError, Stopped, Summary, at
from app.sources.protocol import Entry, LeftOut, Source, Unit
from app.types import Document, Kind

PIECE: Final = 2**18
"""Bytes sent at a time."""
POLL_S: Final = 0.5
TIMEOUT_S: Final = 300.0
"""Without a byte from the server; it answers an import once the whole body is on its disk."""


class Places:
    """Where in the source each document is that was sent: 8 bytes each, and a little for each file."""

    def __init__(self) -> None:
        self._lines = array("q")
        self._firsts: list[int] = []
        self._files: list[tuple[str, Unit]] = []

    def add(self, entry: Entry) -> None:
        if not self._files or self._files[-1] != (entry.file, entry.unit):
            self._firsts.append(len(self._lines))
            self._files.append((entry.file, entry.unit))
        self._lines.append(entry.line)

    def __getitem__(self, number: int) -> str:
        """The place of the document that was sent as this one, from 0."""
        file, unit = self._files[bisect_right(self._firsts, number) - 1]
        return Entry(self._lines[number], LeftOut(""), file, unit).place


class Server:
    """One server's collections. Raises Unavailable where it does not answer, its own errors as RequestError."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """key: one of the server's, with the scopes read and write, and admin to create."""
        # trust_env: a proxy of the environment has no business between two programs of one operator.
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self.url = url

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def describe(self, name: str) -> dict[str, Any] | None:
        """The collection, or None where there is none."""
        try:
            return self._json("GET", f"/v1/collections/{name}")
        except NotFound:
            return None

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """body: as ``POST /v1/collections`` takes it. An encoder that the server is just loading is waited for."""
        until, key = time.monotonic() + TIMEOUT_S, {"Idempotency-Key": uuid4().hex}
        while True:
            try:
                return self._json("POST", "/v1/collections", json=body, headers=key)
            except RequestError as error:
                if error.code != "encoder_loading" or time.monotonic() > until:
                    raise
            time.sleep(POLL_S)

    def delete(self, name: str) -> None:
        """The collection, for good."""
        self._json("DELETE", f"/v1/collections/{name}")

    def send(self, name: str, kind: Kind, source: Source, on_error: OnError, bad_line: BadLine,
             progress: Callable[[Summary], None]) -> tuple[str, Summary, Places]:  # fmt: skip
        """Streams the source as one import: the task's id, what was sent, and the place of each line sent."""
        summary, places = Summary(), Places()
        content = _pieces(source, kind, on_error, bad_line, summary, places, progress)
        path = f"/v1/collections/{name}/import?on_error={on_error}"
        task = self._json("POST", path, content=content, headers={"content-type": "application/x-ndjson"})
        summary.skipped = source.skipped
        return task["id"], summary, places

    def follow(
        self, task: str, bad: Callable[[int, str], None], progress: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """The task as it is when it has succeeded. bad: each bad line that it lists, by its place in what was sent, and
        its message.

        Raises Invalid where it failed or was cancelled.
        """
        after = 0
        while True:
            state = self._json("GET", f"/v1/tasks/{quote(task)}?errors_after={after}")
            for error in state["errors"]:
                bad(error["line"], error["message"])
                after = error["line"]
            progress(state)
            if state["errors"]:
                continue
            if state["state"] == "succeeded":
                return state
            if state["state"] in ("failed", "cancelled"):
                whole = [
                    e["message"] for e in self._json("GET", f"/v1/tasks/{quote(task)}")["errors"] if e["line"] == 0
                ]
                reason = "; ".join(whole) or f"{state['errors_total']:,} bad lines"
                raise Invalid(f"task {task} of the server at {self.url} {state['state']}: {reason}")
            time.sleep(POLL_S)

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Unavailable(f"the server at {self.url} does not answer: {error}") from error
        answer: dict[str, Any] = json.loads(response.content) if _is_json(response) else {}
        if response.is_success:
            return answer
        message = f"the server at {self.url} says {response.status_code}: {answer.get('detail', response.text)}"
        if response.status_code == 401:
            message += ". SHEAF_API_KEY holds the key that commands send"
        kind = NotFound if response.status_code == 404 else RequestError
        raise kind(message, code=answer.get("code"))


def _is_json(response: httpx.Response) -> bool:
    return response.headers.get("content-type", "").partition(";")[0] in (
        "application/json",
        "application/problem+json",
    )


def _pieces(
    source: Source, kind: Kind, on_error: OnError, bad_line: BadLine, summary: Summary, places: Places,
    progress: Callable[[Summary], None],
) -> Iterator[bytes]:  # fmt: skip
    piece = bytearray()
    for entry in source.entries():
        found = entry.found
        if isinstance(found, LeftOut):
            summary.left_out[found.reason] += found.count
            continue
        summary.read += 1
        if isinstance(found, RequestError):
            summary.bad += 1
            if on_error == "stop":
                # Ends the request in its middle: the server keeps nothing of it.
                raise Stopped(f"{at(source, entry)}: {found.message}. Nothing of the source is written")
            bad_line(entry.place, found)
            continue
        places.add(entry)
        piece += to_line(found, kind)
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
            progress(summary)
    yield bytes(piece)
    progress(summary)


def to_line(document: Document, kind: Kind) -> bytes:
    """The document as a line of an import, with its end.

    >>> to_line(Document("a", "one", metadata={"year": 2024}), "dense")
    b'{"id": "a", "text": "one", "title": "", "metadata": {"year": 2024}}\\n'
    """
    body: dict[str, Any] = {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "metadata": document.metadata,
    }
    if document.vectors is not None:
        rows = document.vectors.astype("<f4")
        values = base64.b64encode(rows.tobytes()).decode()
        shape = list(rows.shape) if kind == "multi_vector" else [rows.shape[1]]
        field = "vectors" if kind == "multi_vector" else "vector"
        body[field] = {"base64": values, "dtype": "float32", "shape": shape}
    if document.sparse is not None:
        body["sparse_vector"] = {
            "indices": document.sparse.indices.tolist(),
            "values": document.sparse.values.tolist(),
        }
    return json.dumps(body, ensure_ascii=False).encode() + b"\n"
