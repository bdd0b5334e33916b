"""Converted models on disk: made whole or not at all, and checked before anything reads them.

One folder an entry, named by a digest of its key (what it was made from and by which versions). It is written under
another name, synced, and renamed; its manifest holds the size and the SHA-256 of every file, and its own. An entry
that does not fit (a flipped bit, a file missing, another key, another format) counts as not there and is made anew: a
cache can always be lost. The lock makes two processes convert one model once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
_NEW, _OLD = ".new-", ".old-"


@dataclass(frozen=True, slots=True)
class Entry:
    """A checked entry. content: what its writer returned, as JSON gives it back."""

    folder: Path
    content: dict[str, Any]


class ModelCache:
    """Entries under one folder, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: Mapping[str, str]) -> Entry | None:
        """The entry, every file of it checked against its SHA-256; None where there is none that is whole."""
        folder = self.folder / _name(key)
        if not folder.exists():
            return None
        try:
            return Entry(folder, _checked(folder, key))
        except (OSError, ValueError) as error:
            log.warning("the converted model in %s is damaged (%s); it is made anew", folder, error)
            return None

    def make(self, key: Mapping[str, str], write: Callable[[Path], dict[str, Any]]) -> Entry:
        """The entry, written by ``write`` into the folder given to it unless another process just did.

        Removes what a crash has left and the entries of other versions of the libraries. Raises OSError where the
        folder cannot be written, and whatever ``write`` raises; nothing is left then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            found = self.load(key)
            if found is not None:
                return found
            self._clear(key)
            name = _name(key)
            new, old, folder = self.folder / (_NEW + name), self.folder / (_OLD + name), self.folder / name
            try:
                new.mkdir()
                content = write(new)
                _seal(new, key, content)
                if folder.exists():
                    folder.rename(old)
                new.rename(folder)
                _sync(self.folder)
            finally:
                _remove(new)
                _remove(old)
        return Entry(folder, _checked(folder, key))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _clear(self, key: Mapping[str, str]) -> None:
        for path in self.folder.iterdir():
            unfinished = path.name.startswith((_NEW, _OLD))
            if unfinished or _outdated(path / MANIFEST, key):
                _remove(path)


def _name(key: Mapping[str, str]) -> str:
    return hashlib.sha256(_canonical(dict(key))).hexdigest()[:32]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def _seal(folder: Path, key: Mapping[str, str], content: dict[str, Any]) -> None:
    """Writes the manifest over the files that are there, and makes all of it durable.

    All are as readable as it is: safetensors makes files for their owner alone, and a server of another user reads
    what an installation holds.
    """
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    body = {"key": dict(key), "files": files, "content": content}
    manifest = {"sha256": hashlib.sha256(_canonical(body)).hexdigest(), **body}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)
    for path in folder.iterdir():
        path.chmod(mode)
        _sync(path)
    _sync(folder)


def _checked(folder: Path, key: Mapping[str, str]) -> dict[str, Any]:
    """The content of an entry. Raises ValueError or OSError, with the reason, where it is not what was written."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if not isinstance(manifest, dict) or set(manifest) != {"sha256", "key", "files", "content"}:
        raise ValueError(f"{MANIFEST} is none")
    digest = manifest.pop("sha256")
    if hashlib.sha256(_canonical(manifest)).hexdigest() != digest:
        raise ValueError(f"{MANIFEST} does not have its own SHA-256")
    if manifest["key"] != dict(key):
        raise ValueError("it was made from something else")
    for name, expected in manifest["files"].items():
        path = folder / name
        if path.parent != folder or path.is_symlink() or path.stat().st_size != expected["bytes"]:
            raise ValueError(f"{name} has another size")
        if _sha256(path) != expected["sha256"]:
            raise ValueError(f"{name} has another SHA-256")
    content: dict[str, Any] = manifest["content"]
    return content


def _outdated(path: Path, key: Mapping[str, str]) -> bool:
    """Whether other versions made it, going by the key's own ``version_`` parts; a broken manifest is left alone."""
    try:
        made = json.loads(path.read_bytes())["key"]
        return any(made.get(name) != value for name, value in key.items() if name.startswith("version_"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
