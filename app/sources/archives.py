"""Zip archives that documents are (DOCX, XLSX), with bounds of our own on what they unpack to.

``zipfile`` gives no more of a member than the directory says that it has, so what the directory says bounds all.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Final

from app.errors import TooLarge
from app.sources.protocol import Unreadable

MAX_UNPACKED: Final = 512 * 2**20
"""Bytes of all members together."""
MAX_MEMBER: Final = 64 * 2**20
"""Bytes of one that is read into memory."""
MAX_MEMBERS: Final = 20_000
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def opened(path: Path, form: str) -> zipfile.ZipFile:
    """The archive, to be closed by the caller. form: for messages. Raises Unreadable, TooLarge."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        with path.open("rb") as file:
            if file.read(len(_OLE)) == _OLE:
                raise Unreadable(
                    f"not {form}: it is encrypted with a password, or of an older format; save it as {form} without one"
                ) from error
        raise Unreadable(f"not {form}, or not whole: {error}") from error
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED or len(members) > MAX_MEMBERS:
        archive.close()
        raise TooLarge(
            f"unpacks to {size:,} bytes in {len(members):,} files; {MAX_UNPACKED:,} in {MAX_MEMBERS:,} are taken"
        )
    return archive


def member(archive: zipfile.ZipFile, name: str, form: str) -> bytes | None:
    """One member, None where there is none of the name. Raises Unreadable, TooLarge."""
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        return None
    if size > MAX_MEMBER:
        raise TooLarge(f"{name} unpacks to {size:,} bytes; {MAX_MEMBER:,} are taken")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        # RuntimeError: the member is encrypted.
        raise Unreadable(f"not {form}, or not whole: {name}: {error}") from error
