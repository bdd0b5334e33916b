"""Sequences over HTTP: made, written to, searched, described, moved by a snapshot; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import Sheaf
from app.client.documents import Alignment, Document
from app.client.failures import Invalid

DIM = 4
SEQUENCE = {"encoder": {"model": None, "kind": "sequence", "dim": DIM}}
TUNES = np.random.default_rng(0).standard_normal((12, 30, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def tunes(client: httpx.Client) -> str:
    """Twelve of 30 segments, two a second."""
    body = {"name": "tunes", **SEQUENCE, "segments_per_second": 2}
    assert client.post("/v1/collections", json=body).status_code == 201
    documents = [
        {"id": f"t{i}", "text": f"tune {i}", "metadata": {"n": i}, "vectors": tune.tolist()}
        for i, tune in enumerate(TUNES)
    ]
    answer = client.post("/v1/collections/tunes/documents", json={"documents": documents})
    assert answer.json()["written"] == 12
    return "/v1/collections/tunes"


def test_there_and_back(client: httpx.Client, tunes: str, finished: Callable[[str], Any]) -> None:
    told = client.get(tunes).json()
    assert (told["encoder"]["kind"], told["segments_per_second"]) == ("sequence", 2)
    assert (told["documents"], told["passages"], told["precision"]) == (12, 360, "float32")
    accepted = client.post(f"{tunes}/snapshots").json()
    finished(f"/v1/tasks/{accepted['id']}")
    archive = client.get(f"{tunes}/snapshots/{accepted['id']}").content
    restored = client.put(f"{tunes}-again/restore", content=archive, headers={"Content-Type": "application/x-tar"})
    assert (restored.status_code, restored.json()["segments_per_second"]) == (201, 2)
    for place in (tunes, f"{tunes}-again"):
        asked = {"vectors": TUNES[7, 11:17].tolist(), "k": 2, "explain": True, "include": ["vectors"]}
        best, other = client.post(f"{place}/search", json=asked).json()["hits"]
        assert best["alignment"] == {"offset": 11, "segments": 6, "seconds": 5.5}
        assert (best["id"], best["score"]) == ("t7", pytest.approx(6))
        assert [(one["query"], one["row"]) for one in best["explanation"]["shares"]] == [(i, i + 11) for i in range(6)]
        assert best["vectors"] == TUNES[7].tolist()
        assert other["score"] < 5
    # All of it comes back as it was, in its order.
    line = next(iter(client.get(f"{tunes}/export", params={"include": "vectors"}).text.splitlines()))
    assert line.count("[") > 30 or "base64" in line
    merged = {"collections": ["tunes", "tunes-again"], "vectors": TUNES[7, 11:17].tolist(), "k": 2}
    hits = client.post("/v1/search", json=merged).json()["hits"]
    assert [(hit["id"], hit["alignment"]["offset"]) for hit in hits] == [("t7", 11)] * 2
    assert client.post(f"{tunes}/recall", json={"queries": 5, "k": 3}).json()["recall"] == 1


def test_arrays_of_queries(client: httpx.Client, tunes: str) -> None:
    with Sheaf(str(client.base_url)) as sheaf:
        found = sheaf.collection("tunes").search_vectors(TUNES[[4, 9], 3:8], k=2)
        alone = [sheaf.collection("tunes").search(vectors=TUNES[i, 3:8], k=2) for i in (4, 9)]
        assert [one[0] for one in found.ids] == ["t4", "t9"]
        assert found.scores.tolist() == [[hit.score for hit in one] for one in alone]
        with pytest.raises(Invalid):
            sheaf.collection("tunes").search_vectors(TUNES[4], k=2)


def test_the_client_has_places(client: httpx.Client, tunes: str) -> None:
    with Sheaf(str(client.base_url)) as sheaf:
        (hit,) = sheaf.collection("tunes").search(vectors=TUNES[2, 25:], k=1)
        assert hit.alignment == Alignment(25, 5, 12.5)
        made = sheaf.create("untimed", model=None, kind="sequence", dim=DIM)
        made.write([Document("a", vectors=TUNES[0])])
        # The query begins before the document: of eight segments three lie on nothing.
        (hit,) = made.search(vectors=np.concatenate([TUNES[1, :3], TUNES[0, :5]]), k=1)
        assert hit.alignment == Alignment(-3, 5, None)
        with pytest.raises(Invalid):
            made.search(vectors=TUNES[0], passages=2)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({**SEQUENCE, "similarity": "euclidean"}, "/similarity"),
    ({**SEQUENCE, "token_pooling": 4}, "/token_pooling"),
    ({**SEQUENCE, "token_pooling": {"vectors": 4}}, "/token_pooling"),
    ({**SEQUENCE, "precision": "4bit"}, "/precision"),
    ({**SEQUENCE, "passages": {"split": "structure"}}, "/passages/split"),
    ({**SEQUENCE, "segments_per_second": 0}, "/segments_per_second"),
    ({**SEQUENCE, "segments_per_second": "2"}, "/segments_per_second"),
    ({"encoder": {"model": "words"}, "segments_per_second": 2}, "/segments_per_second"),
    ({"encoder": {"model": "words", "kind": "sequence"}}, "/encoder/kind"),
    ({"encoder": {"model": None, "kind": "sequence"}}, "/encoder/dim"),
]


@pytest.mark.parametrize(("body", "pointer"), REFUSED)
def test_collections_that_are_refused(client: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/collections", json={"name": "never", **body})
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])


SEARCHES: list[tuple[dict[str, Any], str]] = [
    ({"vectors": []}, "/vectors"),
    ({"vectors": [[1, 2]]}, "/vectors"),
    ({"vector": [1, 2, 3, 4]}, "/vector"),
    ({"vectors": [[0, 0, 0, 0]]}, "/vectors"),
    ({"vectors": [[1, 2, 3, 4]], "mode": "dense"}, "/mode"),
    ({"vectors": [[1, 2, 3, 4]], "passages": 3}, "/passages"),
    ({"vectors": [[1, 2, 3, 4]], "diversity": {"weight": 0.5}}, "/diversity"),
    ({"like": {"positive": ["t1"]}, "mode": "semantic"}, "/like"),
    ({"query": "tune", "vectors": [[1, 2, 3, 4]], "weights": {"tokens": 1}}, "/weights/tokens"),
]


@pytest.mark.parametrize(("body", "pointer"), SEARCHES)
def test_searches_that_are_refused(client: httpx.Client, tunes: str, body: dict[str, Any], pointer: str) -> None:
    answer = client.post(f"{tunes}/search", json=body)
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"vectors": []}, "/documents/0/vectors"),
        ({"vectors": [[1, 2, 3]]}, "/documents/0/vectors"),
        ({"vectors": [[1, 2, 3, 4], [1, 2, 3]]}, "/documents/0/vectors/1"),
        ({"vector": [1, 2, 3, 4]}, "/documents/0/vector"),
        ({"text": "no segments"}, "/documents/0/vectors"),
    ],
)
def test_documents_that_are_refused(client: httpx.Client, tunes: str, document: dict[str, Any], pointer: str) -> None:
    answer = client.post(f"{tunes}/documents", json={"documents": [{"id": "x", **document}]})
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])


def test_a_patch_changes_all_segments_or_none(client: httpx.Client, tunes: str) -> None:
    assert client.put(f"{tunes}/documents/new", json={"vectors": TUNES[3].tolist()}).status_code == 201
    assert client.patch(f"{tunes}/documents/new", json={"metadata": {"n": 99}}).status_code == 200
    only = {"ids": ["new"], "k": 1}
    (hit,) = client.post(f"{tunes}/search", json={**only, "vectors": TUNES[3, 20:24].tolist()}).json()["hits"]
    assert hit["alignment"]["offset"] == 20
    assert client.patch(f"{tunes}/documents/new", json={"vectors": TUNES[3, 15:].tolist()}).status_code == 200
    (hit,) = client.post(f"{tunes}/search", json={**only, "vectors": TUNES[3, 20:24].tolist()}).json()["hits"]
    assert (hit["alignment"]["offset"], hit["metadata"]) == (5, {"n": 99})
    assert client.delete(f"{tunes}/documents/new").status_code == 200
