"""Compiles the loops of searches once, for every server of this installation: ``python -m app.catalogue.prepare
[FOLDER]``.

`make install` and the image's build end with it, so that a server in a new folder does not begin by compiling for
seconds. Where it was not done, or for another CPU or other code, a server compiles them itself, in the background.
"""

from __future__ import annotations

import sys
from pathlib import Path

from app.compute.native import INSTALLED, keep_in, prepare
from app.search import loops


def main(folder: Path = INSTALLED) -> None:
    """All of them are in ``folder`` then."""
    keep_in(folder)
    prepare(loops())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    sys.stdout.write("the loops of searches are compiled\n")
