"""Loops compiled for this CPU by numba, at their first use or loaded from where they were kept.

A module marks its loops with ``kernel``; that costs nothing until one is called. Compiling all of them takes seconds,
so a server says once where to keep the machine code (``keep_in``) and loads it from there at its next start. A new
folder begins with what was compiled when Sheaf was installed; what that was compiled for another CPU is of no use here,
and compiled anew. A user who can write such a folder can run code here, exactly as with the installation itself: one
that others could write is not used, and then nothing is kept. Disks err too: a file whose checksum differs is not read,
and its loop is compiled anew.

No kernel uses fast mathematics, so results have the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar

import llvmlite.binding
import numba
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)

SOURCES: Final = (
    "codes",
    "compute",
    "encodings",
    "lexical",
    "scoring",
    "scoring/networks",
    "scoring/similarities",
    "sparse",
    "vector_index",
)
"""The folders of app/ that hold loops and parts of loops."""
INSTALLED: Final = Path(sys.prefix) / "share" / "sheaf" / "compiled"
"""What was compiled when Sheaf was installed (``app.catalogue.prepare``); only read."""
_kernels: list[Any] = []
_kept: list[Path] = []


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """numba's two files of a loop, an index and its code, each behind its own SHA-256.

    numba itself would run code in which a bit has flipped, and fail where it cannot write.
    """

    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, data)
        except OSError as error:
            log.warning("machine code is not kept, and compiled anew at the next start: %s", error)

    def _load_index(self) -> Any:
        try:
            content = BytesIO(_read(self._index_path))
        except OSError:
            return {}
        if pickle.load(content) != self._version:  # noqa: S301
            return {}
        stamp, overloads = pickle.load(content)  # noqa: S301
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        # numba takes an OSError for a file that is not there.
        return pickle.loads(_read(self._data_path(name)))  # noqa: S301

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[BinaryIO]:
        content = BytesIO()
        yield content
        value = content.getvalue()
        with super()._open_for_write(path) as file:
            file.write(hashlib.sha256(value).digest() + value)


class _Cache(FunctionCache):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        impl = self._impl
        self._cache_file = _Files(self._cache_path, impl.filename_base, impl.locator.get_source_stamp())


def _read(path: str) -> bytes:
    """The content that was written. Raises OSError."""
    content = Path(path).read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise OSError(f"{path} is not what was written")
    return content[32:]


def kernel(function: Function) -> Function:
    """Compiled at its first call, without the interpreter lock while it runs."""
    return _compiled(function)


def kernel_in_any_order(function: Function) -> Function:
    """The same, where sums of floats may be taken in any order, so that several are at once. For what is within a bound
    of a reference; its last bits depend on the processor."""
    return _compiled(function, fastmath={"reassoc", "contract"})


def _compiled(function: Function, **how: Any) -> Function:
    dispatcher = numba.njit(nogil=True, error_model="numpy", **how)(function)
    _kernels.append(dispatcher)
    if _kept:
        dispatcher._cache = _Cache(function)
    compiled: Function = dispatcher
    return compiled


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Part of a kernel that numba cannot express, built of LLVM's instructions: numba's ``intrinsic``, with a type."""
    made: Callable[..., Any] = intrinsic(function)
    return made


def prepare(loops: Iterable[None], going: Callable[[], bool] = lambda: True) -> None:
    """Compiles loops, or loads them: seconds at a first start, parts of one at others.

    loops: compiles one before each of what it gives. going: asked then; where it says no, the rest is left, so that a
    server that is told to stop does.
    """
    for _ in loops:
        if not going():
            return


def keep_in(folder: Path, installed: Path = INSTALLED) -> None:
    """Keep machine code under ``folder`` from now on, for this process's life; the first call decides.

    Where numba's own variable NUMBA_CACHE_DIR names a folder, it is that one. installed: what a new one begins with.
    """
    if _kept:
        return
    try:
        place = Path(config.CACHE_DIR or folder) / _version()
        if not place.exists():
            _bring(installed / place.name, place)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(place, [os.geteuid()])
        if not os.access(place, os.W_OK):
            raise PermissionError(f"{place} cannot be written")
    except OSError as error:
        log.warning("machine code is compiled anew at every start: %s", error)
        return
    config.CACHE_DIR = str(place)
    _kept.append(place)
    for dispatcher in _kernels:
        dispatcher._cache = _Cache(dispatcher.py_func)
    _load_without_blas()


def _load_without_blas() -> None:
    """Loads what numba would with its first loop, but for SciPy, of which it looks for a BLAS: a quarter of a second of
    each start, and no loop multiplies matrices."""
    from numba.np import linalg

    def absent() -> None:
        raise ImportError

    real, linalg.ensure_blas = linalg.ensure_blas, absent
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = real


def _bring(installed: Path, place: Path) -> None:
    """Whole or not at all. Where it cannot be, loops are compiled as if nothing had been installed."""
    half = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        if not installed.is_dir():
            return
        # Root's, where it installed for another user.
        _require_own(installed, [0, os.geteuid()])
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copytree(installed, half)
        half.chmod(0o700)
        half.rename(place)
    except OSError as error:
        log.info("the machine code of the installation is not taken: %s", error)
        shutil.rmtree(half, ignore_errors=True)


def _require_own(folder: Path, owners: Sequence[int]) -> None:
    """Raises PermissionError where others than these users could write it."""
    status = folder.stat()
    if status.st_uid not in owners or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} belongs to another user, or others may write it")


@cache
def byte_instructions() -> Literal["avx512_vnni", "avx2"] | None:
    """What the CPU that loops are compiled for multiplies bytes with: 64 pairs in one instruction, or 32; None where it
    widens them before.

    This CPU, unless numba's own NUMBA_CPU_FEATURES says what is compiled for.
    """
    try:
        host = llvmlite.binding.get_host_cpu_features().flatten()
    except RuntimeError:
        host = ""
    features = set((host if config.CPU_FEATURES is None else config.CPU_FEATURES).split(","))
    if {"+avx512f", "+avx512bw", "+avx512vnni"} <= features:
        return "avx512_vnni"
    return "avx2" if "+avx2" in features else None


def _version() -> str:
    """numba looks at the file of the outer kernel alone, so what it keeps is named by the content of all of them."""
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in SOURCES:
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
