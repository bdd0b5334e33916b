"""A bulk build whose texts are encoded on a real Ray cluster: two hosts on loopback, of which one is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, Listed, MakeCollection, OpenCatalogue
from ray_hosts import HOST, ray_cluster

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.heads.head import FILE, Head
from app.encoders.protocol import Fingerprint
from app.encoders.registry import Encoders
from app.errors import EncoderUnavailable, Invalid, TextRefused
from app.load import bulk
from app.load.cluster import Cluster, Recipe, Refused, Rows, encode
from app.scoring.networks.network import Layer, Network
from app.search import Query, search
from app.settings import DeterministicModel, DistilledModel, Settings
from app.types import Document

ROOT = Path(__file__).parents[2]
WORDS = [f"word{i}" for i in range(50)]
MODELS = {"words": DeterministicModel(type="deterministic", dim=DIM)}


@dataclass
class Hosts:
    """A cluster of a head that encodes nothing and two hosts of one processor each."""

    cluster: Any
    hosts: list[Any]

    def lose_one(self) -> None:
        """As where its power is cut."""
        self.cluster.remove_node(self.hosts.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with ray_cluster(0) as made:
        yield Hosts(made, [made.add_node(**HOST, num_cpus=1) for _ in range(2)])


@pytest.fixture(scope="module")
def cluster(hosts: Hosts) -> Iterator[Cluster]:
    with Cluster(hosts.cluster.address) as connected:
        yield connected


def texts(count: int) -> list[Document]:
    random = np.random.default_rng(0)
    return [Document(f"d{i}", " ".join(random.choice(WORDS, 9)), f"title {i}", {"n": i}) for i in range(count)]


def fill(collection: Collection, documents: list[Document], cluster: Cluster | None, **how: Any) -> bulk.Summary:
    how.setdefault("progress", lambda summary: None)
    return bulk.fill(
        collection,
        Listed(documents),
        on_error="stop",
        bad_line=lambda *said: pytest.fail(str(said)),
        cluster=cluster,
        **how,
    )


@contextmanager
def counted(folder: Path, calls: list[int]) -> Iterator[Catalogue]:
    """A catalogue whose encoders note how many documents each call of them encodes."""

    def count(model: str, role: str, texts: int, seconds: float, failed: bool) -> None:
        if role == "documents":
            calls.append(texts)

    settings = Settings(indexes=folder, threads=1, models=dict(MODELS))
    with Catalogue(folder, Encoders(settings.models, count=count), settings) as catalogue:
        yield catalogue


def stored(collection: Collection) -> dict[str, tuple[Document, bytes]]:
    """Each document with the bits of its vectors."""
    with collection.snapshot() as snapshot:
        seqs = [seq for (seq,) in snapshot.connection.execute("SELECT seq FROM live")]
        documents = snapshot.documents(seqs)
    vectors = collection.stored_vectors(seqs, collection.published, staged=False)
    return {documents[seq].id: (documents[seq], vectors[seq].to_bytes()) for seq in seqs}


def test_a_build_is_the_same_though_a_host_is_lost(
    hosts: Hosts, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every id once, the same bits, and nothing encoded here."""
    monkeypatch.setattr(bulk, "BATCH_DOCUMENTS", 16)
    documents = texts(300)
    calls: list[int] = []
    with counted(tmp_path / "here", calls) as catalogue:
        here = catalogue.create("c", model="words", kind="multi_vector")
        fill(here, documents, None)
        assert sum(calls) == 300
        calls.clear()

        def progress(summary: bulk.Summary) -> None:
            if len(hosts.hosts) == 2 and summary.written:
                hosts.lose_one()

        there = catalogue.create("d", model="words", kind="multi_vector")
        summary = fill(there, documents, cluster, progress=progress)
        assert (summary.written, summary.unchanged, len(hosts.hosts), calls) == (300, 0, 1, [])
        assert stored(there) == stored(here)
        for query in ("word1 word2", "word30 word4 word7"):
            found = [[(hit.id, hit.score) for hit in search(made, Query(query)).hits] for made in (here, there)]
            assert found[0] == found[1]


def test_what_stands_goes_to_no_cluster(
    cluster: Cluster, make_text: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_text()
    sent: list[list[str]] = []
    begin = Cluster.begin

    def watched(self: Cluster, made: Collection, documents: list[Document]) -> Any:
        sent.append([document.id for document in documents])
        return begin(self, made, documents)

    monkeypatch.setattr(Cluster, "begin", watched)
    documents = texts(20)
    fill(collection, documents, cluster)
    assert fill(collection, documents, cluster).unchanged == 20
    moved = [replace(documents[0], metadata={"n": 7}), replace(documents[1], text="word3 anew")]
    # An id that comes again in a batch has its last text.
    again = fill(collection, [*moved, *documents[2:], replace(documents[1], text="word4 at last")], cluster)
    assert [len(one) for one in sent] == [20, 1]
    assert again.written == 2
    assert stored(collection)["d1"][0].text == "word4 at last"


def test_passages_of_an_edited_text_that_stay_are_not_encoded(cluster: Cluster, tmp_path: Path) -> None:
    text = "\n\n".join(" ".join(f"{word} number {i}" for word in WORDS[:40]) for i in range(12))
    calls: list[int] = []
    with counted(tmp_path / "c", calls) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        fill(collection, [Document("long", text), Document("other", "word1")], cluster)
        assert calls == []
        fill(collection, [Document("long", text + " and one more"), Document("new", "word2")], cluster)
        assert calls == [1]
        assert {hit.id for hit in search(collection, Query("word2 word1", k=3)).hits} == {"long", "other", "new"}


def test_a_text_that_is_refused_there_is_refused_as_here(cluster: Cluster, open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(max_passages=1)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    documents = [Document("short", "word1"), Document("long", " ".join(WORDS * 30))]
    said = []
    for own in (None, cluster):
        with pytest.raises(TextRefused) as refused:
            fill(collection, documents, own)
        said.append(refused.value.message)
    assert said[0] == said[1]
    assert "/documents/1/text" in said[0]


def test_another_encoder_on_a_host_is_told(make_text: MakeCollection) -> None:
    collection = make_text()
    recipe = Recipe(
        collection.spec.to_json(), collection.stage.to_json(), MODELS, Path(__file__).parent,
        collection.encoder().fingerprint, 10, 1,
    )  # fmt: skip
    assert isinstance(encode(recipe, [Document("a", "word1")]), Rows)
    other = encode(replace(recipe, fingerprint=Fingerprint("words", "others", {})), [Document("a", "word1")])
    assert isinstance(other, Refused)
    assert "has another encoder 'words': model, weights" in other.message
    assert not other.texts


def test_a_head_is_told_with_its_base_and_its_dimensions(cluster: Cluster, tmp_path: Path) -> None:
    network = Network((Layer(np.random.default_rng(0).standard_normal((DIM, 8)).astype(np.float32)),))
    base = Encoders(dict(MODELS)).get("words", "dense").fingerprint
    (tmp_path / FILE).write_bytes(Head(base, DIM, (8, 4), {"query": network, "document": network}).to_bytes())
    settings = Settings(
        indexes=tmp_path / "c", threads=1,
        models={**MODELS, "head": DistilledModel(type="distilled", path=str(tmp_path), base="words")},
    )  # fmt: skip
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        made = [catalogue.create(name, model="head", kind="dense", dim=4) for name in ("here", "there")]
        for collection, own in zip(made, (None, cluster), strict=True):
            fill(collection, texts(5), own)
        assert stored(made[0]) == stored(made[1])


def test_where_there_is_nothing_to_ask(cluster: Cluster, make_collection: MakeCollection) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Invalid, match=r"no Ray cluster answers at 127\.0\.0\.1:"):
            Cluster(f"127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(Invalid, match="has no encoder"):
        cluster.begin(make_collection(dim=4), [Document("a", "word1")])


def test_a_batch_that_is_lost_is_told(
    cluster: Cluster, make_text: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = cluster._ray.remote(num_cpus=1, max_retries=0)(_end)
    monkeypatch.setattr(cluster, "_task", lost)
    made = cluster.begin(make_text(), [Document("a", "word1")])
    with pytest.raises(EncoderUnavailable, match="a batch was lost on the cluster"):
        made.rows()


def _end(*_: object) -> None:
    os._exit(1)


def test_the_command_builds_on_a_cluster(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"id": "a", "text": "word1 word2"}\n{"id": "b", "text": "word3"}\n')

    line = [sys.executable, "scripts/build_index.py", str(tmp_path / "a.ndjson")]
    models = '{"words": {"type": "deterministic", "dim": 32}}'
    environment = {**os.environ, "SHEAF_INDEXES": str(tmp_path / "indexes"), "SHEAF_MODELS": models}

    def build(*more: str) -> subprocess.CompletedProcess[str]:
        asked = [*line, "--collection", "c", "--model", "words", *more]
        return subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    done = build("--ray", hosts.cluster.address)
    assert done.returncode == 0, done.stderr
    # Before it Ray itself may tell of the host that was lost.
    assert done.stdout.endswith("collection c: 2 written, 0 unchanged, 0 faults, 0 without title and text\n")
    refused = build("--ray", hosts.cluster.address, "--ray-gpus", "1")
    assert (refused.returncode, refused.stderr) == (1, "expected a cluster with 1 GPUs for each task; it has 0\n")
    refused = build("--ray", hosts.cluster.address, "--server", "http://127.0.0.1:9")
    assert refused.returncode == 1
    assert "a server (--server) encodes for itself" in refused.stderr
