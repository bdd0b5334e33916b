"""A collection is a dictionary with a search: any sequence of operations, held against one."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from brute_force import ranking
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from in_plain_loops import in_order

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.registry import Encoders
from app.errors import NotFound
from app.filters import parse
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, delete_matching, patch_document, write_documents
from app.passages.windows import Window, Windowing
from app.reference import exact_search
from app.results.sorting import SortKey
from app.search import Query, Total, search
from app.settings import DeterministicModel, ModelSettings, Settings
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, Document, Kind, SimilarityName

IDS = ["a", "b", "c", "d", "é", "e\u0301", "\uffee", "\U0001f600"]
numbers = st.integers(-1, 1)
metadata = st.fixed_dictionaries({"n": st.sampled_from([0, 1, True, 1.5, "x"])}, optional={"tags": st.just(["t", "u"])})


def matrix(rows: list[list[int]]) -> F32:
    values = np.array(rows, np.float32)
    values[~values.any(axis=1), 0] = 1
    return values


def rows(most: int) -> st.SearchStrategy[F32]:
    return st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=most).map(matrix)


def passages(identifier: str, text: str, values: Any, matrices: list[F32]) -> Document:
    splits = tuple(map(len, matrices)) if len(matrices) > 1 else ()
    return Document(identifier, text, "", values, np.concatenate(matrices), splits)


def documents(most: int, own: int) -> st.SearchStrategy[Document]:
    """Of 1 to ``own`` passages with 1 to ``most`` vectors each."""
    texts = st.sampled_from(["", "red", "blue"])
    matrices = st.lists(rows(most), min_size=1, max_size=own)
    return st.builds(passages, st.sampled_from(IDS), texts, metadata, matrices)


conditions = st.sampled_from(
    [
        {"n": {"eq": 1}},
        {"n": {"eq": True}},
        {"n": {"gte": 0}},
        {"n": {"ne": 0}},
        {"tags": {"exists": True}},
        {"not": {"tags": {"eq": "t"}}},
        {"or": [{"n": {"eq": "x"}}, {"tags": {"in": ["u"]}}]},
    ]
).map(parse)


class CollectionLaws(RuleBasedStateMachine):
    """Callers' vectors of whole numbers, so that ties abound."""

    kind: Kind = "multi_vector"
    similarity: SimilarityName = "inner_product"
    keep_vectors = True
    most = 2
    own = 1

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.stands: dict[str, Document] = {}
        self.settings = Settings(indexes=Path(self.folder.name), threads=1, seal_documents=4)
        self.start()
        self.catalogue.create(
            "c", model=None, kind=self.kind, dim=2, similarity=self.similarity, keep_vectors=self.keep_vectors
        )

    def documents(self) -> st.SearchStrategy[Document]:
        return documents(self.most, self.own)

    def score_of(self, query: F32, vectors: F32) -> float:
        """Whole numbers, so exact in any order."""
        if self.similarity == "euclidean":
            return float((-np.square(query[:, None] - vectors[None]).sum(axis=2)).max(axis=1).sum())
        return float((query @ vectors.T).max(axis=1).sum())

    def start(self) -> None:
        self.catalogue = Catalogue(self.settings.indexes, Encoders({}), self.settings)

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            self.catalogue.close()
            self.folder.cleanup()

    @property
    def collection(self) -> Collection:
        return self.catalogue.get("c")

    @rule(data=st.data())
    def upsert(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(self.documents(), min_size=1, max_size=5))
        last = {document.id: document for document in batch}
        result = write_documents(self.collection, batch)
        assert result.written == len(last)
        assert result.created == len(last.keys() - self.stands.keys())
        assert set(result.duplicates) == {i for i in last if [d.id for d in batch].count(i) > 1}
        self.stands.update(last)

    @precondition(lambda self: self.stands)
    @rule(data=st.data())
    def write_again(self, data: st.DataObject) -> None:
        """A document that stands already is not written."""
        batch = data.draw(st.lists(st.sampled_from(sorted(self.stands)), min_size=1, max_size=3, unique=True))
        before = self.collection.published
        write_documents(self.collection, [self.stands[i] for i in batch])
        after = self.collection.published
        assert (after.next_seq, after.generation.number) == (before.next_seq, before.generation.number)

    @rule(gone=st.lists(st.sampled_from([*IDS, "never"]), min_size=1, max_size=3))
    def delete(self, gone: list[str]) -> None:
        assert delete_ids(self.collection, gone) == len(self.stands.keys() & set(gone))
        self.stands = {i: d for i, d in self.stands.items() if i not in gone}

    @rule(condition=conditions)
    def delete_by_filter(self, condition: Any) -> None:
        kept = {i: d for i, d in self.stands.items() if not condition.matches(d.metadata)}
        assert delete_matching(self.collection, condition) == len(self.stands) - len(kept)
        self.stands = kept

    @rule(identifier=st.sampled_from(IDS), value=st.sampled_from([None, 7, "y"]))
    def patch(self, identifier: str, value: Any) -> None:
        if identifier not in self.stands:
            try:
                patch_document(self.collection, identifier, Patch(metadata={"n": value}))
            except NotFound:
                return
            raise AssertionError("patched a document that is not there")
        old = self.stands[identifier]
        merged = {k: v for k, v in {**old.metadata, "n": value}.items() if v is not None}
        patch_document(self.collection, identifier, Patch(metadata={"n": value}))
        self.stands[identifier] = replace(old, metadata=merged)

    @rule()
    def seal(self) -> None:
        had = self.collection.published.tail.part.size
        assert seal(self.collection) == (had > 0)
        assert self.collection.published.tail.part.size == 0

    @rule()
    def merge(self) -> None:
        while merge(self.collection):
            pass
        sizes = [(len(view.alive), int(view.alive.sum())) for view in self.collection.published.segments]
        assert all(standing > 0.75 * size for size, standing in sizes)

    @rule()
    def rebuild(self) -> None:
        tasks = Tasks(self.collection, {})
        task = tasks.submit("rebuild", {})
        run_rebuild(self.collection, Running(tasks, len(tasks.all()), task))

    @rule()
    def reopen(self) -> None:
        self.catalogue.close()
        self.start()

    @invariant()
    def documents_are_those(self) -> None:
        ids = sorted(self.stands, key=str.encode)
        expected = [(d.id, d.text, repr(d.metadata)) for d in (self.stands[i] for i in ids)]
        found: list[Document] = []
        after: str | None = None
        while True:
            page, after = self.collection.listing(after, 3)
            found += page
            assert len(page) == 3 or after is None
            if after is None:
                break
        assert [(d.id, d.text, repr(d.metadata)) for d in found] == expected
        assert [d.id for d in self.collection.get_many([*IDS, "never"])] == [i for i in IDS if i in self.stands]
        assert self.collection.count() == len(self.stands) == self.catalogue.describe("c").documents

    @invariant()
    def filters_hold(self) -> None:
        condition = parse({"or": [{"n": {"eq": 1}}, {"tags": {"exists": True}}]})
        ids = [i for i in sorted(self.stands, key=str.encode) if condition.matches(self.stands[i].metadata)]
        assert self.collection.count(condition) == len(ids)
        page, after = self.collection.listing(None, 2, condition)
        assert [d.id for d in page] == ids[:2]
        assert after == (ids[1] if len(ids) > 2 else None)

    @invariant()
    def browsing_is_sorting(self) -> None:
        for keys in ((), (SortKey("n"),), (SortKey("tags"), SortKey("n", descending=True))):
            for some in (None, IDS[2:]):
                chosen = [one for one in self.stands.values() if some is None or one.id in some]
                result = search(self.collection, Query(mode="browse", sort=keys, ids=some, k=4))
                assert [hit.id for hit in result.hits] == in_order(chosen, keys)[:4]
                assert result.total == Total(len(chosen), exact=True)

    @invariant()
    def live_documents_are_counted(self) -> None:
        now = self.collection.published
        assert all(view.live == view.alive.sum() for view in (*now.segments, now.tail))

    @invariant()
    def searches_are_brute_force(self) -> None:
        query = np.array([[1, -1], [0, 1]][: 1 if self.kind == "dense" else 2], np.float32)
        pairs = [(document.id, matrix) for document in self.stands.values() for matrix in document.matrices]
        # A document is where its best passage is.
        best = dict(reversed(ranking(pairs, query, len(pairs), self.collection.spec))) if pairs else {}
        order = sorted(best.items(), key=lambda found: (-found[1], found[0].encode()))
        for k in (3, 20):
            expected = order[:k]
            for exact in (True, False):
                hits = search(self.collection, Query(vectors=query, k=k, exact=exact)).hits
                assert [(hit.id, hit.score) for hit in hits] == expected
        for hit in search(self.collection, Query(vectors=query, k=20, include=frozenset({"text", "vectors"}))).hits:
            document = self.stands[hit.id]
            assert hit.text == document.text
            assert any(np.array_equal(hit.vectors, matrix) for matrix in document.matrices)
            assert self.score_of(query, hit.vectors) == hit.score

    @invariant()
    def vectors_are_kept(self) -> None:
        with self.collection.snapshot() as snapshot:
            seqs = [int(seq) for view in snapshot.views for seq in view.part.seqs[view.alive]]
            ids = {document.id: seq for seq, document in snapshot.documents(seqs).items()}
        assert ids.keys() == self.stands.keys()
        stored = self.collection.stored_vectors(list(ids.values()), self.collection.published)
        for identifier, seq in ids.items():
            document = self.stands[identifier]
            assert stored[seq].owners.rows == len(document.matrices)
            assert ("raw" in stored[seq]) == self.keep_vectors
            if self.keep_vectors:
                kept = list(stored[seq].ragged("raw"))
                assert [matrix.tobytes() for matrix in kept] == [matrix.tobytes() for matrix in document.matrices]


class TextLaws(CollectionLaws):
    """Texts of one to many passages, and an encoder."""

    size = 8

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.stands = {}
        models: dict[str, ModelSettings] = {"words": DeterministicModel(type="deterministic", dim=3)}
        self.settings = Settings(indexes=Path(self.folder.name), threads=1, seal_documents=4, models=models)
        self.start()
        self.catalogue.create("c", model="words", kind=self.kind, passages=PassageSpec(size=self.size, overlap=2))

    def start(self) -> None:
        self.catalogue = Catalogue(self.settings.indexes, Encoders(self.settings.models), self.settings)

    def documents(self) -> st.SearchStrategy[Document]:
        words = st.lists(st.sampled_from(["red ", "blue ", "green. ", "# red\n", "\n\n", "sky "]), max_size=60)
        titles = st.sampled_from(["red", "a title"])
        return st.builds(Document, st.sampled_from(IDS), words.map("".join), titles, metadata)

    def windows(self, document: Document) -> list[Window]:
        encoder = DeterministicEncoder(3, self.kind)
        (found,) = Windowing(self.size, 2).of([document], encoder.tokens)
        return found

    def matrices(self, document: Document) -> list[F32]:
        encoded = DeterministicEncoder(3, self.kind).encode_documents([w.encoded for w in self.windows(document)])
        if encoded.tokens is None:
            return [encoded.pooled[i : i + 1] for i in range(len(encoded.pooled))]
        return list(encoded.tokens)

    @invariant()
    def searches_are_brute_force(self) -> None:
        spec = self.collection.spec
        query = DeterministicEncoder(3, self.kind).encode_queries(["red sky"])
        vectors = query.pooled if query.tokens is None else query.tokens.values
        own = {identifier: self.matrices(document) for identifier, document in self.stands.items()}
        order = exact_search(own, vectors, 20, kind=self.kind, precision=spec.precision, split=True)
        for k in (3, 20):
            for exact in (True, False):
                hits = search(self.collection, Query(text="red sky", k=k, exact=exact, passages=2)).hits
                assert [(hit.id, hit.score) for hit in hits] == order[:k]
                for hit in hits:
                    text, windows = self.stands[hit.id].text, self.windows(self.stands[hit.id])
                    assert hit.text == text
                    assert len(hit.passages or []) == min(2, len(windows))
                    for one in hit.passages or []:
                        assert one.text == text[one.start : one.stop]
                        assert (one.start, one.stop) in [(window.start, window.stop) for window in windows]

    @invariant()
    def vectors_are_kept(self) -> None:
        for identifier, document in self.stands.items():
            seq = self.collection.get_version(identifier)[1]
            stored = self.collection.stored_vectors([seq], self.collection.published)[seq]
            spans = [[window.start, window.stop] for window in self.windows(document)]
            assert stored.flat("spans").tolist() == spans


class DenseTextLaws(TextLaws):
    """The same, of one vector each."""

    kind = "dense"


class DenseLaws(CollectionLaws):
    """The same without kept vectors, one vector a document."""

    kind = "dense"
    keep_vectors = False
    most = 1


class PassageLaws(CollectionLaws):
    """Documents of 1 to 5 passages."""

    own = 5


class DensePassageLaws(DenseLaws):
    """The same, of one vector each."""

    own = 5


class EuclideanLaws(CollectionLaws):
    """The same of minus the squared distance, of vectors that are not kept as they came."""

    similarity = "euclidean"
    keep_vectors = False


class DenseEuclideanLaws(EuclideanLaws):
    """The same, of one vector each."""

    kind = "dense"
    most = 1


TextLaws.TestCase.settings = settings(max_examples=8, stateful_step_count=12, derandomize=True, deadline=None)
DenseTextLaws.TestCase.settings = settings(max_examples=5, stateful_step_count=12, derandomize=True, deadline=None)
PassageLaws.TestCase.settings = settings(max_examples=10, stateful_step_count=14, derandomize=True, deadline=None)
DensePassageLaws.TestCase.settings = settings(max_examples=6, stateful_step_count=14, derandomize=True, deadline=None)
CollectionLaws.TestCase.settings = settings(max_examples=12, stateful_step_count=14, derandomize=True, deadline=None)
DenseLaws.TestCase.settings = settings(max_examples=8, stateful_step_count=14, derandomize=True, deadline=None)
EuclideanLaws.TestCase.settings = settings(max_examples=6, stateful_step_count=12, derandomize=True, deadline=None)
DenseEuclideanLaws.TestCase.settings = settings(max_examples=5, stateful_step_count=12, derandomize=True, deadline=None)
TestEuclideanLaws = EuclideanLaws.TestCase
TestDenseEuclideanLaws = DenseEuclideanLaws.TestCase
TestCollectionLaws = CollectionLaws.TestCase
TestDenseLaws = DenseLaws.TestCase
TestPassageLaws = PassageLaws.TestCase
TestDensePassageLaws = DensePassageLaws.TestCase
TestTextLaws = TextLaws.TestCase
TestDenseTextLaws = DenseTextLaws.TestCase
