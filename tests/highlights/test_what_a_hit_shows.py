"""The sentence that is nearest, and the reasons of a score down to its tokens: at their very places, of any kind of
collection, and with nothing encoded for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, CountingEncoder, MakeCollection, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.spec import ONE, PassageSpec
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.prompts import Task
from app.encoders.protocol import TokenPlaces
from app.highlights.fragments import Marking
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.passages.structure import sentence_begins
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.types import Document, Hit

SMALL = PassageSpec(size=24, overlap=4)
ENCODER = DeterministicEncoder(DIM, "multi_vector")
STRANGE = ["𝔘𝔫𝔦", "cafe\u0301", "<b>bold</b>", "&amp;", "İstanbul", "北京市", "👩\u200d🔬", "हिन्दी", "ﬁle"]
MARKING = Marking()


def drawn(count: int, seed: int = 0, most: int = 120) -> list[Document]:
    """Texts with headings, sentences and characters of every kind; long ones are several passages."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        pieces: list[str] = []
        for place in range(int(random.integers(1, most))):
            if place % 20 == 7:
                pieces.append(f"\n\n{'#' * int(random.integers(1, 4))} Part{i} {STRANGE[place % len(STRANGE)]}\n\n")
            word = str(random.choice(STRANGE)) if random.random() < 0.2 else f"word{random.integers(50)}"
            pieces.append(word + str(random.choice([" ", " ", " ", ". ", "\n", "! "])))
        title = "" if i % 4 == 0 else f"Title {STRANGE[i % len(STRANGE)]} word{i % 50}"
        found.append(Document(f"d{i}", "".join(pieces), title, {"n": i}))
    return found


@pytest.fixture
def texts(open_catalogue: OpenCatalogue) -> MakeCollection:
    catalogue = open_catalogue()
    made = iter(range(1_000))

    def make(documents: Sequence[Document], kind: Any = "multi_vector", **options: Any) -> Collection:
        collection = catalogue.create(f"c{next(made)}", model="words", kind=kind, **{"passages": SMALL, **options})
        half = len(documents) // 2
        write_documents(collection, documents[:half])
        seal(collection)
        write_documents(collection, documents[half:])
        return collection

    return make


def hits(collection: Collection, text: str, **options: Any) -> list[Hit]:
    return search(collection, Query(text=text, **{"mode": "hybrid", "k": 30, **options})).hits


def maxsim(query: str, text: str) -> float:
    asked, said = (ENCODER.encode_documents([one]).tokens for one in (query, text))
    assert asked is not None
    assert said is not None
    return float((asked[0].astype(np.float64) @ said[0].T.astype(np.float64)).max(axis=1).sum())


@pytest.mark.parametrize("options", [{}, {"lexical": None}, {"passages": ONE}, {"precision": "4bit"}])
@pytest.mark.parametrize("mode", ["hybrid", "semantic", "dense"])
def test_the_sentence_that_means_most_is_marked(texts: MakeCollection, options: dict[str, Any], mode: str):
    if mode == "hybrid" and "lexical" in options:
        mode = "semantic"
    documents = {one.id: one for one in drawn(30)}
    collection = texts(list(documents.values()), **options)
    slack = 0.4 if options.get("precision") == "4bit" else 0.02
    for text in ("word3 word17 cafe", "İstanbul word4 word5 word6 bold"):
        for hit in hits(collection, text, mode=mode, highlights=MARKING, passages=10, include=frozenset()):
            document = documents[hit.id]
            (one,) = [one for one in hit.highlights if one.by == "meaning"]
            (span,) = one.spans
            assert one.field == "text"
            assert 0 <= one.start <= span.start < span.stop <= one.stop <= len(document.text)
            assert one.stop - one.start <= MARKING.length
            assert span.terms == []
            # Of the passages that the hit lists, one has the sentence, and none of its others is nearer.
            best = -np.inf
            for passage in hit.passages or []:
                edges = [passage.start, *sentence_begins(document.text, passage.start, passage.stop), passage.stop]
                own = {
                    (start, stop): maxsim(text, document.text[start:stop])
                    for start, stop in pairwise(edges)
                    if any(character.isalnum() for character in document.text[start:stop])
                }
                if any(start <= span.start and span.stop <= stop for start, stop in own):
                    best = max(best, maxsim(text, document.text[span.start : span.stop]) - max(own.values()))
            assert best >= -slack


def test_a_long_sentence_is_cut_around_what_counts(texts: MakeCollection):
    long = " ".join(f"word{i}" for i in range(400, 500))
    (hit,) = hits(
        texts([Document("a", f"Short. {long}. Short again.")], passages=ONE),
        "word470 word471",
        highlights=Marking(length=60),
    )
    (one,) = [one for one in hit.highlights if one.by == "meaning"]
    text = f"Short. {long}. Short again."
    assert "word470" in text[one.start : one.stop]
    assert one.stop - one.start <= 60
    assert [(span.start, span.stop) for span in one.spans] == [(one.start, one.stop)]


@pytest.mark.parametrize("options", [{}, {"passages": ONE}, {"passages": PassageSpec(size=12, overlap=3)}])
@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
def test_tokens_of_a_score_stand_where_they_are_said_to(texts: MakeCollection, options: dict[str, Any], mode: str):
    documents = {one.id: one for one in drawn(40, 1)}
    collection = texts(list(documents.values()), precision="float32", **options)
    fields = set()
    for text in ("word3 word17 bold", "Title word4 ﬁle Part3 part7 İstanbul"):
        for hit in hits(collection, text, mode=mode, explain=True, include=frozenset()):
            why = hit.explanation
            assert why.shares
            for one in (*why.shares, *why.opening):
                token, document = one.found, documents[hit.id]
                assert one.asked is not None
                assert token is not None
                fields.add(token.field)
                if token.field is not None:
                    whole = document.title if token.field == "title" else document.text
                    assert whole[token.start : token.stop] == token.text
                # A token alone has the vector that it has among others, with this encoder.
                assert maxsim(one.asked, token.text) == pytest.approx(one.product, abs=1e-5)
            if why.passage:
                assert why.opening
    assert fields >= {"title", "text"}


def test_a_token_of_a_heading_stands_in_the_text(texts: MakeCollection):
    text = "# Alpha\n\n" + "one two three four. " * 8 + "\n\n## Beta # gamma #\n\n" + "five six seven eight. " * 12
    collection = texts([Document("a", text, "Alpha")])
    (hit,) = hits(collection, "gamma seven", mode="semantic", explain=True, passages=9)
    tokens = {one.asked: one.found for one in hit.explanation.shares}
    assert hit.explanation.passage > 0
    assert (tokens["gamma"].field, tokens["gamma"].text) == ("text", "gamma")
    assert tokens["gamma"].start == text.index("gamma")
    assert text[tokens["seven"].start : tokens["seven"].stop] == "seven"


@pytest.mark.parametrize("kind", ["pooled", "dense", "callers"])
def test_where_tokens_are_not_known_the_place_alone_is_said(
    texts: MakeCollection, make_collection: MakeCollection, kind: str
):
    documents = drawn(12, 2)
    query: dict[str, Any] = {"text": "word3 word17", "mode": "semantic"}
    if kind == "callers":
        collection = make_collection(dim=4)
        random = np.random.default_rng(0)
        vectors = random.standard_normal((12, 3, 4)).astype(np.float32)
        write_documents(
            collection, [Document(one.id, one.text, vectors=own) for one, own in zip(documents, vectors, strict=True)]
        )
        query = {"vectors": vectors[0], "mode": "semantic"}
    else:
        collection = texts(documents, **({"token_pooling": 2} if kind == "pooled" else {"kind": "dense"}))
    result = search(collection, Query(**query, explain=True, highlights=MARKING, passages=9))
    several = 0
    for hit in result.hits:
        shares = hit.explanation.shares
        assert [one.query for one in shares] == list(range(3 if kind == "callers" else 1 if kind == "dense" else 2))
        assert all(one.found is None for one in shares)
        assert all((one.asked is not None) == (kind == "pooled") for one in shares)
        # The scored text is the passage: where the document has several, it is shown.
        many = len(hit.passages or []) > 1
        several += many
        assert len(hit.highlights) == many
        for one in hit.highlights:
            best = (hit.passages or [])[0]
            assert (one.by, one.field) == ("meaning", "text")
            assert best.start <= one.spans[0].start < one.spans[0].stop <= best.stop
    assert bool(several) == (kind != "callers")


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "dense"])
@pytest.mark.parametrize("passages", [SMALL, ONE])
def test_the_grid_holds_each_product_with_the_best_tokens(texts: MakeCollection, mode: str, passages: Any):
    collection = texts(drawn(12, 2), passages=passages, precision="float32")
    for text, marking in (("word3 word17 word3 word8", MARKING), ("word3 " * 65, None)):
        asked: dict[str, Any] = {"text": text, "mode": mode, "explain": True}
        for hit in search(collection, Query(**asked, highlights=marking)).hits:
            why = hit.explanation
            if mode == "dense" or len(why.shares) > 64:
                assert why.grid == []
                continue
            columns = sorted({one.row for one in why.shares})
            assert np.shape(why.grid) == (len(why.shares), len(columns))
            for one in why.shares:
                row = why.grid[one.query]
                # That of the share is the largest of its vector.
                assert row[columns.index(one.row)] == max(row) == pytest.approx(one.product, abs=1e-3)
            # Equal words of the query have equal products.
            assert why.grid[0] == why.grid[2]


@pytest.mark.parametrize("precision", [None, "float32", "float16", "8bit", "4bit", "1bit"])
def test_the_parts_of_every_score_add_up_to_it(texts: MakeCollection, precision: str | None):
    kind = "dense" if precision is None else "multi_vector"
    options = {} if precision is None else {"precision": precision}
    for passages in (SMALL, ONE):
        collection = texts(drawn(40, 3), kind, passages=passages, **options)
        for mode in ("hybrid", "ranks", "semantic", "dense", "lexical"):
            for exact in (False, True):
                how = {"weights": "reciprocal_rank"} if mode == "ranks" else {}
                asked = {"mode": "hybrid" if mode == "ranks" else mode, "exact": exact, "explain": True, **how}
                found = hits(collection, "word3 word17 cafe word8 title", **asked)
                assert found
                for hit in found:
                    why = hit.explanation
                    sides = {one.side: one for one in why.sides}
                    by_words = sum(one.score for one in why.terms)
                    weight = why.opening_weight
                    meant = sum(one.product for one in why.opening) * weight
                    meant += sum(one.product for one in why.shares) * (1 - weight)
                    if mode == "lexical":
                        assert by_words == pytest.approx(hit.score, abs=1e-6)
                    elif mode in ("semantic", "dense"):
                        assert meant == pytest.approx(hit.score, abs=1e-6)
                    elif mode == "ranks":
                        parts = [1 / (60 + rank) for rank in why.ranks.values() if rank is not None]
                        assert sum(parts) == pytest.approx(hit.score, abs=1e-6)
                    else:
                        assert sum(one.weight * one.standard for one in why.sides) == pytest.approx(hit.score, abs=1e-6)
                        for one in why.sides:
                            if one.deviation:
                                assert one.standard == pytest.approx((one.score - one.mean) / one.deviation, abs=1e-6)
                        assert by_words == pytest.approx(sides["words"].score, abs=1e-6)
                        assert meant == pytest.approx(
                            sides["tokens" if "tokens" in sides else "pooled"].score, abs=1e-6
                        )


def test_ranks_are_those_among_the_candidates(texts: MakeCollection):
    collection = texts(drawn(60, 4))
    found = hits(collection, "word3 word17 word5", k=60, explain=True)
    assert len(found) == 60
    for side in ("words", "tokens", "pooled"):
        scores = [one.score for hit in found for one in hit.explanation.sides if one.side == side]
        truth = [None if side == "words" and not score else 1 + sum(one > score for one in scores) for score in scores]
        assert [hit.explanation.ranks[side] for hit in found] == truth
    assert None in [hit.explanation.ranks["words"] for hit in found]


def test_whether_the_approximate_path_finds_a_hit_too(texts: MakeCollection):
    collection = texts(drawn(300, 5, most=10), passages=ONE)
    missed = 0
    for text in ("word3 word17", "word5 bold", "word7 word9 word11"):
        for mode, how in (("semantic", {"candidates": 5}), ("dense", {"candidates": 5}), ("hybrid", {})):
            before = collection.learned.asked
            asked = {"mode": mode, "k": 5, "explain": True, **how}
            exact = hits(collection, text, exact=True, **asked)
            if mode == "hybrid":
                assert collection.learned.asked.queries == before.queries + 1, "it is one query, not two"
            quick = {hit.id for hit in hits(collection, text, **asked)}
            said = [hit.explanation.approximate for hit in exact]
            if mode != "hybrid":
                assert said == [hit.id in quick for hit in exact]
            missed += said.count(False)
            assert all(hit.explanation.approximate for hit in hits(collection, text, **asked))
        assert all(hit.explanation.approximate is None for hit in hits(collection, text, mode="lexical", explain=True))
    assert missed


class Tokenising(CountingEncoder):
    """And remembers the texts that its tokenizer was given, a list a call."""

    def __init__(self) -> None:
        super().__init__(DIM, "multi_vector")
        self.calls: list[list[str]] = []

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces]:
        self.calls.append(list(texts))
        return super().token_places(texts, task)


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*args, **named)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    yield seen


def test_what_is_shown_reads_and_encodes_nothing_more_and_tokenises_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(indexes=tmp_path / "indexes", models={"words": DeterministicModel(type="deterministic")})
    encoder = Tokenising()
    with (
        statements(monkeypatch) as seen,
        Catalogue(settings.indexes, OneEncoder(settings, encoder), settings) as catalogue,
    ):
        for name, passages in (("split", SMALL), ("whole", ONE)):
            collection = catalogue.create(name, model="words", kind="multi_vector", passages=passages)
            write_documents(
                collection, [Document(one.id, one.text.replace("#", ""), one.title) for one in drawn(30, 6)]
            )
            plain = {"k": 10, "mode": "hybrid"}
            asked = {**plain, "explain": True, "highlights": MARKING}
            hits(collection, "word3 word17", **plain)
            del seen[:], encoder.texts[:], encoder.calls[:]
            hits(collection, "word3 word17", **plain)
            before = len(seen)
            assert encoder.calls == []
            hits(collection, "word3 word17", **asked)
            assert len(seen) == 2 * before
            assert encoder.texts == []
            # The passages of all hits at once, with their openings, and the query.
            rows, query = encoder.calls
            assert query == ["word3 word17"]
            assert 10 <= len(rows) <= (20 if name == "split" else 10)
            if name == "split":
                assert max(len(row.split()) for row in rows) <= SMALL.size  # type: ignore[operator]
            del encoder.calls[:]
            hits(collection, "word3 word17", **{**plain, "highlights": MARKING})
            hits(collection, "word3 word17", **{**asked, "mode": "lexical"})
            assert [len(call) for call in encoder.calls] == [10]
