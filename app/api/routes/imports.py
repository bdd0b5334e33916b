"""Imports: NDJSON of any length, streamed to the disk, applied in the background."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.answers import encoded
from app.api.edge.bodies import NDJSON, Route, pieces, require_type
from app.api.edge.openapi import gives, takes_lines
from app.api.edge.routing import Name
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Serving, run
from app.api.writing import Key, Reply, once
from app.collection.collection import Collection
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


@router.post(
    "/v1/collections/{name}/import",
    status_code=202,
    responses=gives(TaskAnswer, 202, "The whole body is on disk and will be applied; follow the task."),
    openapi_extra=takes_lines(_EXAMPLE),
)
async def import_documents(
    request: Request,
    service: Serving,
    name: Name,
    on_error: Annotated[
        Literal["stop", "skip"], Query(description="The effect of a bad line; the task lists it either way.")
    ] = "stop",
    key: Key = None,
) -> Response:
    """Import documents, one JSON object a line. Memory does not grow with the body."""
    require_type(request, NDJSON)
    lanes = service.lanes

    # Once, for an alias may be pointed elsewhere while the body comes.
    name = service.catalogue.aliases.resolve(name)

    def begin(collection: Collection) -> ImportUpload:
        return ImportUpload(collection, service.catalogue.tasks(name), on_error)

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


def _accepted(task: Task) -> Reply:
    return Reply(encoded(TaskAnswer.model_validate(task)), 202, {"Location": f"/v1/tasks/{task.id}"})
