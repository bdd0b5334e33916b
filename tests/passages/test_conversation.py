"""Conversations: what counts of them against plain loops, what survives sealing, a restart and a rebuild, what maps to
summaries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.collection.part import tokens
from app.encoders.deterministic import MAX_WORDS, DeterministicEncoder
from app.encoders.prompts import Task
from app.encoders.protocol import TokenPlaces
from app.encoders.registry import Encoders
from app.encoders.remote import RemoteEncoder
from app.encoders.turns import SummaryMap, TurnsSpec, directed
from app.errors import FormatTooNew, Invalid
from app.evaluation.judged import Judged, read_set, write_set
from app.indexing.sealing import seal
from app.indexing.summaries import FOLDS, RIDGES, SEED, learned, ridge_map
from app.ingest import patch_document, write_documents
from app.passages.conversation import Said, by_turns, said_of
from app.query.preparing import encode_queries
from app.search import Query, search
from app.settings import DeterministicModel, RemoteModel, Settings
from app.store.rows import parse_row
from app.tuning.judged import ByJudgements, hindrance, tune_judged
from app.types import F32, I64, Document, Encoded, Kind, Turn, spoken

DIM = 24
TALK = (Turn("user", "red fox"), Turn("system", "old owl"), Turn("user", "blue hen"))
SPEC = TurnsSpec(last=2, decay=0.5)


def word(text: str) -> F32:
    found = DeterministicEncoder(DIM, "multi_vector").encode_documents([text]).tokens
    assert found is not None, "of token vectors"
    return found.values


def talk(name: str, turns: tuple[Turn, ...], summary: str = "") -> Document:
    return Document(name, spoken(turns), turns=turns, summary=summary)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=DIM)})
    with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
        yield catalogue


def made(catalogue: Catalogue, spec: TurnsSpec = SPEC) -> Collection:
    return catalogue.create("c", model="words", kind="multi_vector", precision="float32", turns=spec)


def rows(collection: Collection, name: str) -> tuple[F32, F32]:
    """The token vectors and the pooled vector that are stored of a document."""
    with collection.snapshot() as snapshot:
        (seq,) = snapshot.versions([name]).tolist()
        view, place = snapshot.published.locate([seq])[seq]
        row = view.part.owners.span(place, place + 1)[0]
        pooled = np.array(view.part.flat(POOLED).range(row, row + 1), np.float32)
        return tokens(view.part, row, row + 1).values.copy(), pooled


def test_a_document_has_the_vectors_of_the_turns_that_count(catalogue: Catalogue) -> None:
    collection = made(catalogue)
    write_documents(collection, [talk("a", TALK)])
    vectors, pooled = rows(collection, "a")
    # The deterministic encoder looks at each word alone, so it is the same in any text.
    owl, hen = word("system: old owl"), word("user: blue hen")
    assert np.allclose(vectors, np.concatenate([owl, hen]), atol=1e-6)
    mean = 0.5 * owl.sum(axis=0) + hen.sum(axis=0)
    assert np.allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_query_weighs_maxsim_by_turns(catalogue: Catalogue) -> None:
    collection = made(catalogue)
    others = [talk(f"t{i}", (Turn("user", f"word{i} hen"), Turn("system", f"owl {i}"))) for i in range(20)]
    write_documents(collection, [talk("a", TALK), *others])
    seal(collection)
    query = Query(text=SPEC.heard(TALK), turns=TALK, k=21, exact=True)
    weights = [0.5] * 3 + [1.0] * 3
    asked = np.concatenate([word("system: old owl"), word("user: blue hen")]).astype(np.float64)
    expected = {}
    for document in [talk("a", TALK), *others]:
        own = np.concatenate([word(f"{turn.role}: {turn.text}") for turn in document.turns[-2:]])
        expected[document.id] = sum(w * (own @ one).max() for w, one in zip(weights, asked, strict=True))
    hits = search(collection, query).hits
    assert [hit.id for hit in hits] == sorted(expected, key=lambda one: (-np.float32(expected[one]), one.encode()))
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], abs=1e-5)
    assert search(collection, Query(text=SPEC.heard(TALK), turns=TALK, k=3)).hits[0].id == "a"


def test_the_latest_turns_are_read_in_full_where_not_all_fit() -> None:
    encoder = DeterministicEncoder(DIM, "multi_vector")
    long = (Turn("user", "a " * (MAX_WORDS - 4)), Turn("system", "b c"), Turn("user", "d"))
    (said,) = said_of([long], SPEC, encoder, tokens=True)
    assert said.text == "system: b c\nuser: d"
    (whole,) = said_of([(Turn("user", "a"), *long[1:])], SPEC, encoder, tokens=True)
    assert whole.text == "user: a\nsystem: b c\nuser: d"
    assert whole.weights == (0, 0.5, 1)
    (alone,) = said_of([(Turn("user", "a"), Turn("user", "b " * 2 * MAX_WORDS))], SPEC, encoder, tokens=True)
    assert alone.text.startswith("user: b b")
    (dense,) = said_of([long], SPEC, DeterministicEncoder(DIM, "dense"), tokens=False)
    assert dense.text == "system: b c\nuser: d"


class ShortQueries(DeterministicEncoder):
    """Queries are read up to 6 words."""

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces]:
        whole = super().token_places(texts, task)
        return [one.only(np.arange(len(one.spans)) < 6) for one in whole] if task == "query" else whole

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return super().encode_queries([" ".join(text.split(" ")[:6]) for text in texts])


LONG = (Turn("user", "a b c d"), Turn("system", "e f"), Turn("user", "g h"))


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
def test_the_latest_turn_is_read_of_a_query_with_less_room(kind: Kind) -> None:
    encoder = ShortQueries(DIM, kind)
    tokens = kind == "multi_vector"
    (document,) = said_of([LONG], TurnsSpec(last=3), encoder, tokens=tokens)
    assert (document.text, document.cut) == (spoken(LONG), False)
    (said,) = said_of([LONG], TurnsSpec(last=3), encoder, tokens=tokens, task="query")
    assert (said.text, said.cut) == ("system: e f\nuser: g h", True)
    (said,) = said_of([LONG], TurnsSpec(last=1), encoder, tokens=tokens, task="query")
    assert (said.text, said.cut) == ("system: e f\nuser: g h" if tokens else "user: g h", False)
    made, _ = by_turns(encoder.encode_queries([said.text]), [said], encoder, "query")
    expected = word("user: g h").sum(axis=0)
    assert np.allclose(made.pooled[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_the_latest_turns_are_read_by_encoders_that_tell_no_places() -> None:
    for scored, kind in ((False, "dense"), (True, "multi_vector")):
        encoder = DeterministicEncoder(DIM, kind)
        turns = (Turn("user", "a " * MAX_WORDS), Turn("system", "b c"), Turn("user", "d"))
        (said,) = said_of([turns], TurnsSpec(last=3), encoder, tokens=scored)
        assert (said.text, said.cut) == ("system: b c\nuser: d", True)
    setting = {"url": "http://127.0.0.1:1/v1", "model": "m", "dim": 3, "max_tokens": 16, "query_prefix": "a query: "}
    remote = RemoteEncoder(RemoteModel(type="remote", **setting))
    short = (Turn("user", "a b c d e f"), Turn("user", "g h i j k l"))
    for task, expected in (("document", "user: g h i j k l"), ("query", "user: g h i j k l")):
        (said,) = said_of([short], TurnsSpec(), remote, tokens=False, task=task)
        assert (said.text, said.cut) == (expected, True)
    fits = (Turn("a", "b c d e"), Turn("a", "b c d e"))
    for task, cut in (("document", False), ("query", True)):
        (said,) = said_of([fits], TurnsSpec(), remote, tokens=False, task=task)
        assert (said.text, said.cut) == (spoken(fits[cut:]), cut)
    remote.close()


def test_a_text_none_of_whose_words_counts_keeps_its_vectors() -> None:
    encoder = DeterministicEncoder(DIM, "multi_vector")
    said = Said("user: a\nuser: b", (0, 8), (0.0, 0.0))
    whole = encoder.encode_documents([said.text])
    made, weights = by_turns(whole, [said], encoder)
    assert weights == [None]
    assert made.tokens is not None
    assert whole.tokens is not None
    assert np.array_equal(made.tokens[0], whole.tokens[0])
    assert np.array_equal(made.pooled, whole.pooled)


def test_a_document_of_more_turns_than_are_read_is_told_as_cut(catalogue: Catalogue) -> None:
    collection = catalogue.create("d", model="words", kind="dense", turns=TurnsSpec())
    turns = (Turn("user", "owl " * MAX_WORDS), Turn("user", "red hen"))
    assert write_documents(collection, [talk("a", turns)]).truncated == ["a"]
    hit = search(collection, Query(text="user: red hen", k=1)).hits[0]
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_the_latest_turn_counts_where_none_would() -> None:
    assert TurnsSpec(roles={"user": 0, "system": 0}).weights(TALK) == [0, 0, 1]
    assert TurnsSpec(last=9, roles={"user": 0}).heard(TALK) == "old owl"


def test_a_summary_is_the_pooled_vector_and_what_is_learned_of_it_survives(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=DIM)})
    topics = ["fox", "owl", "hen"]

    def conversation(i: int) -> tuple[Turn, ...]:
        return Turn("user", f"number {i}"), Turn("system", "which one"), Turn("user", f"the {topics[i % 3]}")

    def found(collection: Collection, k: int = 22) -> list[str]:
        asked = (Turn("user", "hello"), Turn("user", "well the owl"))
        spec = collection.spec.turns
        assert spec is not None, "it has turns"
        query = Query(text=spec.heard(asked), turns=asked, mode="dense", k=k)
        return sorted(hit.id for hit in search(collection, query).hits)

    owls = sorted(f"d{i}" for i in range(66) if i % 3 == 1)
    with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
        collection = made(catalogue, TurnsSpec())
        documents = [talk(f"d{i}", conversation(i), f"zz{i % 3} yy{i % 3}") for i in range(66)]
        write_documents(collection, documents)
        _, pooled = rows(collection, "d1")
        mean = word("zz1 yy1").sum(axis=0)
        assert np.allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-6)
        assert found(collection) == owls
        changed = patch_document(collection, "d1", Patch(summary="zz2 yy2")).document
        assert (changed.turns, changed.summary) == (conversation(1), "zz2 yy2")
        assert found(collection, 21) == [name for name in owls if name != "d1"]
        patch_document(collection, "d1", Patch(summary="zz1 yy1"))
        seal(collection)
        map_before = collection.spec.turns and collection.spec.turns.map
    with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
        collection = catalogue.get("c")
        assert found(collection) == owls
        assert map_before is not None
        assert collection.spec.turns == TurnsSpec(map=map_before)
        standing, _ = collection.listing(None, 100)
        assert {one.id: one for one in standing} == {one.id: one for one in documents}
        assert write_documents(collection, documents).changed == 0


def test_it_is_not_learned_again_for_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there are twice as many documents, of which few have a summary."""
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=DIM)})
    tried, useful = [], True

    def counted(conversations: F32, summaries: F32, names: I64) -> SummaryMap | None:
        tried.append(len(names))
        return learned(conversations, summaries, names) if useful else None

    def written(collection: Collection, first: int, count: int) -> None:
        numbers = range(first, first + count)
        talks = [talk(f"d{i}", (Turn("user", f"the {'abc'[i % 3]}"),), f"zz{i % 3}" if i < 70 else "") for i in numbers]
        write_documents(collection, talks)

    monkeypatch.setattr("app.indexing.summaries.learned", counted)
    for name in ("with", "without"):
        useful = name == "with"
        tried.clear()
        with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
            collection = catalogue.create(name, model="words", kind="multi_vector", turns=TurnsSpec())
            written(collection, 0, 200)
        for first in (200, 201):
            with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
                written(catalogue.get(name), first, 1)
        assert tried == [70]
        with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
            written(catalogue.get(name), 202, 200)
        assert tried == [70, 70]


def test_maps_of_a_fold_share_their_normal_equations() -> None:
    """By plain loops over ridges and folds."""
    random = np.random.default_rng(3)
    names = random.integers(9, size=90)
    summaries = directed(random.normal(size=(9, 6)))[names]
    conversations = directed(summaries @ random.normal(size=(6, 6)) + 0.3 * random.normal(size=(90, 6)))
    fold = np.random.default_rng(SEED).permutation(90) % FOLDS
    best = []
    for ridge in RIDGES:
        ranks = []
        for i in range(90):
            rest = fold != fold[i]
            mean, matrix = ridge_map(conversations[rest], summaries[rest], ridge)
            scores = {
                name: float((conversations[i] - mean[0]) @ matrix @ one)
                for name, one in zip(names, summaries, strict=True)
            }
            ranks.append(1 / sum(score >= scores[names[i]] for score in scores.values()))
        best.append((float(np.mean(ranks)), ridge))
    found = learned(conversations, summaries, names)
    assert found is not None
    assert (found.held_out, found.ridge) == (pytest.approx(max(best)[0], abs=1e-6), max(best)[1])


def test_a_map_is_kept_where_it_finds_what_it_was_not_learned_from() -> None:
    random = np.random.default_rng(1)
    names = random.integers(12, size=240)

    def unit(vectors: F32) -> F32:
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    topics, summaries = unit(random.normal(size=(12, 16))), unit(random.normal(size=(12, 16)))
    conversations = unit(topics[names] + 0.2 * random.normal(size=(240, 16)))
    found = learned(conversations, summaries[names], names)
    assert found is not None
    assert found.held_out > 0.8 > found.unmapped
    new = unit(topics + 0.2 * random.normal(size=(12, 16)))
    assert (np.argmax(found.of(new) @ summaries.T, axis=1) == np.arange(12)).mean() > 0.8
    # Nothing is learned of what says nothing of its summary, nor where a conversation is as near as can be.
    noise = unit(random.normal(size=(240, 16)))
    other = learned(noise, summaries[names], names)
    assert other is None or other.held_out < 0.4
    assert learned(summaries[names], summaries[names], names) is None


def test_what_another_version_kept_is_refused() -> None:
    value = {"last": 2, "decay": 1.0, "roles": {}, "summaries": True, "map": None}
    assert TurnsSpec.from_json(value, 3) == TurnsSpec()
    wrong = {"rows": 2, "columns": 2, "numbers": "AAAAAAAAAAAAAAAAAAAAAA=="}
    own = {"matrix": wrong, "mean": wrong, "documents": 1, "ridge": 1.0, "held_out": 1.0, "unmapped": 0.0}
    with pytest.raises(ValueError, match="another shape"):
        SummaryMap.from_json(own, 3)
    with pytest.raises(Invalid, match="at most 1"):
        TurnsSpec.from_json({**value, "decay": 2}, 3)


def test_a_row_whose_turns_do_not_make_its_text_is_none() -> None:
    from app.store.rows import document_sum

    held = json.dumps([{}, [["user", 3]], ""])
    crc = document_sum(1, b"a", "", "user: hello", held, 0)
    with pytest.raises(ValueError, match="its turns do not make"):
        parse_row((1, b"a", "", "user: hello", held, 0, crc), "c")


def test_vectors_of_a_query_are_those_of_its_turns(catalogue: Catalogue) -> None:
    collection = made(catalogue)
    (encoded,) = encode_queries(collection, [Query(text=SPEC.heard(TALK), turns=TALK)])
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), [0.5] * 3 + [1.0] * 3, atol=1e-6)
    (plain,) = encode_queries(collection, [Query(text="blue hen")])
    assert np.allclose(plain.vectors, word("blue hen"), atol=1e-6)


def test_a_collection_of_another_version_is_refused() -> None:
    from app.collection.spec import CollectionSpec, EncoderSpec

    spec = CollectionSpec(name="c", encoder=EncoderSpec(model="words", kind="multi_vector", dim=3), turns=TurnsSpec())
    value = json.loads(json.dumps(spec.to_json()))
    assert CollectionSpec.from_json(value) == spec
    with pytest.raises(FormatTooNew):
        CollectionSpec.from_json({**value, "turns": {**value["turns"], "later": 1}})


def test_judgements_tell_which_turns_should_count(catalogue: Catalogue) -> None:
    collection = made(catalogue, TurnsSpec(last=2, summaries=False))
    topics = [f"topic{i}" for i in range(12)]

    def about(i: int, before: int) -> tuple[Turn, ...]:
        return Turn("user", topics[(i + before) % 12]), Turn("user", topics[i % 12])

    write_documents(collection, [talk(f"d{i}", about(i, 1 + i // 12)) for i in range(36)])
    judged = [
        Judged(f"q{i}", {f"d{i + n}": 1 for n in (0, 12, 24)}, spoken(about(i, 5)), turns=about(i, 5))
        for i in range(12)
    ]
    write_set(collection, "people", judged)
    assert read_set(collection, "people") == judged
    report = tune_judged(collection, ByJudgements("people", parts=("turns",)))
    found = report["parts"]["turns"]
    assert found["chosen"] == "the last 1 turns"
    assert found["gain"]["mean"] > 0
    assert report["applied"] == []
    plain = catalogue.create("plain", model="words", kind="multi_vector")
    assert hindrance(plain, "turns") == "the collection has no conversations"
