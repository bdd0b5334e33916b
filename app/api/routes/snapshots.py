"""Snapshots of collections: taken, listed, fetched, deleted; and collections made from them."""

from __future__ import annotations

import base64
from typing import Annotated, TypeAlias

import anyio
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from app.api.answers import accepted, encoded, reply
from app.api.edge.access import Caller, require
from app.api.edge.bodies import READ, TAR, Route, examples, pieces, require_type
from app.api.edge.openapi import gives, gives_archive, gives_nothing, takes_archive
from app.api.edge.routing import Name
from app.api.schemas.backups import RestoreSnapshot, SnapshotsAnswer
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Service, Serving, run
from app.catalogue.info import CollectionInfo
from app.catalogue.restoring import Restoring, restore_file
from app.catalogue.snapshotting import begin_snapshot

router = APIRouter(tags=["snapshots"], route_class=Route)
Replace: TypeAlias = Annotated[
    bool, Query(description="Whether it may take the place of a collection that has the name.")
]
SnapshotId: TypeAlias = Annotated[str, Path(description="The snapshot's id, which is that of its task.")]
_PIECE = 2**20
"""Bytes gathered for one trip to a thread and the disk."""


@router.post(
    "/v1/collections/{name}/snapshots",
    status_code=202,
    responses=gives(TaskAnswer, 202, "Accepted; the snapshot will have the task's id."),
)
async def take_snapshot(service: Serving, name: Name) -> Response:
    """Copy the collection as it is at one moment, while it is searched and written to."""
    return accepted(await run(service.lanes.write, begin_snapshot, service.catalogue, name))


@router.get("/v1/collections/{name}/snapshots", responses=gives(SnapshotsAnswer))
async def list_snapshots(service: Serving, name: Name) -> Response:
    """The snapshots of a collection, the newest first; also of one that has been deleted."""

    def work() -> bytes:
        found = service.catalogue.snapshots.of(name)
        if not found:
            # Of a collection that is quarantined too.
            service.catalogue.describe(name)
        return encoded(SnapshotsAnswer(snapshots=found))

    return reply(await run(service.lanes.read, work))


@router.get("/v1/collections/{name}/snapshots/{id}", response_class=FileResponse, responses=gives_archive())
async def download_snapshot(service: Serving, name: Name, id: SnapshotId) -> Response:
    """The archive: a tar whose first member lists the others with their SHA-256. Ranges are honoured."""
    saved, path = await run(service.lanes.read, service.catalogue.snapshots.get, name, id)
    headers = {
        "ETag": f'"{saved.sha256}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(saved.sha256)).decode()}:",
    }
    return FileResponse(path, headers=headers, media_type=TAR[0], filename=f"{saved.collection}-{id}.tar")


@router.delete("/v1/collections/{name}/snapshots/{id}", status_code=204, responses=gives_nothing())
async def delete_snapshot(service: Serving, name: Name, id: SnapshotId) -> Response:
    """Delete a snapshot."""
    await run(service.lanes.write, service.catalogue.snapshots.delete, name, id)
    return Response(status_code=204)


@router.post(
    "/v1/collections/{name}/restore",
    responses={
        **gives(CollectionInfo, description="Restored in the place of the collection that had the name."),
        201: {"model": CollectionInfo, "description": "Restored as a new collection."},
    },
)
async def restore_snapshot(
    service: Serving,
    caller: Caller,
    name: Name,
    body: Annotated[
        RestoreSnapshot,
        READ,
        examples(
            anew={"collection": "papers", "snapshot": "5c0f0f6c0d6b4a0f8f3d1c2b3a495867"},
            back={"snapshot": "5c0f0f6c0d6b4a0f8f3d1c2b3a495867", "replace": True},
        ),
    ],
    replace: Replace = False,
) -> Response:
    """Make the collection from a snapshot of this server. It answers when all of it is verified and in place."""
    # A key that is limited to collections copies nothing out of others.
    require(caller, body.collection or name)

    def work() -> bool:
        service.catalogue.homes.require_writes()
        _, archive = service.catalogue.snapshots.get(body.collection or name, body.snapshot)
        return restore_file(service.catalogue, name, archive, replace=replace or body.replace)

    return await _restored(service, name, await run(service.lanes.restore, work))


@router.put(
    "/v1/collections/{name}/restore",
    responses={
        **gives(CollectionInfo, description="Restored in the place of the collection that had the name."),
        201: {"model": CollectionInfo, "description": "Restored as a new collection."},
    },
    openapi_extra=takes_archive(),
)
async def restore_archive(
    request: Request,
    service: Serving,
    name: Name,
    replace: Replace = False,
) -> Response:
    """Make the collection from an archive that was downloaded from a server, checked as it comes in.

    It answers when all of it is verified and in place, its indexes made anew. A client that goes away after its last
    byte loses nothing but the answer: the collection is there when `GET /v1/collections/{name}` says so.
    """
    require_type(request, TAR)
    limit, lanes = service.settings.max_restore_bytes, service.lanes

    def begin() -> Restoring:
        return Restoring(service.catalogue, name, replace=replace, limit=limit)

    with lanes.uploads.share() as take:
        take(1)
        restoring = await run(lanes.upload, begin)
        try:
            gathered = bytearray()
            async for piece in pieces(request, limit, service.settings.body_timeout_s):
                gathered += piece
                if len(gathered) >= _PIECE:
                    await run(lanes.upload, restoring.write, bytes(gathered))
                    gathered.clear()
            await run(lanes.upload, restoring.write, bytes(gathered))
            # All of it has come: it goes on to its end, whether or not the client still waits for the answer.
            with anyio.CancelScope(shield=True):
                replaced = await run(lanes.restore, restoring.commit)
        finally:
            # Also where the client goes away: nothing of it stays.
            with anyio.CancelScope(shield=True):
                await run(lanes.upload, restoring.abort)
    return await _restored(service, name, replaced)


async def _restored(service: Service, name: str, replaced: bool) -> Response:
    made = await run(service.lanes.read, service.catalogue.describe, name)
    return reply(encoded(made), 200 if replaced else 201, {"Location": f"/v1/collections/{name}"})
