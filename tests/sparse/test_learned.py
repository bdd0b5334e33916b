"""A collection whose sparse vectors a model makes: of each passage, with the others, anew with a rebuild."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, OpenCatalogue, write_in_segments
from tiny_models import TinyModels

from app import reference
from app.catalogue.catalogue import Catalogue
from app.catalogue.warming import load_encoders
from app.collection.layers import SPANS
from app.collection.spec import PassageSpec, SparseSpec
from app.encoders.torch.sparse_encoder import SparseEncoderModel
from app.encoders.turns import TurnsSpec
from app.errors import Conflict, Invalid
from app.ingest import write_documents
from app.query.alike import sparse_rocchio
from app.query.examples import Example, Like
from app.query.scores import of_document
from app.search import Query, SearchResult, search
from app.settings import DeterministicModel
from app.settings import SparseEncoderModel as Setting
from app.sparse.rows import unpacked
from app.tasks.records import ENDED
from app.types import Document, EncodedSparse, SparseVector, Turn, spoken

LEARNED = SparseSpec(model="splade")
TEXTS = ["the cat sat on a mat", "dog", "read the zip file", "a cat read", "zip zip file", "on the mat a dog sat"]


def models(folder: Path) -> dict[str, Any]:
    return {
        "words": DeterministicModel(type="deterministic", dim=DIM),
        "splade": Setting(type="sparse_encoder", path=str(folder), device="cpu"),
    }


def weights_of(encoded: EncodedSparse) -> list[dict[int, float]]:
    vectors: list[SparseVector] = [unpacked(run) for run in encoded.rows]
    return [dict(zip(one.indices.tolist(), one.values.tolist(), strict=True)) for one in vectors]


def found(result: SearchResult) -> dict[str, float]:
    return {hit.id: hit.score for hit in result.hits}


@pytest.mark.parametrize("model", ["words", None])
def test_texts_are_found_as_the_model_weighs_them(open_catalogue: OpenCatalogue, tiny: TinyModels, model: str | None):
    catalogue = open_catalogue(models=models(tiny.splade()))
    dim = None if model else 3
    collection = catalogue.create("c", model=model, kind="dense", dim=dim, sparse=LEARNED)
    vectors = {} if model else {"vectors": np.ones((1, 3), np.float32)}
    documents = [Document(str(i), text, **vectors) for i, text in enumerate(TEXTS)]
    documents.append(Document("empty", "" if model is None else "on", **vectors))
    write_in_segments(collection, documents, 3)
    encoder = SparseEncoderModel(tiny.splade(), "cpu")
    made = weights_of(encoder.encode([one.text for one in documents if one.text], "document"))
    (query,) = weights_of(encoder.encode(["a zip"], "query"))
    result = search(collection, Query(text="a zip", mode="sparse", k=20, explain=True))
    expected = {one.id: reference.sparse_product(query, own) for one, own in zip(documents, made, strict=False)}
    assert found(result) == pytest.approx(expected, rel=1e-4)
    assert list(found(result).values()) == sorted(found(result).values(), reverse=True)
    first = result.hits[0].explanation.indices
    assert sum(part.score for part in first) == pytest.approx(result.hits[0].score, rel=1e-9)
    assert [part.term for part in first] == encoder.terms([part.index for part in first])


def test_each_passage_has_its_own(open_catalogue: OpenCatalogue, tiny: TinyModels):
    catalogue = open_catalogue(models=models(tiny.splade()))
    split = PassageSpec(size=8, overlap=0)
    collection = catalogue.create("c", model="words", kind="multi_vector", passages=split, sparse=LEARNED)
    text = "\n\n".join(["the cat sat on a mat."] * 6 + ["read the zip file."] + ["a dog sat on the mat."] * 5)
    write_documents(collection, [Document("long", text), Document("short", "the dog sat")])
    encoder = SparseEncoderModel(tiny.splade(), "cpu")
    with collection.snapshot() as snapshot:
        (view,) = snapshot.views
        start, stop = view.part.owners.span(0, 1)
        spans = view.part.flat(SPANS).range(start, stop).tolist()
    assert len(spans) > 8
    rows = weights_of(encoder.encode([text[a:b] for a, b in spans], "document"))
    (query,) = weights_of(encoder.encode(["zip file"], "query"))
    scores = [reference.sparse_product(query, own) for own in rows]
    expected = max(of_document(scores[0], one, len(scores)) for one in scores)
    result = search(collection, Query(text="zip file", mode="sparse", explain=True, passages=2))
    assert found(result)["long"] == pytest.approx(expected, rel=1e-4)
    long = next(hit for hit in result.hits if hit.id == "long")
    assert sum(part.score for part in long.explanation.indices) == pytest.approx(long.score, rel=1e-9)
    assert long.passages is not None
    best = int(np.argmax(scores))
    assert (long.passages[0].start, long.passages[0].stop) == tuple(spans[best])
    assert long.passages[0].score == pytest.approx(scores[best], rel=1e-4)
    weights = search(collection, Query(text="zip file", mode="hybrid")).weights
    assert weights is not None
    assert weights.keys() == {"words", "sparse", "tokens", "pooled"}


def test_sparse_vectors_are_of_the_turns_that_count(open_catalogue: OpenCatalogue, tiny: TinyModels):
    catalogue = open_catalogue(models=models(tiny.splade()))
    collection = catalogue.create("c", model="words", kind="multi_vector", sparse=LEARNED, turns=TurnsSpec(last=1))
    talks = {"then": ["read the zip file", "a dog"], "now": ["a dog", "read the zip file"], "one": ["a dog"]}
    told = {name: tuple(Turn("a", text) for text in texts) for name, texts in talks.items()}
    write_documents(collection, [Document(name, spoken(turns), turns=turns) for name, turns in told.items()])
    encoder = SparseEncoderModel(tiny.splade(), "cpu")
    made = weights_of(encoder.encode([texts[-1] for texts in talks.values()], "document"))
    (query,) = weights_of(encoder.encode(["a dog"], "query"))
    expected = {name: reference.sparse_product(query, own) for name, own in zip(talks, made, strict=True)}
    assert expected["then"] == expected["one"]
    asked = Query(text="a dog", turns=told["then"], mode="sparse")
    assert found(search(collection, asked)) == pytest.approx(expected, rel=1e-4)


def test_what_stands_is_not_encoded_again(
    open_catalogue: OpenCatalogue, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
):
    catalogue = open_catalogue(models=models(tiny.splade()))
    collection = catalogue.create("c", model="words", kind="dense", sparse=LEARNED)
    asked: list[str] = []
    encode = SparseEncoderModel.encode

    def counted(self: SparseEncoderModel, texts: Any, task: Any) -> EncodedSparse:
        asked.extend(texts)
        return encode(self, texts, task)

    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    write_documents(collection, documents)
    monkeypatch.setattr(SparseEncoderModel, "encode", counted)
    before = found(search(collection, Query(text="zip", mode="sparse")))
    asked.clear()
    write_documents(collection, documents)
    write_documents(collection, [replace(documents[0], metadata={"n": 1}), Document("new", "cat")])
    assert asked == ["cat"]
    after = found(search(collection, Query(text="zip", mode="sparse")))
    assert {name: score for name, score in after.items() if name != "new"} == pytest.approx(before)


def test_another_model_is_refused_until_a_rebuild(open_catalogue: OpenCatalogue, tiny: TinyModels):
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    with open_catalogue(models=models(tiny.splade())) as catalogue:
        collection = catalogue.create("c", model="words", kind="dense", sparse=LEARNED)
        write_documents(collection, documents)
        before = found(search(collection, Query(text="zip", mode="sparse")))
    other = tiny.splade("other", most=4)
    with open_catalogue(models=models(other), tasks=True) as catalogue:
        collection = catalogue.get("c")
        for work in (
            lambda: search(collection, Query(text="zip", mode="sparse")),
            lambda: write_documents(collection, [Document("new", "cat")]),
        ):
            with pytest.raises(Conflict, match="rebuild"):
                work()
        assert found(search(collection, Query(text="zip", mode="semantic")))
        # The other encoder being the right one mends nothing, nor that no text of a write is new.
        assert "'splade'" in (catalogue.describe("c").read_only or "")
        with pytest.raises(Conflict, match="rebuild"):
            write_documents(collection, [replace(documents[0], metadata={"n": 1})])
        assert _rebuilt(catalogue) == "succeeded"
        now = found(search(collection, Query(text="zip", mode="sparse")))
        assert now
        assert now != pytest.approx(before)
        write_documents(collection, [Document("new", "cat")])
        assert catalogue.describe("c").read_only is None


@pytest.mark.parametrize("preload", ["collections", "splade", "none"])
def test_a_sparse_encoder_is_loaded_before_the_server_is_ready(
    open_catalogue: OpenCatalogue, tiny: TinyModels, preload: str
):
    with open_catalogue(models=models(tiny.splade())) as catalogue:
        catalogue.create("c", model="words", kind="dense", sparse=LEARNED)
    with open_catalogue(models=models(tiny.splade()), preload=preload) as catalogue:
        load_encoders(catalogue)
        assert catalogue.encoders.describe("splade").state == ("not loaded" if preload == "none" else "loaded")


def _rebuilt(catalogue: Catalogue) -> str:
    """The state that a rebuild ends in."""
    task, until = catalogue.begin_rebuild("c"), time.monotonic() + 60
    while (state := catalogue.task(task.id).state) not in ENDED:
        assert time.monotonic() < until
        time.sleep(0.005)
    return state


def test_only_a_sparse_encoder_makes_them(open_catalogue: OpenCatalogue, tiny: TinyModels):
    catalogue = open_catalogue(models=models(tiny.splade()))
    for name in ("words", "builtin", "none"):
        with pytest.raises(Invalid, match="the sparse encoders here are splade"):
            catalogue.create("d", model="words", kind="dense", sparse=SparseSpec(model=name))
    with pytest.raises(Invalid, match="name it in sparse"):
        catalogue.create("d", model="splade", kind="dense")
    collection = catalogue.create("c", model="words", kind="dense", sparse=LEARNED)
    sparse = SparseVector(np.array([1], np.int32), np.ones(1, np.float32))
    with pytest.raises(Invalid, match="makes them"):
        write_documents(collection, [Document("a", "cat", sparse=sparse)])


def test_a_text_among_the_examples_is_weighed_by_the_model(open_catalogue: OpenCatalogue, tiny: TinyModels):
    catalogue = open_catalogue(models=models(tiny.splade()))
    collection = catalogue.create("c", model="words", kind="dense", sparse=LEARNED)
    write_in_segments(collection, [Document(str(i), text) for i, text in enumerate(TEXTS)], 3)
    for text in ("zip file", "a cat"):
        asked = sparse_rocchio([unpacked(collection.encode_sparse([text], "query").rows[0])], [], 0.0)
        plain = search(collection, Query(sparse=asked, mode="sparse"))
        like = search(collection, Query(like=Like([Example(text=text)]), mode="sparse"))
        assert found(like) == found(plain) != []
    (own,) = (hit for hit in search(collection, Query(like=Like([Example("0")]), mode="sparse")).hits[:1])
    assert own.id != "0"
