"""What a collection tells of its generations is what they were, and survives what ends."""

from __future__ import annotations

from pathlib import Path

from made import OpenCatalogue

from app.collection.collection import Collection
from app.collection.history import Generated, history_of
from app.encodings.muvera import MuveraParameters
from app.encodings.recipes import MuveraRecipe
from app.indexing.fitting import learn
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.types import Document


def past(collection: Collection) -> list[Generated]:
    with collection.database.read() as connection:
        return history_of(connection, collection.name)


def test_each_generation_is_told_as_it_began(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    with open_catalogue(tmp_path / "own") as catalogue:
        made = catalogue.create("c", model="words", kind="multi_vector")
        assert past(made) == []
        write_documents(made, [Document(str(i), f"word{i} and more words") for i in range(40)])
        seal(made)
        delete_ids(made, ["0", "1", "2"])
        write_documents(made, [Document("later", "later words")])
        learn(made, MuveraRecipe(MuveraParameters(2, 3)), width=77, reason="as we wished")
        told = past(made)
        stage = made.published.stage
        assert stage.encoding is not None
        assert [(one.generation, one.documents, one.segments) for one in told] == [(1, 40, 1), (2, 38, 1)]
        assert (told[1].reason, told[1].candidates, told[1].dim) == ("as we wished", 77, stage.encoding.encoded_dim)
        assert not told[0].same_stage(told[1])
        assert told[0].created <= told[1].created == made.published.generation.created
    with open_catalogue(tmp_path / "own") as catalogue:
        assert past(catalogue.get("c")) == told
