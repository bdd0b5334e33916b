"""faiss is imported by this package alone, and only when an index is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import app


@pytest.mark.slow
def test_importing_the_package_does_not_import_faiss() -> None:
    code = "import sys, app.vector_index; sys.exit('faiss' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_else_imports_faiss() -> None:
    root = Path(app.__file__).parent
    guilty = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if any(line.strip().startswith(("import faiss", "from faiss")) for line in path.read_text().splitlines())
    }
    assert guilty == {"vector_index"}
