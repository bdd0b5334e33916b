"""A head as an encoder by name, over HTTP: created, searched, kept over a restart and in a snapshot, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from running import Running

from app.client import Sheaf
from app.encoders.heads.head import FILE, Head
from app.encoders.registry import Encoders
from app.scoring.networks.network import Layer, Network
from app.settings import DeterministicModel, DistilledModel

WORDS = DeterministicModel(type="deterministic", dim=16)
TEXTS = {"cat": "a cat sleeps on the mat", "dog": "a dog barks at night", "hen": "a hen lays eggs"}


def write(folder: Path, seed: int) -> None:
    encoder = Encoders({"words": WORDS}).get("words", "dense")
    weights = np.random.default_rng(seed).standard_normal((16, 12)).astype(np.float32)
    network = Network((Layer(weights),))
    folder.mkdir(exist_ok=True)
    head = Head(encoder.fingerprint, 16, (12, 6), {"query": network, "document": network})
    (folder / FILE).write_bytes(head.to_bytes())


def test_a_head_is_an_encoder_by_name(serve: Callable[..., Running], tmp_path: Path) -> None:
    folder = tmp_path / "head"
    write(folder, 1)
    head = DistilledModel(type="distilled", path=str(folder), base="words")
    models = {"words": WORDS, "short": head, "lost": head.model_copy(update={"path": str(tmp_path / "absent")})}
    first = serve(models=models)
    with httpx.Client(base_url=first.url, trust_env=False, timeout=60) as client:
        refused = client.post(
            "/v1/collections", json={"name": "c", "encoder": {"model": "short", "kind": "multi_vector"}}
        )
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/encoder/kind"
        refused = client.post(
            "/v1/collections", json={"name": "c", "encoder": {"model": "short", "kind": "dense", "dim": 7}}
        )
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert (error["pointer"], "12 or 6 dimensions, got 7" in refused.text) == ("/encoder/dim", True), refused.text
        lost = client.post("/v1/collections", json={"name": "c", "encoder": {"model": "lost", "kind": "dense"}})
        assert (lost.status_code, lost.json()["code"]) == (503, "encoder_refused")
        assert "holds no head" in lost.json()["detail"]
        for name, dim in (("whole", None), ("half", 6)):
            encoder = {"model": "short", "kind": "dense", **({} if dim is None else {"dim": dim})}
            made = client.post("/v1/collections", json={"name": name, "encoder": encoder})
            assert made.status_code == 201, made.text
            assert made.json()["encoder"] == {**encoder, "dim": dim or 12}
            documents = [{"id": key, "text": text} for key, text in TEXTS.items()]
            assert client.post(f"/v1/collections/{name}/documents", json={"documents": documents}).status_code == 200
        (told,) = [one for one in client.get("/v1/info").json()["models"] if one["name"] == "short"]
        assert (told["dim"], told["dims"], told["backend"]) == (12, [12, 6], "a head on hash")
        before = {name: found(client, name) for name in ("whole", "half")}
        vectors = client.post("/v1/embeddings", json={"model": "short", "input": ["a cat"], "dimensions": 6}).json()
        assert len(vectors["data"][0]["embedding"]) == 6
    with Sheaf(first.url) as sheaf:
        task = sheaf.follow(sheaf.collection("half").snapshot())
        archive = httpx.get(f"{first.url}/v1/collections/half/snapshots/{task.id}").content
    first.stop()
    second = serve(models=models)
    with httpx.Client(base_url=second.url, trust_env=False, timeout=60) as client:
        kept = client.put(
            "/v1/collections/copy/restore", content=archive, headers={"Content-Type": "application/x-tar"}
        )
        assert kept.status_code == 201, kept.text
        for name, truth in (("whole", before["whole"]), ("half", before["half"]), ("copy", before["half"])):
            assert found(client, name) == truth
    second.stop()
    write(folder, 2)
    with httpx.Client(base_url=serve(models=models).url, trust_env=False, timeout=60) as client:
        for name in ("half", "copy"):
            assert client.get(f"/v1/collections/{name}/documents/cat").json()["text"] == TEXTS["cat"]
            answer = client.post(f"/v1/collections/{name}/search", json={"query": "a cat"})
            assert (answer.status_code, answer.json()["code"]) == (409, "encoder_changed")


def found(client: httpx.Client, name: str) -> list[tuple[str, float]]:
    answer = client.post(f"/v1/collections/{name}/search", json={"query": TEXTS["cat"], "mode": "dense"})
    assert answer.status_code == 200, answer.text
    hits = [(hit["id"], hit["score"]) for hit in answer.json()["hits"]]
    assert hits[0] == ("cat", pytest.approx(1, abs=1e-5))
    return hits
