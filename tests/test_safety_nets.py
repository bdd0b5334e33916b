"""Everything that a user does to keep documents safe, in any order, against dictionaries and brute force.

Writes (on condition, too), deletions, patches, sealing, merging, restarts, snapshots, restores under any name, aliases,
deleted collections: after each step every collection holds, counts and finds what its dictionary says. Bounded in `make
test`; `make machine` runs it at length.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import ranking
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.changes.patch import Patch
from app.encoders.registry import Encoders
from app.errors import Conflict, NotFound, PreconditionFailed
from app.filters import parse
from app.indexing.sealing import merge, seal
from app.ingest import Condition, delete_ids, delete_matching, delete_one, patch_document, write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import F32, Document

LONG = settings.get_current_profile_name() == "long"
NAMES, ALIASES, IDS = ["a", "b"], ["x"], ["p", "é", "e\u0301", "\U0001f600"]

names, ids = st.sampled_from(NAMES), st.sampled_from(IDS)
called = st.sampled_from([*NAMES, *ALIASES])
"""A collection by its name or by an alias, which may stand for nothing."""
numbers = st.integers(-1, 1)


def matrix(rows: list[list[int]]) -> F32:
    return np.array(rows, np.float32)


vectors = st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=3).map(matrix)
metadata = st.fixed_dictionaries({}, optional={"n": st.sampled_from([0, 1, True, "s"])})
documents = st.builds(Document, ids, st.sampled_from(["", "red", "blue"]), st.just(""), metadata, vectors)


@dataclass
class Model:
    """The content that a collection should have. highest: version that its name has ever given."""

    stands: dict[str, Document] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    highest: int = 0

    def copy(self) -> Model:
        return Model(dict(self.stands), dict(self.versions), self.highest)

    def wrote(self, document: Document, version: int, *, changed: bool) -> None:
        if changed:
            assert version > self.highest, "a version was given twice"
            self.highest = version
        else:
            assert version == self.versions[document.id]
        self.stands[document.id], self.versions[document.id] = document, version


def same(one: Document | None, other: Document) -> bool:
    if one is None or one.vectors is None or other.vectors is None or not one.stands_as(other):
        return False
    return one.vectors.shape == other.vectors.shape and one.vectors.tobytes() == other.vectors.tobytes()


class SafetyNets(RuleBasedStateMachine):
    """Collections of callers' vectors of whole numbers, so that ties abound."""

    saved = Bundle("saved")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.settings = Settings(indexes=Path(self.folder.name), threads=1, seal_documents=4)
        self.models: dict[str, Model] = {}
        self.aliases: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.kept: dict[str, Model] = {}
        self.taken = 0
        self.open()
        self.create("a")

    def open(self) -> None:
        self.catalogue = Catalogue(self.settings.indexes, Encoders({}), self.settings)
        self.catalogue.serve("http://localhost")

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            self.catalogue.close()
            self.folder.cleanup()

    def find(self, name: str) -> tuple[Any, Model] | None:
        """The collection and its model, or None after it was seen that there is none."""
        model = self.models.get(self.aliases.get(name, name))
        if model is None:
            with pytest.raises(NotFound):
                self.catalogue.get(name)
            return None
        return self.catalogue.get(name), model

    # Collections and their names

    @rule(name=called)
    def create(self, name: str) -> None:
        def make() -> None:
            self.catalogue.create(name, model=None, kind="multi_vector", dim=2, similarity="inner_product")

        if name in self.models or name in self.aliases:
            with pytest.raises(Conflict):
                make()
            return
        make()
        self.models[name] = Model()

    @rule(name=called)
    def drop(self, name: str) -> None:
        if name in self.aliases:
            with pytest.raises(Conflict):
                self.catalogue.delete(name)
        elif name not in self.models:
            with pytest.raises(NotFound):
                self.catalogue.delete(name)
        else:
            self.catalogue.delete(name)
            del self.models[name]
            self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}

    @rule(alias=st.sampled_from([*ALIASES, "a"]), collection=called)
    def point(self, alias: str, collection: str) -> None:
        if alias in self.models:
            with pytest.raises(Conflict):
                self.catalogue.aliases.set(alias, collection)
        elif collection not in self.models:
            with pytest.raises(NotFound):
                self.catalogue.aliases.set(alias, collection)
        else:
            assert self.catalogue.aliases.set(alias, collection) == (alias not in self.aliases)
            self.aliases[alias] = collection

    @rule(alias=st.sampled_from(ALIASES))
    def forget(self, alias: str) -> None:
        if self.aliases.pop(alias, None) is None:
            with pytest.raises(NotFound):
                self.catalogue.aliases.delete(alias)
        else:
            self.catalogue.aliases.delete(alias)

    # Documents

    @rule(name=called, batch=st.lists(documents, min_size=1, max_size=4))
    def upsert(self, name: str, batch: list[Document]) -> None:
        if found := self.find(name):
            collection, model = found
            last = {document.id: document for document in batch}
            result = write_documents(collection, batch)
            assert (result.written, result.created) == (len(last), len(last.keys() - model.stands.keys()))
            assert result.versions.keys() == last.keys()
            for document in sorted(last.values(), key=lambda d: result.versions[d.id]):
                changed = not same(model.stands.get(document.id), document)
                model.wrote(document, result.versions[document.id], changed=changed)

    @rule(name=called, document=documents, expected=st.sampled_from(["this", "another", "none", "any"]))
    def put_on_condition(self, name: str, document: Document, expected: str) -> None:
        if found := self.find(name):
            collection, model = found
            version = model.versions.get(document.id)
            condition, holds = {
                "this": (Condition(versions=frozenset([version or 0])), version is not None),
                "another": (Condition(versions=frozenset([(version or 0) + 1])), False),
                "none": (Condition(exists=False), version is None),
                "any": (Condition(exists=True), version is not None),
            }[expected]
            if not holds:
                with pytest.raises(PreconditionFailed):
                    write_documents(collection, [document], condition=condition)
                return
            result = write_documents(collection, [document], condition=condition)
            changed = not same(model.stands.get(document.id), document)
            model.wrote(document, result.versions[document.id], changed=changed)

    @rule(name=called, identifier=ids, value=st.sampled_from([None, 7, "t"]))
    def patch(self, name: str, identifier: str, value: Any) -> None:
        if found := self.find(name):
            collection, model = found
            if identifier not in model.stands:
                with pytest.raises(NotFound):
                    patch_document(collection, identifier, Patch(metadata={"n": value}))
                return
            old = model.stands[identifier]
            merged = {k: v for k, v in {**old.metadata, "n": value}.items() if v is not None}
            patched, version = patch_document(collection, identifier, Patch(metadata={"n": value}))
            assert patched.metadata == merged
            model.wrote(replace(old, metadata=merged), version, changed=True)

    @rule(name=called, gone=st.lists(ids, min_size=1, max_size=3))
    def delete(self, name: str, gone: list[str]) -> None:
        if found := self.find(name):
            collection, model = found
            assert delete_ids(collection, gone) == len(model.stands.keys() & set(gone))
            self.lose(model, gone)

    @rule(name=called, identifier=ids, right=st.booleans())
    def delete_on_condition(self, name: str, identifier: str, right: bool) -> None:
        if found := self.find(name):
            collection, model = found
            version = model.versions.get(identifier, 0) + (0 if right else 1)
            condition = Condition(versions=frozenset([version]))
            if not right or identifier not in model.stands:
                with pytest.raises(PreconditionFailed):
                    delete_one(collection, identifier, condition=condition)
                return
            delete_one(collection, identifier, condition=condition)
            self.lose(model, [identifier])

    @rule(name=called)
    def delete_by_filter(self, name: str) -> None:
        if found := self.find(name):
            collection, model = found
            condition = parse({"n": {"eq": 1}})
            gone = [i for i, document in model.stands.items() if condition.matches(document.metadata)]
            assert delete_matching(collection, condition) == len(gone)
            self.lose(model, gone)

    @staticmethod
    def lose(model: Model, gone: list[str]) -> None:
        for identifier in gone:
            model.stands.pop(identifier, None)
            model.versions.pop(identifier, None)

    # Events in the background, and of the process

    @rule(name=called)
    def seal(self, name: str) -> None:
        if found := self.find(name):
            seal(found[0])

    @rule(name=called)
    def merge(self, name: str) -> None:
        if found := self.find(name):
            while merge(found[0]):
                pass

    @rule()
    def restart(self) -> None:
        self.catalogue.close()
        self.open()

    # Snapshots

    @rule(target=saved, name=called)
    def snapshot(self, name: str) -> Any:
        found = self.find(name)
        if found is None:
            return multiple()
        collection, model = found
        self.taken += 1
        identifier = f"{self.taken:032x}"
        taken = self.catalogue.snapshots.take(collection, identifier, lambda: None)
        assert (taken.documents, taken.collection) == (len(model.stands), collection.name)
        self.kept[identifier], self.owners[identifier] = model.copy(), collection.name
        return collection.name, identifier

    @rule(snapshot=saved, name=called, over=st.sampled_from([True, True, False]))
    def restore(self, snapshot: tuple[str, str], name: str, over: bool) -> None:
        _, archive = self.catalogue.snapshots.get(*snapshot)
        if name in self.aliases or (name in self.models and not over):
            with pytest.raises(Conflict):
                restore_file(self.catalogue, name, archive, replace=over)
            return
        before = self.models.get(name, Model()).highest
        assert restore_file(self.catalogue, name, archive, replace=over) == (name in self.models)
        self.models[name] = model = self.kept[snapshot[1]].copy()
        model.highest = max(model.highest, before)

    @rule(snapshot=consumes(saved))
    def discard(self, snapshot: tuple[str, str]) -> None:
        self.catalogue.snapshots.delete(*snapshot)
        del self.kept[snapshot[1]], self.owners[snapshot[1]]
        with pytest.raises(NotFound):
            self.catalogue.snapshots.get(*snapshot)

    # Laws that must hold after each

    @invariant()
    def names_are_those(self) -> None:
        assert {info.name: info.documents for info in self.catalogue.describe_all()} == {
            name: len(model.stands) for name, model in self.models.items()
        }
        assert self.catalogue.aliases.all() == self.aliases
        assert self.catalogue.quarantined() == {}
        # An alias has those of its collection, and of one that had its name before.
        listed = {name: [saved.id for saved in self.catalogue.snapshots.of(name)] for name in NAMES + ALIASES}
        for name, found in listed.items():
            own = [identifier for identifier, owner in self.owners.items() if owner in (name, self.aliases.get(name))]
            assert sorted(found) == sorted(own)
        assert self.owners.keys() == self.kept.keys()
        beside = {path.name for path in self.settings.indexes.iterdir()} - self.models.keys()
        assert beside <= {".server.lock", ".snapshots", ".aliases.json"}

    @invariant()
    def documents_are_those(self) -> None:
        for name in (*self.models, *self.aliases):
            found = self.find(name)
            assert found is not None
            collection, model = found
            page, after = collection.listing(None, 100)
            assert after is None
            ordered = sorted(model.stands.values(), key=lambda d: d.id.encode())
            assert [(d.id, d.text, repr(d.metadata)) for d in page] == [
                (d.id, d.text, repr(d.metadata)) for d in ordered
            ]
            for identifier, version in model.versions.items():
                assert collection.get_version(identifier)[1] == version
            assert collection.count() == len(model.stands)
            condition = parse({"n": {"exists": True}})
            assert collection.count(condition) == sum(condition.matches(d.metadata) for d in model.stands.values())

    @invariant()
    def searches_are_brute_force(self) -> None:
        query = np.array([[1, -1], [0, 1]], np.float32)
        for name, model in self.models.items():
            collection = self.catalogue.get(name)
            pairs = [(d.id, d.vectors) for d in model.stands.values() if d.vectors is not None]
            expected = ranking(pairs, query, 3, collection.spec)
            for exact in (True, False):
                hits = search(collection, Query(vectors=query, k=3, exact=exact)).hits
                assert [(hit.id, hit.score) for hit in hits] == expected
                assert all(hit.text == model.stands[hit.id].text for hit in hits)


SafetyNets.TestCase.settings = settings(
    max_examples=1_000 if LONG else 25,
    stateful_step_count=60 if LONG else 40,
    derandomize=not LONG,
    deadline=None,
)
TestSafetyNets = SafetyNets.TestCase
