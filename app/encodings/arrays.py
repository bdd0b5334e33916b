"""Fitted arrays read back: safetensors of the expected names and shapes, finite float32, or Damaged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from app.errors import Damaged
from app.types import F32


def read_arrays(content: bytes, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, F32]:
    """The arrays by name, copies. content: verified by its checksum. shapes: None stands for any length from 1.

    >>> from safetensors.numpy import save
    >>> read_arrays(save({"mean": np.ones(2, np.float32)}), {"mean": (2,)})["mean"].tolist()
    [1.0, 1.0]
    """
    try:
        found = load_tensors(content)
    except SafetensorError as error:
        raise Damaged(f"the encoding's arrays cannot be read: {error}") from error
    if set(found) != set(shapes):
        raise Damaged(f"expected the encoding's arrays {sorted(shapes)}, found {sorted(found)}")
    for name, shape in shapes.items():
        array = found[name]
        fits = array.ndim == len(shape) and all(
            length == wanted if wanted is not None else length > 0
            for length, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype != np.float32 or not np.isfinite(array).all():
            raise Damaged(f"the encoding's array {name} is not finite float32 of shape {shape}")
    return {name: array.copy() for name, array in found.items()}
