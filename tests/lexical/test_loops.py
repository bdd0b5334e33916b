"""The loops over words are compiled while nobody waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys, tempfile
from pathlib import Path
from app.catalogue.catalogue import Catalogue
from app.compute import native
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.scoring import inner_product
from app.search import Query, loops, search
from app.settings import DeterministicModel, Settings
from app.types import Document


def compiled():
    ours = ("app.lexical.", inner_product.__name__)
    return {(one.__name__, str(signature)) for one in native._kernels
            if one.py_func.__module__.startswith(ours) for signature in one.signatures}


with tempfile.TemporaryDirectory() as folder:
    settings = Settings(indexes=Path(folder), models={"words": DeterministicModel(type="deterministic", dim=8)})
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        made = catalogue.create("c", model="words", kind="multi_vector")
        native.prepare(loops())
        before = compiled()
        assert before
        for _ in range(2):
            number = len(made.published.segments)
            write_documents(made, [Document(f"{number}-{i}", "some words are here", "titles") for i in range(5)])
            for text in ("words", '"some words"', "title:titles -here", "wor*", "wrods~", "+some word* are"):
                for mode, weights in (("lexical", {}), ("hybrid", {}), ("lexical", {"title": 2.5})):
                    search(made, Query(text=text, mode=mode, syntax="query", k=3, field_weights=weights))
            seal(made)
        for text in ("words", '"some words"', "title:titles", "wor*", "wrods~"):
            for weights in ({}, {"title": 0.5}):
                search(made, Query(text=text, mode="lexical", syntax="query", k=3, field_weights=weights))
        print(sorted(compiled() - before))
"""


@pytest.mark.slow
def test_what_is_compiled_at_the_start_is_all_that_searches_by_words_use() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
