"""Imports: lines or files of any length, streamed to the disk, applied in the background."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.answers import encoded
from app.api.edge.bodies import NDJSON, Route, pieces
from app.api.edge.openapi import gives, takes_lines
from app.api.edge.routing import Name
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Serving, run
from app.api.writing import Key, Reply, once
from app.collection.collection import Collection
from app.errors import UnsupportedMediaType
from app.tasks.forms import Asked, Many, Single
from app.tasks.importing import ImportUpload
from app.tasks.records import Task

router = APIRouter(tags=["documents"], route_class=Route)
_PIECE = 2**20
"""Bytes gathered for one trip to a thread and the disk."""
_EXAMPLE = (
    '{"id": "zipfile.ZipFile", "title": "zipfile.ZipFile", "text": "Class to open and read ZIP files."}\n'
    '{"id": "smtplib.SMTP", "title": "smtplib.SMTP", "text": "A session with an SMTP server.", '
    '"metadata": {"module": "smtplib"}}\n'
)


_FILES: Final[Mapping[str, Any]] = {
    "application/json": [{"id": "smtplib.SMTP", "title": "smtplib.SMTP", "text": "A session with an SMTP server."}],
    "text/csv": "id,text,line\nzipfile.ZipFile,Class to open and read ZIP files.,1300\n",
    "text/tab-separated-values": "id\ttext\nzipfile.ZipFile\tClass to open and read ZIP files.\n",
}
_MEDIA: Final = {
    **dict.fromkeys(NDJSON, "ndjson"),
    "application/json": "json",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/zip": "zip",
    "application/pdf": "pdf",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/plain": "text",
}
"""Content type -> form, where the request names none."""
Fields: TypeAlias = Annotated[str | None, Query(max_length=10_000)]
Field: TypeAlias = Annotated[str | None, Query(max_length=1_000)]
Each: TypeAlias = Annotated[list[str], Query(max_length=100)]


@router.post(
    "/v1/collections/{name}/import",
    status_code=202,
    responses=gives(TaskAnswer, 202, "The whole body is on disk and will be applied; follow the task."),
    openapi_extra=takes_lines(_EXAMPLE, {media: _FILES.get(media) for media in _MEDIA if media not in NDJSON}),
)
async def import_documents(
    request: Request,
    service: Serving,
    name: Name,
    on_error: Annotated[
        Literal["stop", "skip"], Query(description="The effect of a bad line; the task lists it either way.")
    ] = "stop",
    format: Annotated[
        Many | Single | None,
        Query(
            description="What the body is, where its content type does not say; all but lines are read "
            "as the bulk build reads files."
        ),
    ] = None,
    compression: Annotated[
        Literal["gz", "zst"] | None, Query(description="Of a file of lines, JSON, CSV, TSV, MS MARCO or TREC.")
    ] = None,
    id: Annotated[Field, Query(description="Of the one document of a Markdown, text, HTML, PDF or DOCX file.")] = None,
    id_field: Annotated[Field, Query(description="The field of a record that is its id.")] = None,
    text_field: Annotated[Each, Query(description="Those that are its text, joined.")] = [],  # noqa: B006
    title_field: Annotated[Field, Query(description="The one that is its title.")] = None,
    vector_field: Annotated[Field, Query(description="The one that is its vector, or its token vectors.")] = None,
    select: Annotated[
        Fields, Query(description="Those that are its metadata, FIELD[:TYPE] with commas between; all others without.")
    ] = None,
    rename: Annotated[Each, Query(description="FIELD=NAME; all else says the new name.")] = [],  # noqa: B006
    header: Annotated[
        Fields, Query(description="The names of all columns, with commas between, where the first line has none.")
    ] = None,
    delimiter: Annotated[str, Query(max_length=10, description="Between the cells of CSV.")] = ",",
    file: Annotated[
        str | None,
        Query(max_length=512, description="The name of the file, which the task tells; nothing hangs on it."),
    ] = None,
    key: Key = None,
) -> Response:
    """Import documents: one JSON object a line, or a file of another form. Memory does not grow with the body."""
    form, charset = _form(request, format)
    asked: Asked | None = Asked(
        form, id, compression, id_field, tuple(text_field), title_field, vector_field, select, tuple(rename),
        tuple(one for one in (header or "").split(",") if one), delimiter, charset,
    )  # fmt: skip
    if asked == Asked("ndjson"):
        asked = None
    lanes = service.lanes

    # Once, for an alias may be pointed elsewhere while the body comes.
    name = service.catalogue.aliases.resolve(name)

    def begin(collection: Collection) -> ImportUpload:
        return ImportUpload(collection, service.catalogue.tasks(name), on_error, asked, file)

    with lanes.uploads.share() as take:
        take(1)
        # It may load the encoder.
        upload = await run(await service.lane(name, "write", encodes=True), service.on, name, begin)
        committed = False
        digest = hashlib.sha256()
        try:
            gathered = bytearray()
            async for piece in pieces(request, service.settings.max_import_bytes, service.settings.body_timeout_s):
                gathered += piece
                if key is not None:
                    digest.update(piece)
                if len(gathered) >= _PIECE:
                    await run(lanes.upload, upload.write, bytes(gathered))
                    gathered.clear()
            await run(lanes.upload, upload.write, bytes(gathered))
            said = once(request, key, digest.digest())

            def commit(collection: Collection) -> tuple[Reply, bool]:
                earlier = None if said is None else said.begin(collection)
                if earlier is not None:
                    return earlier, False
                try:
                    keep = None if said is None else said.keep(collection)
                    also = None if keep is None else lambda txn, task: keep(txn, _accepted(task))
                    return _accepted(upload.commit(also)), True
                finally:
                    if said is not None:
                        said.end(collection)

            answer: Reply
            answer, committed = await run(lanes.upload, service.on, name, commit)
        finally:
            # An upload that ends early, by a client that goes away or a full disk, leaves nothing.
            if not committed:
                upload.abort()
    return answer.response()


def _form(request: Request, format: str | None) -> tuple[str, str | None]:
    """The form and the charset of a body. Raises UnsupportedMediaType."""
    given = request.headers.get("content-type", "")
    media, *parameters = (part.strip() for part in given.lower().split(";"))
    charset = next((part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")), "utf-8")
    form = format or _MEDIA.get(media)
    if form is None:
        raise UnsupportedMediaType(
            f"expected the content type {' or '.join(_MEDIA)}, or `format` in the query, got {given[:200] or 'none'!r}"
        )
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMediaType(
            f"expected a body without content coding, got {coding[:100]!r}; a compressed file is sent as it is, "
            "with `compression`"
        )
    return form, None if charset in ("utf-8", "utf8") else charset


def _accepted(task: Task) -> Reply:
    return Reply(encoded(TaskAnswer.model_validate(task)), 202, {"Location": f"/v1/tasks/{task.id}"})
