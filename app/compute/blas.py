"""NumPy's BLAS is kept to one thread; whoever wants more splits the rows over threads of its own.

Two reasons. Bits: OpenBLAS splits a product by its number of threads and rounds the edges of the parts differently on
some processors (Haswell's and Zen's kernels, seen by running them), so a count that changes would change stored
encodings and reference scores. Speed: products here are small and come from many threads at once; BLAS threads under
them wait for each other (200 passages of MaxSim: 20 ms by one thread, over 100 ms by two on a busy machine).

A limit for a while, as ``threadpool_limits`` in a ``with``, is not enough: it holds for the whole process, and the
first of two threads to leave it takes it from the other. So it is set for good. FAISS and torch bring their own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy  # noqa: F401 - its BLAS is loaded with it, and must be there to be found
from threadpoolctl import LibController, ThreadpoolController


@cache
def _libraries() -> list[LibController]:
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [library for library in loaded if "numpy" in Path(library.filepath).parent.name]
    return own or loaded  # a system's BLAS is shared


def keep_to_one_thread() -> None:
    """Set it, for the process, unless it is so already (a microsecond). Every caller of BLAS calls this first."""
    for library in _libraries():
        if library.get_num_threads() != 1:
            library.set_num_threads(1)
