"""An array that only grows, of which readers take views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Growing:
    """A (length, ...) array that is appended to; views taken before stay valid."""

    def __init__(self, dtype: Any, *shape: int) -> None:
        self._array: NDArray[Any] = np.empty((16, *shape), dtype)
        self.length = 0

    def reserve(self, more: int) -> None:
        """Makes room, so that appending so many rows cannot fail."""
        needed = self.length + more
        if needed > len(self._array):
            grown = np.empty((max(needed, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype)
            grown[: self.length] = self._array[: self.length]
            self._array = grown

    def append(self, rows: NDArray[Any]) -> None:
        """``reserve`` has made room for them."""
        self._array[self.length : self.length + len(rows)] = rows
        self.length += len(rows)

    def view(self, length: int) -> NDArray[Any]:
        return self._array[:length]
