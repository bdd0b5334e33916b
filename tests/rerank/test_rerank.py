"""Searches whose first documents are read once more, by small real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, OpenCatalogue
from sentence_transformers import CrossEncoder
from tiny_models import WORDS

from app import reference
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.encoders.deterministic import DeterministicEncoder
from app.errors import EncoderRefused, Invalid
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.rerank.order import Rerank
from app.search import Mode, Query, search, search_batch
from app.settings import CrossEncoderModel, DeterministicModel
from app.types import Document, Hit

MODES: list[Mode] = ["hybrid", "semantic", "dense", "lexical"]
ASKED = "the cat read"
TOP = 12
SMALL = PassageSpec(size=12, overlap=3)


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue, cross: Path, zip_lover: Path) -> Catalogue:
    paths = {"cross": cross, "zip-lover": zip_lover, "gone": cross / "nowhere"}
    models: dict[str, Any] = {
        name: CrossEncoderModel(type="cross_encoder", path=str(path), device="cpu") for name, path in paths.items()
    }
    models |= {name: DeterministicModel(type="deterministic", dim=dim) for name, dim in (("words", DIM), ("other", 8))}
    return open_catalogue(models=models)


def drawn(count: int, words: int = 12) -> list[Document]:
    random = np.random.default_rng(3)
    return [
        Document(f"d{i}", " ".join(random.choice(WORDS, int(random.integers(3, words)))), f"title {i}")
        for i in range(count)
    ]


def fill(collection: Collection, documents: list[Document], every: int = 25) -> Collection:
    for start in range(0, len(documents), every):
        write_documents(collection, documents[start : start + every])
        if start + every < len(documents):
            seal(collection)
    return collection


def hits(collection: Collection, **options: Any) -> list[Hit]:
    if options.get("mode") == "hybrid":
        # Else a search changes the weights of the next.
        options["weights"] = dict.fromkeys(collection.spec.sides, 0.4)
    return search(collection, Query(text=ASKED, exact=True, **options)).hits


def checked(before: list[Hit], after: list[Hit], new: dict[str, float]) -> None:
    """``after`` is ``before`` with the first in the order of their new scores, by id."""
    first = before[: len(new)]
    assert [hit.id for hit in after[len(new) :]] == [hit.id for hit in before[len(new) :]]
    assert [hit.score for hit in after[len(new) :]] == [hit.score for hit in before[len(new) :]]
    assert all(hit.former_score is None for hit in after[len(new) :])
    expected = sorted(first, key=lambda hit: -new[hit.id])
    assert [hit.id for hit in after[: len(new)]] == [hit.id for hit in expected]
    assert [hit.score for hit in after[: len(new)]] == pytest.approx([new[hit.id] for hit in expected], abs=1e-6)
    assert [hit.former_score for hit in after[: len(new)]] == [hit.score for hit in expected]


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_the_first_of_any_mode_stand_in_the_order_of_the_cross_encoder(
    catalogue: Catalogue, cross: Path, kind: Any
) -> None:
    collection = fill(catalogue.create("c", model="words", kind=kind), drawn(60))
    library = CrossEncoder(str(cross), device="cpu", local_files_only=True)
    for mode in MODES:
        before = hits(collection, k=30, mode=mode)
        after = hits(collection, k=30, mode=mode, rerank=Rerank("cross", TOP))
        texts = {hit.id: Document(hit.id, hit.text or "", hit.title or "").passage for hit in before[:TOP]}
        scores = library.predict([[ASKED, text] for text in texts.values()])
        checked(before, after, dict(zip(texts, scores.tolist(), strict=True)))
        assert [hit.id for hit in after] != [hit.id for hit in before]


def test_a_cross_encoder_that_is_right_puts_right_what_was_found(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(80))
    before = hits(collection, k=80, mode="hybrid")
    after = hits(collection, k=80, mode="hybrid", rerank=Rerank("zip-lover", 80))
    liked = ["zip" in (hit.text or "").split() for hit in after]
    assert 5 < sum(liked) < len(liked) - 5
    assert liked == sorted(liked, reverse=True)
    was = ["zip" in (hit.text or "").split() for hit in before]
    assert was != liked


@pytest.mark.parametrize("mode", MODES)
def test_another_encoder_reranks_by_its_own_maxsim(catalogue: Catalogue, mode: Mode) -> None:
    collection = fill(catalogue.create("c", model="words", kind="dense"), drawn(60))
    before, after = hits(collection, k=30, mode=mode), hits(collection, k=30, mode=mode, rerank=Rerank("other", TOP))
    encoder = DeterministicEncoder(8, "multi_vector")
    made = encoder.encode_documents([Document("", h.text or "", h.title or "").passage for h in before[:TOP]]).tokens
    asked = encoder.encode_queries([ASKED]).tokens
    assert made is not None
    assert asked is not None
    query = reference.normalised(asked[0])
    new = {
        hit.id: reference.maxsim(query, reference.normalised(own), "float32")
        for hit, own in zip(before, made, strict=False)
    }
    checked(before, after, new)


def test_of_a_text_that_was_split_the_best_passage_is_read_under_title_and_headings(
    catalogue: Catalogue, cross: Path
) -> None:
    collection = catalogue.create("c", model="words", kind="multi_vector", passages=SMALL)
    random = np.random.default_rng(1)
    documents = [
        Document(
            f"d{i}",
            "\n\n".join(f"## file {j}\n\n" + " ".join(random.choice(WORDS, 9)) for j in range(4)),
            f"mat {i}",
        )
        for i in range(15)
    ]
    fill(collection, documents, 6)
    library = CrossEncoder(str(cross), device="cpu", local_files_only=True)
    for mode in MODES:
        texts = {}
        for hit in hits(collection, k=15, mode=mode, passages=1):
            (best,) = hit.passages or []
            texts[hit.id] = ". ".join([hit.title or "", *best.headings, best.text])
            assert len(best.text) < len(hit.text or "")
        scores = library.predict([[ASKED, text] for text in texts.values()])
        after = hits(collection, k=15, mode=mode, rerank=Rerank("cross", 15))
        expected = dict(zip(texts, scores.tolist(), strict=True))
        assert {hit.id: hit.score for hit in after} == pytest.approx(expected, abs=1e-6)


def test_the_answer_is_the_same_for_any_parts_any_k_and_in_a_batch(catalogue: Catalogue) -> None:
    answers = []
    documents = drawn(50)
    for name, every in (("one", 100), ("some", 20), ("many", 7)):
        collection = catalogue.create(name, model="words", kind="multi_vector")
        gone = [Document(f"gone{i}", "the cat read zip") for i in range(5)]
        fill(collection, [*documents[:20], *gone, *documents[20:]], every)
        delete_ids(collection, [one.id for one in gone])
        weights: Any = {"words": 0.2, "tokens": 0.4, "pooled": 0.4}
        queries = [
            Query(text=text, exact=True, k=k, mode="hybrid", weights=weights, rerank=Rerank("cross", TOP))
            for text in (ASKED, "zip file")
            for k in (40, 20, TOP, 3, 1)
        ]
        batch = [result.hits for result in search_batch(collection, queries)]
        assert batch == [search(collection, query).hits for query in queries]
        for i in (0, 5):
            for short in batch[i + 1 : i + 5]:
                assert short == batch[i][: len(short)]
        answers.append([[(hit.id, hit.score, hit.former_score) for hit in one] for one in batch])
    assert answers[0] == answers[1] == answers[2]


def test_a_longer_reranking_gives_what_both_read_the_same_scores(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(60))
    found = {top: hits(collection, k=60, rerank=Rerank("cross", top)) for top in (1, 7, 8, 33, 60)}
    scores = {top: {hit.id: hit.score for hit in one if hit.former_score is not None} for top, one in found.items()}
    assert {top: len(one) for top, one in scores.items()} == {top: top for top in scores}
    for one in scores.values():
        assert one.items() <= scores[60].items()


def test_the_answer_says_how_many_were_reranked(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(30))
    for rerank, told in ((None, None), (Rerank("cross", 9), (9, 9)), (Rerank("cross", 99), (30, 30))):
        result = search(collection, Query(text=ASKED, k=3, rerank=rerank))
        assert result.reranked == told
        assert ("rerank_ms" in result.stages) == (rerank is not None)
        assert len(result.hits) == 3


def test_reasons_add_up_to_the_former_score(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(30))
    for hit in hits(collection, mode="hybrid", explain=True, rerank=Rerank("cross", 5)):
        told = hit.score if hit.former_score is None else hit.former_score
        assert sum(side.weight * side.standard for side in hit.explanation.sides) == pytest.approx(told, abs=1e-9)


def test_of_the_query_language_a_reranker_reads_what_is_asked_for(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(30))
    spoken = search(
        collection, Query(text="+cat read -dog", syntax="query", mode="lexical", rerank=Rerank("cross", 30))
    ).hits
    plain = search(collection, Query(text="cat read", mode="lexical", k=30, rerank=Rerank("cross", 30))).hits
    assert spoken
    assert {hit.id: hit.score for hit in spoken}.items() <= {hit.id: hit.score for hit in plain}.items()


def test_what_cannot_rerank_is_told_before_anything_is_searched(catalogue: Catalogue) -> None:
    collection = fill(catalogue.create("c", model="words", kind="multi_vector"), drawn(5))
    right = Query(text="cat", rerank=Rerank("gone"))
    for wrong, at, why in (
        (Query(text="cat", rerank=Rerank("nobody"), at="/searches/1"), "/searches/1/rerank/model", "there are builtin"),
        (Query(vectors=np.ones((1, DIM), np.float32), rerank=Rerank("cross")), "/rerank", "in words"),
    ):
        # The first one's model fails to load, which nobody tries.
        with pytest.raises(Invalid, match=why) as caught:
            search_batch(collection, [right, wrong])
        assert [problem.pointer for problem in caught.value.problems] == [at]
    with pytest.raises(EncoderRefused):
        search(collection, right)
    with pytest.raises(Invalid, match="cross encoder") as caught:
        catalogue.create("d", model="cross", kind="multi_vector")
    assert [problem.pointer for problem in caught.value.problems] == ["/encoder/model"]
