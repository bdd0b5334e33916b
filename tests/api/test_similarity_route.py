"""Similarities over HTTP: made, written to, searched, described, moved by a snapshot; and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app import reference
from app.scoring.similarities.bilinear import causal_matrix
from app.types import F32

MATRIX = np.array([[1, 0, 2], [0, -1, 0.5]], np.float32)
SAMPLE = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def packed(matrix: F32) -> dict[str, Any]:
    return {"base64": base64.b64encode(matrix.tobytes()).decode(), "dtype": "float32", "shape": list(matrix.shape)}


CASES: list[tuple[str, dict[str, Any] | None, F32 | None, dict[str, Any] | None]] = [
    # (similarity, its options, the matrix of the form, what is told of the options)
    ("euclidean", {"length": 3}, None, {"length": 3}),
    ("bilinear", {"matrix": packed(MATRIX)}, MATRIX, {"matrix": [2, 3]}),
    ("bilinear", {"matrix": MATRIX.tolist()}, MATRIX, {"matrix": [2, 3]}),
    (
        "causal",
        {"sample": packed(SAMPLE)},
        causal_matrix(SAMPLE),
        {"matrix": [3, 3], "regularisation": 0.01, "of": 40},
    ),
    (
        "causal",
        {"documents": 20, "regularisation": 0.5},
        causal_matrix(SAMPLE[:20] / 2, 0.5),
        {"matrix": [3, 3], "documents": 20, "regularisation": 0.5, "of": 20},
    ),
    ("poincare", None, None, None),
    ("lorentz", None, None, None),
]


@pytest.mark.parametrize(("name", "options", "matrix", "told"), CASES)
def test_there_and_back(
    client: httpx.Client,
    create: Callable[..., str],
    finished: Callable[[str], Any],
    name: str,
    options: dict[str, Any] | None,
    matrix: F32 | None,
    told: dict[str, Any] | None,
) -> None:
    given = SAMPLE / 2
    if name == "poincare":
        given = given / (1 + np.linalg.norm(given, axis=1, keepdims=True))
    elif name == "lorentz":
        given = np.concatenate([np.sqrt(1 + np.square(given[:, 1:]).sum(axis=1, keepdims=True)), given[:, 1:]], axis=1)
    body = {"encoder": {"model": None, "kind": "dense", "dim": 3}, "similarity": name}
    address = create(**body, **({} if options is None else {"similarity_options": options}))
    for some in (range(20), range(20, 40)):
        documents = [{"id": f"d{i}", "text": f"number {i}", "vector": given[i].tolist()} for i in some]
        assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    described = client.get(address).json()
    assert (described["similarity"], described["similarity_options"]) == (name, told)
    whole = client.get(address, params={"include": "matrix"}).json()["similarity_options"]
    if matrix is None:
        assert whole == told
    else:
        # As it is told a creation takes it.
        assert whole == {**(told or {}), "matrix": packed(matrix)}
        other = create(**body, similarity_options={"matrix": whole["matrix"]})
        assert client.get(other, params={"include": "matrix"}).json()["similarity_options"]["matrix"] == packed(matrix)
    query = given[3:4] if matrix is None else SAMPLE[7:8, : len(matrix)]
    expected = reference.exact_search(
        {f"d{i}": [given[i : i + 1]] for i in range(40)}, query, 5, kind="dense", similarity=name, matrix=matrix
    )
    asked = {"vector": query[0].tolist(), "k": 5}
    accepted = client.post(f"{address}/snapshots").json()
    finished(f"/v1/tasks/{accepted['id']}")
    archive = client.get(f"{address}/snapshots/{accepted['id']}").content
    restored = client.put(f"{address}-restored/restore", content=archive, headers={"Content-Type": "application/x-tar"})
    assert (restored.status_code, restored.json()["similarity_options"]) == (201, told)
    for place in (address, f"{address}-restored"):
        hits = client.post(f"{place}/search", json=asked).json()["hits"]
        assert [hit["id"] for hit in hits] == [identifier for identifier, _ in expected]
        scores = [hit["score"] for hit in hits]
        np.testing.assert_allclose(scores, [score for _, score in expected], rtol=1e-6, atol=1e-6)
    line = client.get(f"{address}/export", params={"include": "vectors"}).text.splitlines()[0]
    assert f'"vector":{given[0].tolist()}'.replace(" ", "")[:12] in line


def test_a_kernel_is_described_and_searched_by(client: httpx.Client, create: Callable[..., str]) -> None:
    kernel = {"type": "log", "b": 8.0, "p": 1.0}
    address = create(encoder={"model": "words"}, similarity_options={"kernel": {"type": "log", "b": 8}})
    assert client.get(address).json()["similarity_options"] == {"kernel": kernel}
    texts = {"cat": "a cat sleeps", "dog": "a dog barks at night"}
    documents = [{"id": name, "text": text} for name, text in texts.items()]
    assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    for mode in ("semantic", "hybrid"):
        hits = client.post(f"{address}/search", json={"query": "a cat", "mode": mode, "explain": True}).json()["hits"]
        assert [hit["id"] for hit in hits] == ["cat", "dog"]
        for hit in hits:
            own = sum(one["product"] for one in hit["explanation"]["shares"])
            tokens = [one["score"] for one in hit["explanation"]["sides"] if one["side"] == "tokens"]
            assert own <= 0
            assert own == pytest.approx(tokens[0] if mode == "hybrid" else hit["score"], abs=1e-5)


BOTH = {"documents": 9, "sample": [[1.0]]}
REFUSED: list[tuple[str, Any, str]] = [
    ("bilinear", None, "/similarity_options/matrix"),
    ("bilinear", {}, "/similarity_options/matrix"),
    ("bilinear", {"matrix": "unknown"}, "/similarity_options/matrix"),
    ("bilinear", {"matrix": [[1, 2]]}, "/similarity_options/matrix"),
    ("bilinear", {"matrix": [[1, 2, 3], [1]]}, "/similarity_options/matrix/1"),
    ("bilinear", {"matrix": [[1, 2, 1e39]]}, "/similarity_options/matrix/0/2"),
    ("bilinear", {"matrix": 3}, "/similarity_options/matrix"),
    (
        "bilinear",
        {"matrix": {"base64": "AAAA", "dtype": "float32", "shape": [1, 3]}},
        "/similarity_options/matrix/base64",
    ),
    ("causal", None, "/similarity_options"),
    ("causal", BOTH, "/similarity_options"),
    ("causal", {"sample": [[1, 2, 3]]}, "/similarity_options/sample"),
    ("causal", {"sample": [[1, 2, 3], [1, 2, 4]], "regularisation": 0}, "/similarity_options/sample"),
    ("causal", {"documents": 1}, "/similarity_options/documents"),
    ("causal", {"documents": 9, "regularisation": -1}, "/similarity_options/regularisation"),
    ("euclidean", {"length": 0}, "/similarity_options/length"),
    ("euclidean", {"width": 1}, "/similarity_options/width"),
    ("euclidean", 3, "/similarity_options"),
    ("cosine", {"length": 1}, "/similarity_options/length"),
    ("poincare", {"matrix": [[1, 2, 3]]}, "/similarity_options/matrix"),
    ("cosine", {"kernel": {"type": "log"}}, "/similarity_options/kernel"),
    ("cosine", {"kernel": {"type": "gauss"}}, "/similarity_options/kernel/type"),
    ("cosine", {"kernel": {"type": "log", "p": 0}}, "/similarity_options/kernel/p"),
    ("cosine", {"kernel": {"type": "log", "b": -1}}, "/similarity_options/kernel/b"),
]


@pytest.mark.parametrize(("name", "options", "pointer"), REFUSED)
def test_refused_options(client: httpx.Client, name: str, options: Any, pointer: str) -> None:
    body = {"name": "refused", "encoder": {"model": None, "kind": "dense", "dim": 3}, "similarity": name}
    if options is not None:
        body["similarity_options"] = options
    answer = client.post("/v1/collections", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert client.get("/v1/collections/refused").status_code == 404


@pytest.mark.parametrize(
    ("name", "vector", "said"),
    [("poincare", [0.9, 0.9], "0.273 outside of the edge"), ("lorentz", [1.5, 0.5], "where 1.11803 would do")],
)
def test_points_off_the_manifold(
    client: httpx.Client, create: Callable[..., str], name: str, vector: list[float], said: str
) -> None:
    address = create(encoder={"model": None, "kind": "dense", "dim": 2}, similarity=name)
    document = {"id": "a", "vector": vector}
    written = client.post(f"{address}/documents", json={"documents": [document]})
    asked = client.post(f"{address}/search", json={"vector": vector})
    for answer, pointer in ((written, "/documents/0/vector"), (asked, "/vector")):
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["pointer"]) == (422, pointer)
        assert said in error["message"]
