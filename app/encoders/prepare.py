"""Converts the built-in model once, for every server of this installation: ``python -m app.encoders.prepare [FOLDER]``.

``make install`` and the image's build end with it. Where it was not done, or the folder cannot be written, a server
converts the model itself, in the background, and keeps it among its collections.
"""

from __future__ import annotations

import sys
from pathlib import Path

from app.encoders.local import PREPARED
from app.encoders.registry import BUILTIN, Encoders
from app.encoders.torch.backbone import choose_device


def main(folder: Path = PREPARED) -> str:
    """Which backend runs the built-in model, which is ready in ``folder`` then. Raises EncoderError."""
    encoders = Encoders({}, folder)
    try:
        encoder = encoders.get(BUILTIN, "multi_vector")
        encoder.encode_queries(["a"])
        return encoder.backend
    finally:
        encoders.close()


if __name__ == "__main__":
    if choose_device("auto") == "cpu":
        sys.stdout.write(f"the built-in encoder is ready: {main(*map(Path, sys.argv[1:]))}\n")
