"""Every collection of a running server, with the aliases, into a folder; and back into a server.

    backup.py save FOLDER [--server URL] [--without NAME ...]
    backup.py restore FOLDER [--server URL] [--replace]

Saving takes a snapshot of one collection after the other, while all are searched and written to, fetches it, holds it
to its SHA-256 and deletes it from the server. Each collection is of one moment. Aliases are those of the end, and all
that they stand for is there; where collections came or went meanwhile, it looks again. FOLDER appears under its name
when all of it is on the disk. What was broken off lies in FOLDER.unfinished; the next run removes it, and its snapshot
on the server. A kill in the moment in which one is begun may leave that there: GET .../snapshots lists it.

Restoring checks every file before anything is sent, and writes nothing where a collection or an alias of the backup is
there already, unless --replace says that it may be. Each collection is put in place in one step, the aliases at last;
what was broken off is ended by the same command with --replace.

The server is that of SHEAF_PORT on this machine, the key SHEAF_API_KEY, of scope admin. Keys, models and other settings
are the operator's files and not in it, nor are searched queries (docs/operations.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx
from pydantic import ValidationError

from app import __version__
from app.client import Sheaf
from app.client.failures import TaskFailed, no_answer
from app.client.sending import Response, error_of
from app.errors import NotFound, SheafError
from app.settings import Settings
from app.store.layout import NAME

MANIFEST: Final = "backup.json"
BEGUN: Final = "begun.json"
"""The snapshot that is on the server for this backup: deleted by the next run, where this one ends before it can."""
FORMAT: Final = 1
PIECE: Final = 2**20
RESTORE_TIMEOUT_S: Final = 24 * 3600.0
"""A restore is answered when all of it is in place, its indexes made anew."""


class Refused(Exception):
    """What was asked for cannot be; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A collection's snapshot in the folder. file: its name there."""

    name: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Server:
    """sheaf: what is asked in JSON. http: archives, with the same key."""

    sheaf: Sheaf
    http: httpx.Client

    def fetch(self, path: str, target: Path) -> str:
        """A file of the server's; its SHA-256, which is the one that the server names. Raises OSError, SheafError."""
        digest = hashlib.sha256()
        try:
            with self.http.stream("GET", path) as answer, target.open("wb") as file:
                if answer.status_code != 200:
                    answer.read()
                    raise _refusal(self.sheaf.url, answer)
                for piece in answer.iter_raw(PIECE):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except httpx.HTTPError as error:
            raise no_answer(self.sheaf.url, error) from error
        if answer.headers.get("ETag") != f'"{digest.hexdigest()}"':
            raise OSError(
                f"{target} has the SHA-256 {digest.hexdigest()}, the server said {answer.headers.get('ETag')}"
            )
        return digest.hexdigest()

    def put(self, name: str, archive: Path, replace: bool) -> None:
        """Makes the collection from the archive. Raises SheafError."""
        path, params = f"/v1/collections/{name}/restore", {"replace": json.dumps(replace)}
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(archive.stat().st_size)}
        try:
            with archive.open("rb") as file:
                content = iter(lambda: file.read(PIECE), b"")
                answer = self.http.put(path, params=params, content=content, headers=headers, timeout=RESTORE_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise no_answer(self.sheaf.url, error) from error
        if answer.is_error:
            raise _refusal(self.sheaf.url, answer)


def save(server: Server, folder: Path, without: set[str], say: Callable[[str], None]) -> None:
    """Raises Refused, OSError, SheafError."""
    if folder.exists():
        raise Refused(f"{folder} is there already; a backup goes into a new folder")
    half = folder.with_name(f"{folder.name}.unfinished")
    if half.exists():
        _forget(server, half)
        shutil.rmtree(half)
    half.mkdir(parents=True)
    saved: dict[str, Archive] = {}
    while True:
        names = {one["name"] for one in server.sheaf.collections()} - without
        aliases = {alias: name for alias, name in server.sheaf.aliases().items() if name not in without}
        if names == set(saved) and names >= set(aliases.values()):
            break
        for name in set(saved) - names:
            (half / saved.pop(name).file).unlink()
        for name in sorted(names - set(saved)):
            try:
                saved[name] = _save(server, name, half)
            except NotFound:
                # It was deleted meanwhile.
                continue
            say(f"{name}: {saved[name].bytes:,} bytes")
    archives = [asdict(saved[name]) for name in sorted(saved)]
    manifest = {
        "format": FORMAT,
        "sheaf": __version__,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "collections": archives,
        "aliases": dict(sorted(aliases.items())),
    }
    (half / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for path in (half / MANIFEST, half):
        _sync(path)
    half.rename(folder)
    _sync(folder.parent)
    say(f"{len(saved)} collections and {len(aliases)} aliases are in {folder}")


def _save(server: Server, name: str, half: Path) -> Archive:
    """One collection. The snapshot on the server is gone afterwards, whatever happens but a kill."""
    begun = server.sheaf.ask("POST", f"/v1/collections/{name}/snapshots", again=False)
    (half / BEGUN).write_text(json.dumps({"collection": name, "snapshot": begun["id"]}))
    try:
        server.sheaf.follow(begun["id"])
        target = half / f"{name}.tar"
        digest = server.fetch(f"/v1/collections/{name}/snapshots/{begun['id']}", target)
        return Archive(name, target.name, target.stat().st_size, digest)
    finally:
        _forget(server, half)


def _forget(server: Server, half: Path) -> None:
    """Deletes from the server what was begun there for a backup."""
    if not (half / BEGUN).exists():
        return
    with suppress(NotFound, TaskFailed, ValueError):
        # Of a task that failed or is no longer known, or written by half.
        begun = json.loads((half / BEGUN).read_bytes())
        with suppress(NotFound):
            # One that still runs would leave its snapshot afterwards.
            server.sheaf.follow(begun["snapshot"])
        server.sheaf.ask("DELETE", f"/v1/collections/{begun['collection']}/snapshots/{begun['snapshot']}")
    (half / BEGUN).unlink()


def restore(server: Server, folder: Path, replace: bool, say: Callable[[str], None]) -> None:
    """Raises Refused, OSError, SheafError."""
    archives, aliases = read(folder)
    there = {one["name"] for one in server.sheaf.collections()} | set(server.sheaf.aliases())
    taken = sorted(there & ({archive.name for archive in archives} | set(aliases)))
    if taken and not replace:
        raise Refused(
            f"the server has {', '.join(taken)} already, and nothing was changed: restore into one with an empty "
            "folder, or say --replace"
        )
    for archive in archives:
        server.put(archive.name, folder / archive.file, replace)
        say(f"{archive.name}: {archive.bytes:,} bytes")
    for alias, name in aliases.items():
        server.sheaf.point(alias, name)
    say(f"{len(archives)} collections and {len(aliases)} aliases are in place")


def read(folder: Path) -> tuple[list[Archive], dict[str, str]]:
    """Archives and aliases of a backup, every file held to its SHA-256. Raises Refused."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise Refused(f"{folder} is a backup of format {manifest['format']}; this Sheaf reads {FORMAT}")
        archives = [Archive(**one) for one in manifest["collections"]]
        aliases: Mapping[str, str] = manifest["aliases"]
    except OSError as error:
        raise Refused(
            f"{folder} is no whole backup: it has no {MANIFEST} that can be read ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder / MANIFEST} is not what `save` writes: {error!r}") from error
    for archive in archives:
        path = folder / archive.file
        if not NAME.fullmatch(archive.name) or Path(archive.file).name != archive.file:
            raise Refused(f"{folder / MANIFEST} names {archive.name!r} in {archive.file!r}, which cannot be")
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Refused(f"{path} of the backup cannot be read: {error.strerror}; nothing was changed") from error
        if digest != archive.sha256:
            raise Refused(f"{path} is not what was saved: its SHA-256 is {digest}; nothing was changed")
    return archives, dict(aliases)


def _refusal(url: str, answer: httpx.Response) -> SheafError:
    error = error_of(url, Response(answer.status_code, answer.headers, answer.content))
    assert error is not None, "it is refused"
    return error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end(signal_: int, _: FrameType | None) -> None:
    """So that what is on the server for the backup is deleted there."""
    raise SystemExit(128 + signal_)


@contextmanager
def connected(url: str, key: str | None) -> Iterator[Server]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60.0, trust_env=False) as http:
        yield Server(Sheaf(url, key, http=http), http)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["save", "restore"])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--server", metavar="URL")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave a collection out; saving")
    parser.add_argument(
        "--replace", action="store_true", help="take the place of collections that are there; restoring"
    )
    args = parser.parse_args()
    if args.without if args.do == "restore" else args.replace:
        parser.error("--without is of save, --replace of restore")
    signal.signal(signal.SIGTERM, _end)

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        settings = Settings()
        key: Any = settings.api_key
        url = args.server or f"http://127.0.0.1:{settings.port}"
        with connected(url.rstrip("/"), None if key is None else key.get_secret_value()) as server:
            if args.do == "save":
                save(server, args.folder, set(args.without), say)
            else:
                restore(server, args.folder, args.replace, say)
    except (Refused, SheafError, ValidationError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
