"""Archives of snapshots for tests: taken, opened up, and put together again in wrong ways."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from app.collection.archive import LISTING

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
