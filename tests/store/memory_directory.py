"""A ``Directory`` as an object store would have it, in memory: names with slashes, whole objects, no folders.

An unfinished file is nowhere; ``publish`` of a folder moves what begins with its name; nothing has a path.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from app.store.directory import Directory

SLASH = "/"


@dataclass
class Objects:
    """The state that all directories of one store share."""

    content: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True)
class MemoryDirectory:
    """The objects whose names begin with ``at``."""

    store: Objects = field(default_factory=Objects)
    at: str = "store"

    @property
    def name(self) -> str:
        return self.at.rpartition(SLASH)[2]

    @property
    def path(self) -> Path:
        raise NotImplementedError("it lies nowhere on local disk")

    @property
    def source(self) -> None:
        """All of each is here."""

    @property
    def parent(self) -> MemoryDirectory:
        return MemoryDirectory(self.store, self.at.rpartition(SLASH)[0])

    def folder(self, name: str, /) -> MemoryDirectory:
        return MemoryDirectory(self.store, f"{self.at}/{name}")

    def list(self) -> list[str]:
        start = len(self.at) + 1
        return sorted({key[start:].partition(SLASH)[0] for key in self._below(self.at)})

    def has(self, name: str, /) -> bool:
        return f"{self.at}/{name}" in self.store.content or self.is_folder(name)

    def is_folder(self, name: str, /) -> bool:
        return bool(self._below(f"{self.at}/{name}"))

    def size(self, name: str, /) -> int:
        return len(self.read(name))

    def read(self, name: str, /) -> bytes:
        try:
            return self.store.content[f"{self.at}/{name}"]
        except KeyError:
            raise FileNotFoundError(name) from None

    def map(self, name: str, /) -> memoryview:
        return memoryview(self.read(name))

    def open(self, name: str, /) -> BufferedReader:
        return BufferedReader(BytesIO(self.read(name)))  # type: ignore[arg-type]

    def make(self) -> None:
        pass

    def unmake(self) -> None:
        pass

    def create(self, name: str, /) -> _Upload:
        if self.has(name):
            raise FileExistsError(name)
        return _Upload(self.store, f"{self.at}/{name}")

    def place(self, name: str, size: int, /) -> _Placed:
        self.store.content[f"{self.at}/{name}"] = bytes(size)
        return self.placed(name)

    def placed(self, name: str, /) -> _Placed:
        self.read(name)
        return _Placed(self.store, f"{self.at}/{name}")

    def link(self, name: str, target: Directory, /) -> None:
        content = self.read(name)
        made = target.create(name)
        made.write(content)
        made.finish()

    def publish(self, name: str, as_name: str, /) -> None:
        here, there = f"{self.at}/{name}", f"{self.at}/{as_name}"
        with self.store.lock:
            if here in self.store.content:
                self.store.content[there] = self.store.content.pop(here)
                return
            keys = self._below(here)
            if not keys:
                raise FileNotFoundError(name)
            if self.has(as_name):
                raise OSError(f"{as_name} is not empty")
            for key in keys:
                self.store.content[there + key[len(here) :]] = self.store.content.pop(key)

    def remove(self, name: str, /) -> None:
        with self.store.lock:
            for key in [f"{self.at}/{name}", *self._below(f"{self.at}/{name}")]:
                self.store.content.pop(key, None)

    def sync(self) -> None:
        pass

    def lock(self, name: str, /) -> _Lease:
        return _Lease(self.store, f"{self.at}/{name}")

    def free(self) -> int:
        return 2**62

    def _below(self, at: str) -> list[str]:
        return [key for key in self.store.content if key.startswith(f"{at}/")]


class _Upload:
    def __init__(self, store: Objects, key: str) -> None:
        self._store, self._key, self._content = store, key, bytearray()

    def write(self, content: Any, /) -> None:
        self._content += memoryview(content).cast("B")

    def finish(self) -> int:
        with self._store.lock:
            if self._key in self._store.content:
                raise FileExistsError(self._key)
            self._store.content[self._key] = bytes(self._content)
        return len(self._content)

    def close(self) -> None:
        pass


class _Placed:
    def __init__(self, store: Objects, key: str) -> None:
        self._store, self._key = store, key

    def write(self, content: bytes, at: int, /) -> None:
        with self._store.lock:
            before = self._store.content[self._key]
            self._store.content[self._key] = before[:at] + content + before[at + len(content) :]

    def map(self) -> memoryview:
        return memoryview(self._store.content[self._key])

    def written(self) -> list[tuple[int, int]]:
        return [(0, len(self._store.content[self._key]))]

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Lease:
    """Put on condition that nobody else has it."""

    def __init__(self, store: Objects, key: str) -> None:
        self._store, self._key = store, key
        self.held = False

    def acquire(self, note: str = "") -> bool:
        with self._store.lock:
            if not self.held and self._key not in self._store.content:
                self._store.content[self._key], self._store.notes[self._key] = b"", note
                self.held = True
        return self.held

    def note(self) -> str:
        return self._store.notes.get(self._key, "")

    def release(self) -> None:
        if self.held:
            del self._store.content[self._key]
            self.held = False
