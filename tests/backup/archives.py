"""Archives of snapshots for tests: taken, opened up, and put together again in wrong ways."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from app.backup.archive import LISTING
from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import Restoring
from app.collection.collection import Collection
from app.collection.segment import MANIFEST
from app.store.database import Database, get_meta, put_meta
from app.store.files import BLOCK
from app.store.layout import DATABASE, MARK

Files = dict[str, bytes]


def contents(archive: Path) -> tuple[dict[str, Any], Files]:
    """The list, and every file."""
    with tarfile.open(archive, "r:") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    listing = json.loads(found.pop(LISTING))
    return listing, found


def listed(listing: dict[str, Any], files: Files) -> dict[str, Any]:
    """The list as it has to be for these files."""
    entries = [{"path": p, "size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for p, c in files.items()]
    return {**listing, "files": entries}


def member(name: str, content: bytes = b"", **fields: Any) -> bytes:
    """One member of a tar, header and all; fields: of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def joined(listing: dict[str, Any], files: Files) -> bytes:
    """The archive, with whatever list is given."""
    members = [member(LISTING, json.dumps(listing).encode()), *(member(p, c) for p, c in files.items())]
    return b"".join(members) + bytes(1024)


def bomb(size: int) -> bytes:
    """A gzip of so many zeros, a thousandth of it."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        file.write(bytes(size))
    return out.getvalue()


def upload(catalogue: Catalogue, archive: bytes) -> Collection:
    restoring = Restoring(catalogue, "r", replace=False, limit=10**9)
    try:
        restoring.write(archive)
        restoring.commit()
    finally:
        restoring.abort()
    return catalogue.get("r")


def resummed(archive: Path, folder: Path, change: Callable[[str, bytes], bytes]) -> bytes:
    """The archive with each file of its segments changed, and every checksum made right: what a sender can do."""
    listing, files = contents(archive)
    crcs: dict[str, int] = {}
    for path in [path for path in files if path.endswith(f"/{MANIFEST}")]:
        at = path.removesuffix(MANIFEST)
        manifest = json.loads(files[path])
        for name in manifest["files"]:
            content = files[f"{at}{name}"] = change(name, files[f"{at}{name}"])
            sums = [zlib.crc32(content[start : start + BLOCK]) for start in range(0, len(content), BLOCK)]
            manifest["files"][name] = {"size": len(content), "crc32": sums}
        files[path] = json.dumps(manifest).encode()
        crcs[at.split("/")[1]] = zlib.crc32(files[path])

    def name_them(txn: Any) -> None:
        generation = get_meta(txn, "generation", "c")
        for segment in generation["segments"]:
            segment["crc32"] = crcs[segment["name"]]
        put_meta(txn, {"generation": generation})

    in_database(files, folder, name_them)
    return joined(listed(listing, files), files)


def in_database(files: Files, folder: Path, change: Callable[[Any], None]) -> None:
    """Changes the archive's database in one transaction, all sums of which are right."""
    folder.mkdir()
    for name in (DATABASE, MARK):
        (folder / name).write_bytes(files[name])
    database = Database(folder, "c")
    with database.write() as txn:
        change(txn)
    database.reclaim()
    database.close()
    for name in (DATABASE, MARK):
        files[name] = (folder / name).read_bytes()


def shaped(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[str, bytes], bytes]:
    def change(file: str, content: bytes) -> bytes:
        if file != name:
            return content
        out = BytesIO()
        np.save(out, make(np.load(BytesIO(content))))
        return out.getvalue()

    return change
