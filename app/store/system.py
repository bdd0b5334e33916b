"""Faults of the system that are no damage: for now it opens, reads or keeps nothing, whatever the files hold.

They pass (too many files are open, no memory, a disk that erred once, a full one) or are mended outside (an owner, a
mode, a mount). So the collection stays as it is and the next request tries again; the error names the file, the limit
and the remedy. Content that was read and is wrong, or is missing, is ``Damaged``, whoever asks and however often.
"""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from app.errors import StorageFull, SystemFault

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SYSTEM: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EAGAIN}
    | {errno.EINTR, errno.EBUSY, errno.ENOBUFS, errno.ENOLCK, errno.ENXIO, errno.ENODEV}
    # Of file systems over a network, and of those that a process serves.
    | {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO}
)
_SQLITE: Final = (
    "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_BUSY",
    "SQLITE_PROTOCOL",
)  # fmt: skip
_CONTENT: Final = frozenset({"SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA"})


SPARE: Final = 128
"""Open files that a new collection leaves to clients and to what reads and writes."""
NEEDED: Final = SPARE // 2
"""And those that clients, and collections that are there and are opened, leave to what reads and writes."""
_MOST: Final = 2**16
"""Where the system allows any number."""


def raise_open_files() -> int:
    """Lets the process have as many files open as the system allows it: the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return open_files_allowed()


def open_files_allowed() -> int:
    """How many files the process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def require_files(left: int, what: str) -> None:
    """Raises SystemFault where the process may open fewer files than ``left``. what: cannot be done then."""
    used = len(os.listdir("/dev/fd"))  # noqa: PTH208, a path for each of thousands would cost more than what is asked for
    if open_files_allowed() - used < left:
        raise SystemFault(f"{what}: {_remedy(errno.EMFILE, None)}")


def of_the_disk(error: Exception) -> bool:
    """Whether the disk or the system is at fault, rather than what was read or our code: then it may work later."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return name.startswith(_SQLITE) and name not in _CONTENT
    return isinstance(error, OSError) and (error.errno in FULL or error.errno in _SYSTEM)


@contextmanager
def room() -> Iterator[None]:
    """Turns "no space left", from a file or from SQLite, into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(
                f"the disk takes no more ({error.strerror}); nothing of this request was kept; make room and repeat it"
            ) from error
        raise
    except sqlite3.OperationalError as error:
        # Even to read, SQLite needs 32 KiB for the index of its log.
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
            raise StorageFull(
                "the disk takes no more (database); nothing of this request was kept; make room and repeat it"
            ) from error
        raise


def system_fault(error: OSError | sqlite3.Error, path: Path | None = None) -> SystemFault:
    """The error for what ``of_the_disk`` said: the file, the cause, and what to do. path: else the one that it names;
    of a database with all that SQLite keeps beside it.
    """
    if path is None and isinstance(error, OSError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
    what = "a file" if path is None else f"{path.name} of {path.parent.name}"
    if isinstance(error, OSError):
        number, why = error.errno, error.strerror or str(error)
    else:
        number, why = _cause(path), f"database: {error}"
    return SystemFault(
        f"{what} cannot be used now ({why}): {_remedy(number, path)}. It is no damage, and tried again at the next "
        "request"
    )


def _cause(database: Path | None) -> int | None:
    """The system's number of what SQLite does not tell; None where it does not show."""
    # Never by opening one of them: to close it again would free the locks that SQLite has on it in this process.
    for path in [] if database is None else [database, *(Path(f"{database}{end}") for end in ("-wal", "-shm"))]:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return errno.EACCES
    if database is not None and not os.access(database.parent, os.R_OK | os.W_OK | os.X_OK):
        return errno.EACCES
    probes: list[int] = []
    try:
        # As many as SQLite opens of one database.
        probes.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(4))
    except OSError as error:
        return error.errno
    finally:
        for probe in probes:
            os.close(probe)
    return None


def _remedy(number: int | None, path: Path | None) -> str:
    if number == errno.EMFILE:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"this process has about as many files open as it may, {most:,}; raise its limit (ulimit -n, LimitNOFILE=, "
            "--ulimit nofile=), or serve fewer collections"
        )
    if number == errno.ENFILE:
        return "the machine has as many files open as it may; raise fs.file-max"
    if number == errno.ENOMEM:
        return (
            "there is no memory for it, or the process maps as many files as it may (vm.max_map_count); free memory, "
            "or raise the limit"
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"{_owner(path)}; mend its owner or its mode (chown, chmod)"
    if number == errno.EROFS:
        return "its file system is mounted for reading alone; mount it for writing"
    if number in FULL:
        return "the disk takes no more; make room"
    return "look at the disk (the system's log tells), at its owner and at its mode; if it stays so, restore a backup"


def _owner(path: Path | None) -> str:
    """Whose it is that keeps us out: the file, or the first folder on its way."""
    for place in [] if path is None else [*reversed(path.parents), path]:
        with suppress(OSError):
            status = place.stat()
            if not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else os.W_OK)):
                return (
                    f"{place.name} belongs to uid {status.st_uid} with mode {status.st_mode & 0o7777:04o}, "
                    f"this process is uid {os.geteuid()}"
                )
    return f"this process is uid {os.geteuid()}"
