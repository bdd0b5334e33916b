"""Heads over an encoder's pooled vectors: their laws, and which files and bases are refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from app.catalogue.catalogue import Catalogue
from app.encoders.embedding import embed
from app.encoders.heads.head import FILE, SIDES, Head, read_head
from app.encoders.protocol import Fingerprint, MatryoshkaEncoder
from app.encoders.registry import Encoders
from app.errors import Conflict, EncoderRefused, Invalid
from app.ingest import write_documents
from app.scoring.networks.forward import directions, outputs
from app.scoring.networks.network import Layer, Network
from app.search import Query, search
from app.settings import DeterministicModel, DistilledModel, ModelSettings, Settings
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, Document

DIM = 16
WORDS = DeterministicModel(type="deterministic", dim=DIM)
TEXTS = ["a cat sleeps on the mat", "", "the dog", "a cat", "hens lay eggs in the dark of a long night"]


def base() -> Fingerprint:
    return Encoders({"words": WORDS}).get("words", "dense").fingerprint


def network(seed: int, outputs: int = DIM, hidden: int = 0) -> Network:
    random = np.random.default_rng(seed)
    widths = [DIM, *([hidden] if hidden else []), outputs]
    layers = [
        Layer(random.standard_normal(shape).astype(np.float32), random.standard_normal(shape[1]).astype(np.float32))
        for shape in itertools.pairwise(widths)
    ]
    return Network(tuple(layers), "relu")


def head(dims: tuple[int, ...] = (DIM, 8, 4), query: Network | None = None, document: Network | None = None) -> Head:
    one = query or network(0, dims[0])
    return Head(base(), DIM, dims, {"query": one, "document": document or one}, {"names": ["other"]})


def saved(of: Head, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(of.to_bytes())
    return folder


def configured(folder: Path) -> dict[str, ModelSettings]:
    return {"words": WORDS, "short": DistilledModel(type="distilled", path=str(folder), base="words")}


def in_float64(own: Network, vectors: F32) -> Any:
    found = vectors.astype(np.float64)
    for place, layer in enumerate(own.layers):
        assert layer.bias is not None
        found = found @ layer.weights.astype(np.float64) + layer.bias
        if place + 1 < len(own.layers):
            found = np.maximum(found, 0)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_identity_is_the_encoder_below(tmp_path: Path) -> None:
    same = Network((Layer(np.eye(DIM, dtype=np.float32)),))
    encoders = Encoders(configured(saved(head((DIM, 4), same), tmp_path / "head")))
    found, plain = (encoders.encode_documents(name, "dense", TEXTS) for name in ("short", "words"))
    np.testing.assert_allclose(found.pooled, plain.pooled, rtol=0, atol=1e-7)
    assert found.truncated.tolist() == plain.truncated.tolist()
    long = ["word " * 600]
    assert encoders.encode_documents("short", "dense", long).truncated.tolist() == [True]


@pytest.mark.parametrize("hidden", [0, 24])
def test_vectors_are_those_of_the_formula_on_each_side(tmp_path: Path, hidden: int) -> None:
    query, document = network(1, 8, hidden), network(2, 8, hidden)
    encoders = Encoders(configured(saved(head((8, 4), query, document), tmp_path / "head")))
    plain = encoders.get("words", "dense").encode_queries(TEXTS).pooled
    for found, own in (
        (encoders.encode_queries("short", "dense", TEXTS), query),
        (encoders.encode_documents("short", "dense", TEXTS), document),
    ):
        np.testing.assert_allclose(found.pooled, in_float64(own, plain), rtol=0, atol=1e-5)


def test_each_prefix_is_a_vector_and_bits_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    encoders = Encoders(configured(saved(head(), tmp_path / "head")))
    whole = encoders.encode_documents("short", "dense", TEXTS).pooled
    for dim in (DIM, 8, 4):
        found = encoders.encode_documents("short", "dense", TEXTS, dim).pooled
        np.testing.assert_array_equal(found, whole if dim == DIM else directions(whole[:, :dim]))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(encoders.encode_queries("short", "dense", TEXTS, dim).pooled, found)
        for place, text in enumerate(TEXTS):
            alone = encoders.encode_queries("short", "dense", [text], dim, alone=True).pooled
            np.testing.assert_array_equal(alone[0], found[place])
    # Of another number the whole encoder is given, whose dim tells.
    assert encoders.get("short", "dense", 5).dim == DIM
    short = encoders.get("short", "dense", 4)
    assert isinstance(short, MatryoshkaEncoder)
    assert (short.dim, short.dims) == (4, (DIM, 8, 4))
    assert short.fingerprint.differences(encoders.get("short", "dense").fingerprint) == ["details.dim"]
    assert encoders.describe("short").dims == (DIM, 8, 4)


def test_outputs_have_the_same_bits_in_any_batch() -> None:
    vectors = np.random.default_rng(3).standard_normal((70, DIM)).astype(np.float32)
    own = network(4, 7, 24)
    whole = outputs(own, vectors)
    assert whole.shape == (70, 7)
    np.testing.assert_array_equal(whole, np.concatenate([outputs(own, vectors[i : i + 1]) for i in range(70)]))


def test_a_file_says_all_and_names_itself(tmp_path: Path) -> None:
    for one in (head(), head((8,), network(1, 8), network(2, 8)), head((8, 2), network(5, 8, 24))):
        found = read_head(saved(one, tmp_path / "head"))
        assert (found.digest, found.base, found.dims, found.teacher) == (one.digest, one.base, one.dims, one.teacher)
        vectors = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32)
        for side in SIDES:
            np.testing.assert_array_equal(found.of(vectors, side), one.of(vectors, side))
    assert head((8, 4)).digest != head((8, 2)).digest
    assert head((8,), network(1, 8)).digest != head((8,), network(2, 8)).digest


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: head((4, 8), network(0, 4)), "descend"),
        (lambda: Head(base(), DIM, (), dict.fromkeys(SIDES, network(0))), "expected dimensions"),
        (lambda: head((8,), network(0, 4)), "expected as many columns"),
        (lambda: Head(base(), 5, (8,), dict.fromkeys(SIDES, network(0, 8))), "of 5 inputs"),
        (lambda: head((1,), Network((Layer(np.full((DIM, 1), np.nan, np.float32)),))), "finite"),
        (lambda: head((1,), Network((Layer(np.full((DIM, 1), 1e35, np.float32)),))), "beyond float32"),
    ],
)
def test_what_is_no_head_is_not_written(wrong: Callable[[], Head], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        wrong().to_bytes()


def flipped(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    content[-5] ^= 1
    (folder / FILE).write_bytes(bytes(content))


def renamed(change: Callable[[dict[str, Any], dict[str, str]], None]) -> Callable[[Path], None]:
    """As somebody would who knows the format, but not what a head must be: digests are left as they were."""

    def work(folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / FILE, "numpy") as file:
            metadata = dict(file.metadata())
        tensors: dict[str, Any] = dict(load_file(folder / FILE))
        change(tensors, metadata)
        save_file(tensors, folder / FILE, metadata)

    return work


REFUSED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / FILE).unlink(), f"holds no head: there is no {FILE}"),
    (lambda folder: (folder / FILE).write_bytes(b"no"), "not a safetensors file"),
    (lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-8]), "not a safetensors file"),
    (flipped, "SHA-256"),
    (renamed(lambda tensors, metadata: metadata.pop("sheaf_head")), "expected a head of format 1"),
    (renamed(lambda tensors, metadata: metadata.update(sheaf_head="9")), "got 9"),
    (renamed(lambda tensors, metadata: metadata.pop("about")), "damaged"),
    (renamed(lambda tensors, metadata: metadata.update(about="[]")), "damaged"),
    (renamed(lambda tensors, metadata: tensors.pop("both.0.bias")), "SHA-256"),
    (renamed(lambda tensors, metadata: tensors.update(more=np.zeros(1))), "damaged"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_damaged_file_is_refused(tmp_path: Path, change: Callable[[Path], Any], said: str) -> None:
    folder = saved(head(), tmp_path / "head")
    change(folder)
    with pytest.raises(EncoderRefused, match=said):
        Encoders(configured(folder)).get("short", "dense")


def test_it_is_put_on_the_encoder_that_it_was_learned_on(tmp_path: Path) -> None:
    folder = saved(head(), tmp_path / "head")
    wider = DeterministicModel(type="deterministic", dim=DIM + 1)
    with pytest.raises(EncoderRefused, match=r"learned on another encoder.*dim \(16 then, 17 now\)"):
        Encoders(configured(folder) | {"words": wider}).get("short", "dense")
    other = Head(Fingerprint("m", "w", base().details), DIM, (8,), dict.fromkeys(SIDES, network(0, 8)))
    with pytest.raises(EncoderRefused, match=r"learned on another encoder \(m\).*model, weights differ"):
        Encoders(configured(saved(other, tmp_path / "other"))).get("short", "dense")
    chain = DistilledModel(type="distilled", path=str(folder), base="short")
    for wrong in (chain, chain.model_copy(update={"base": "absent"})):
        with pytest.raises(Invalid, match="needs a base that makes dense vectors and is no head itself"):
            Encoders({**configured(folder), "longer": wrong})
    encoders = Encoders(configured(folder))
    with pytest.raises(Invalid, match="has the kinds dense"):
        encoders.get("short", "multi_vector")
    assert not encoders.is_local("short")
    assert Encoders({"short": DistilledModel(type="distilled", path=str(folder))}).is_local("short")


def test_texts_are_embedded_at_any_of_its_dimensions(tmp_path: Path) -> None:
    encoders = Encoders(configured(saved(head(), tmp_path / "head")))
    made = embed(encoders, "short", TEXTS, "document", "pooled", 4)
    np.testing.assert_array_equal(np.stack(made.vectors), encoders.encode_documents("short", "dense", TEXTS, 4).pooled)
    with pytest.raises(Invalid, match="'short' has 16, 8 or 4 dimensions, got 5"):
        embed(encoders, "short", TEXTS, "document", "pooled", 5)


def test_a_collection_has_one_of_its_dimensions_and_opens_read_only_with_another_head(tmp_path: Path) -> None:
    folder = saved(head(), tmp_path / "head")
    models = configured(folder)
    settings = Settings(indexes=tmp_path / "indexes", models=models, threads=2)
    written = [Document(f"d{i}", text) for i, text in enumerate(TEXTS) if text]
    with Catalogue(settings.indexes, Encoders(models), settings) as catalogue:
        with pytest.raises(Invalid, match="has 16, 8 or 4 dimensions, got 5") as raised:
            catalogue.create("c", model="short", kind="dense", dim=5)
        assert raised.value.problems[0].pointer == "/encoder/dim"
        assert catalogue.create("whole", model="short", kind="dense").spec.dim == DIM
        write_documents(catalogue.create("c", model="short", kind="dense", dim=4), written)
        own = catalogue.encoders.encode_documents("short", "dense", [one.text for one in written], 4).pooled
        truth = own @ own[0]
        hits = search(catalogue.get("c"), Query(TEXTS[0], k=9, exact=True)).hits
        expected = {one.id: pytest.approx(float(score), abs=1e-6) for one, score in zip(written, truth, strict=True)}
        assert {hit.id: hit.score for hit in hits} == expected
    saved(head(query=network(9)), folder)
    with Catalogue(settings.indexes, Encoders(models), settings) as catalogue:
        collection = catalogue.get("c")
        assert collection.get("d0").text == TEXTS[0]
        with pytest.raises(Conflict, match=r"weights differ.*encode every document anew") as caught:
            search(collection, Query(TEXTS[0]))
        assert caught.value.code == "encoder_changed"
        tasks = Tasks(collection, {"rebuild": run_rebuild})
        run_rebuild(collection, Running(tasks, 0, tasks.submit("rebuild", {})))
        (hit, *_) = search(collection, Query(TEXTS[0])).hits
        assert (hit.id, hit.score) == ("d0", pytest.approx(1, abs=1e-6))
    saved(head((8,), network(0, 8)), folder)
    with (
        Catalogue(settings.indexes, Encoders(models), settings) as catalogue,
        pytest.raises(Conflict, match="4 stored, 8 now"),
    ):
        catalogue.get("c").encoder()


def test_metadata_of_a_file_is_for_people_too(tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(saved(head(), tmp_path / "head") / FILE, "numpy") as file:
        about = json.loads(file.metadata()["about"])
    assert (about["dims"], about["inputs"], about["base"]["model"]) == ([DIM, 8, 4], DIM, "deterministic")
    assert about["sides"] == {"query": "both", "document": "both"}
