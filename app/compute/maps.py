"""Maps of files that keep no file open: a process may have many thousands of maps, and few open files.

``mmap.mmap`` keeps a second descriptor of what it maps, which only Python 3.13 and later can be told not to. So the
pages are taken without a file first, and the file's are put in their place (MAP_FIXED): the object that took them gives
them back.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from typing import Any, Final

import numpy as np

_FIXED: Final = 0x10
"""MAP_FIXED, of Linux, macOS and the BSDs."""
_FAILED: Final = ctypes.c_void_p(-1).value
_lost: list[mmap.mmap] = []
"""Whose place may be another's by now: never given back."""


def pages_of(descriptor: int, size: int) -> mmap.mmap:
    """The first ``size`` bytes (more than 0) of a file, read-only. It may be closed and removed afterwards.

    Raises OSError.
    """
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED, trackfd=False)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    address = np.frombuffer(pages, np.uint8).ctypes.data
    if _mmap()(address, size, mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, descriptor, 0) == _FAILED:
        number = ctypes.get_errno()
        _lost.append(pages)
        raise OSError(number, os.strerror(number))
    return pages


@cache
def _mmap() -> Any:
    found = ctypes.CDLL(None, use_errno=True).mmap
    found.restype = ctypes.c_void_p
    found.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return found
