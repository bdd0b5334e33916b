"""Whether torch and the libraries of its models are installed: a slim installation leaves them out."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from app.errors import EncoderRefused

LIBRARIES: Final = ("torch", "transformers", "sentence_transformers")


def require(model: str) -> None:
    """Raises EncoderRefused where one of them is not installed. model: what needs it, for the message."""
    missing = [name for name in LIBRARIES if not has(name)]
    if missing:
        raise EncoderRefused(
            f"{model} needs {', '.join(LIBRARIES)}, and this slim installation has no {' and no '.join(missing)}: take "
            "the full image (docker build --target full, or SHEAF_IMAGE=full for compose), or `make install`"
        )


def has(library: str) -> bool:
    """Whether it is there, without importing it."""
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):
        # Where somebody keeps it from being imported.
        return False
