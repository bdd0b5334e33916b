"""Where the words of a text of ASCII stand, in one pass over its bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
from app.types import I64


@kernel
def ascii_pieces(text: NDArray[np.uint8]) -> I64:
    """(n, 2): where each run of letters and digits begins and ends, with the lines under it that join two of them: what
    ``app.lexical.analysis.pieces`` finds, in order.

    >>> ascii_pieces(np.frombuffer(b"(foo, bar__2_", np.uint8)).tolist()
    [[1, 4], [6, 12]]
    """
    found = np.empty(((len(text) + 1) // 2, 2), np.int64)
    size, inside = 0, False
    for place in range(len(text)):
        sign = text[place]
        small = sign | 32
        if 97 <= small <= 122 or 48 <= sign <= 57:
            # After lines that follow a word it goes on.
            if not inside:
                found[size, 0] = place
                size += 1
                inside = True
            found[size - 1, 1] = place + 1
        elif sign != 95:
            inside = False
    return found[:size]
