"""The documentation of the running Python's own standard library, as its docstrings hold it.

Several thousand documents on any machine, with nothing downloaded: title = qualified name, text = signature and
docstring, metadata = module, package, kind (module, class, exception, function, method, property, data), deprecated,
and for members their class. The same Python gives the same documents in the same order, by id.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from app.documents import parse_document
from app.errors import RequestError, Unavailable
from app.sources.protocol import Entry

WALK: Final = Path(__file__).with_name("python_docs_walk.py")


class PythonDocs:
    """Read by another interpreter, so that importing the whole library changes nothing here."""

    name = "python-docs"
    unit: Literal["bytes", "documents"] = "documents"
    skipped = 0

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.failed: dict[str, str] = {}
        """Modules that cannot be imported here, and why; most belong to another platform."""

    def entries(self) -> Iterator[Entry]:
        # -I -S: no site-packages, nothing from the environment or the working folder.
        command = [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(WALK)]
        walk = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if walk.returncode != 0:
            raise Unavailable(f"reading the standard library failed: {walk.stderr.decode(errors='replace')}")
        first, *lines = walk.stdout.splitlines()
        summary = json.loads(first)
        self.total, self.failed = summary["documents"], summary["failed"]
        for number, line in enumerate(lines, 1):
            self.done = number
            try:
                yield Entry(number, parse_document(line))
            except RequestError as error:
                yield Entry(number, error)
