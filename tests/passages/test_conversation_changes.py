"""Conversations among other documents: marked where they were found, patched as they were answered, learned from where
they are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made import MakeCollection

from app.changes.patch import Patch
from app.encoders.turns import TurnsSpec
from app.highlights.fragments import Marking
from app.indexing import summaries
from app.indexing.sealing import seal
from app.indexing.summaries import learn_summaries
from app.ingest import patch_document, write_documents
from app.search import Query, search
from app.types import Document, Turn, spoken


def talk(name: str, *turns: tuple[str, str], summary: str = "") -> Document:
    told = tuple(Turn(*one) for one in turns)
    return Document(name, spoken(told), turns=told, summary=summary)


def test_words_are_marked_where_they_stand_in_a_conversation(make_text: MakeCollection) -> None:
    made = make_text(turns=TurnsSpec(last=2))
    # As many pieces, with the roles, as the turns have words, with the parts of one of them.
    write_documents(made, [talk("a", ("user", "table at 5PM"), ("system", "ok"))])
    for _ in range(2):
        (hit,) = search(made, Query(text="table", mode="lexical", highlights=Marking())).hits
        (one,) = hit.highlights or []
        assert one.marked == "user: <mark>table</mark> at 5PM\nsystem: ok"
        seal(made)


def test_a_patch_with_the_text_as_it_was_answered_keeps_the_turns(make_text: MakeCollection) -> None:
    made = make_text(turns=TurnsSpec())
    before = talk("a", ("user", "a table"), ("system", "for two"), summary="a table for two")
    write_documents(made, [before])
    patch_document(made, "a", Patch(text=before.text, title="asked"))
    assert made.get("a") == replace(before, title="asked")
    patch_document(made, "a", Patch(text="no conversation"))
    assert (made.get("a").turns, made.get("a").summary) == ((), "")


def test_conversations_are_learned_from_among_many_others(make_text: MakeCollection, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(summaries, "MOST", 80)
    made = make_text(turns=TurnsSpec())
    others = [Document(f"n{i}", f"nothing of it {i}") for i in range(400)]
    talks = [talk(f"t{i}", ("user", f"the w{i % 5}"), ("user", "well"), summary=f"s{i % 5}") for i in range(70)]
    write_documents(made, [*others, *talks])
    _, _, names, ids = summaries.pairs(made)
    assert sorted(ids) == sorted(one.id for one in talks)
    assert len(np.unique(names)) == 5
    # Of too few nothing is left, once vectors were made anew.
    spec = made.spec.turns
    assert spec is not None
    assert spec.map is not None
    monkeypatch.setattr(summaries, "LEAST", 100)
    assert learn_summaries(made, again=True)
    assert made.spec.turns == replace(spec, map=None)
