"""Memory that faiss reads where it lies: nothing is copied, and nothing is freed."""

from __future__ import annotations

from functools import cache
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


def viewed(array: NDArray[Any]) -> Any:
    """An array's bytes, contiguous, as faiss takes codes. Only an address leaves NumPy, so read-only memory is fine
    where nothing is ever added; whoever takes it keeps the array alive."""
    codes = array.view(np.uint8).reshape(-1)
    return faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), codes.size, _no_owner())


@cache
def _in_place() -> Any:
    """An index that reads a buffer in place, and the buffer; kept, since what it gives out points into it."""
    content = faiss.serialize_index(faiss.IndexFlatIP(1))
    return faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(content), len(content))), content


def _no_owner() -> Any:
    """The null pointer that stands for memory which faiss need not keep alive. Python cannot make one, but it can ask
    an index that has it."""
    return _in_place()[0].codes.owner
