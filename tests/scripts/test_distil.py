"""Heads learned from a teacher: what is planted is found again, and what loses is not recommended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import MODELS, ROOT, Command, OpenCatalogue

from app.encoders.heads.head import read_head
from app.encoders.registry import Encoders
from app.errors import SheafError
from app.ingest import write_documents
from app.scoring.maxsim import reference
from app.scoring.networks.forward import directions, outputs
from app.settings import Settings
from app.types import F32, Document, TokenVectors

sys.path.insert(0, str(ROOT / "scripts"))

from distil import Row, conclusion, decided, parser, run
from distillation import learned, principal
from teachers import ByTokens, ByVectors, Lessons, lessons, unit

RANDOM = np.random.default_rng(0)
WIDTH = 12


def drawn(count: int, seed: int) -> F32:
    return unit(np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32))


def planted(seed: int) -> Lessons:
    """Of a teacher whose vectors are a linear map of the student's, twice as wide as what is learned."""
    matrix = np.random.default_rng(9).standard_normal((WIDTH, 2)).astype(np.float32)
    queries, passages = drawn(200, seed), drawn(150, seed + 1)
    teacher = ByVectors([queries @ matrix], [passages @ matrix])
    own = [np.array([place % 150]) for place in range(200)]
    return lessons(teacher, queries, passages, np.arange(200), np.arange(150), own, seed)


def pairs(given: Lessons, networks: object, dim: int) -> F32:
    query, document = (directions(outputs(networks[side], vectors)[:, :dim]) for side, vectors in sides(given))  # type: ignore[index]
    return np.einsum("qd,qcd->qc", query, document[given.which])


def sides(given: Lessons) -> list[tuple[str, F32]]:
    return [("query", given.queries), ("document", given.passages)]


@pytest.mark.parametrize("layers", [1, 2])
def test_a_linear_teacher_is_found_again(layers: int) -> None:
    teach, held = planted(0), planted(10)
    found = learned(teach, held, (4, 2), layers=layers, rounds=40, rate=1e-2)
    assert found.losses[found.best] < 0.05 * found.losses[0]
    assert found.losses[found.best] == min(found.losses)
    axes = principal(teach.passages, 4)
    plain = np.einsum("qd,qcd->qc", unit(held.queries @ axes), unit(held.passages @ axes)[held.which])
    for dim in (4, 2):
        off = np.abs(pairs(held, found.networks, dim) - held.scores)
        assert off.mean() < 0.06 < np.abs(plain - held.scores).mean()
    # The same seed, the same head to the bit.
    again = learned(teach, held, (4, 2), layers=layers, rounds=3)
    assert again.losses == learned(teach, held, (4, 2), layers=layers, rounds=3).losses


def test_each_way_of_learning_changes_what_it_says() -> None:
    teach, held = planted(0), planted(10)
    axes = principal(teach.passages, 4)
    for way in ("both", "query", "document", "each"):
        found = learned(teach, held, (4, 2), way, rounds=3)  # type: ignore[arg-type]
        stay = [np.array_equal(found.networks[side].layers[0].weights, axes) for side in ("query", "document")]  # type: ignore[index]
        assert stay == [way == "document", way == "query"]
        assert (found.networks["query"] is found.networks["document"]) == (way == "both")


def test_axes_keep_inner_products_and_come_in_order() -> None:
    vectors = drawn(50, 3) * np.arange(1, WIDTH + 1, dtype=np.float32)
    turned = vectors @ principal(vectors, WIDTH)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-3)
    sizes = (turned * turned).sum(axis=0)
    assert (np.diff(sizes) <= 1e-3).all()
    np.testing.assert_allclose(turned[:, :3], vectors @ principal(vectors, 3), atol=1e-5)


def test_lessons_are_what_the_teacher_thinks() -> None:
    tokens = [unit(RANDOM.standard_normal((n, 4)).astype(np.float32)).astype(np.float16) for n in (3, 1, 5, 2, 4)]
    asked = [unit(RANDOM.standard_normal((n, 4)).astype(np.float32)).astype(np.float16) for n in (2, 3)]
    teacher = ByTokens(TokenVectors.join(asked), TokenVectors.join(tokens))
    among, own = np.array([1, 2, 4]), [np.array([4]), np.array([2])]
    given = lessons(teacher, drawn(2, 5), drawn(5, 6), np.array([0, 1]), among, own)
    assert given.passage_vectors is None
    assert sorted(given.which[0].tolist()) == sorted(given.which[1].tolist()) == [0, 1, 2]
    assert given.which[:, 0].tolist() == [2, 1]
    for row in range(2):
        truth = [reference(asked[row].astype(np.float32), tokens[among[place]]) for place in given.which[row]]
        np.testing.assert_allclose(given.scores[row], np.array(truth) / len(asked[row]), rtol=1e-3)


def test_only_what_is_better_is_recommended() -> None:
    plain, same, better = np.full(40, 0.5), np.full(40, 0.5), np.full(40, 0.6)

    def rows(dim: int, held: object, judged: object) -> list[Row]:
        return [Row("pooled, cut", dim, plain, plain), Row("head", dim, held, judged)]  # type: ignore[arg-type]

    found = decided([*rows(8, better, better), *rows(4, better, plain - 0.1), *rows(2, same, better)], (8, 4, 2))
    assert [row.recommended for row in found if row.way == "head"] == [True, False, False]
    assert conclusion(found).startswith("Recommended with 8 dimensions; not with 4 and 2")
    assert conclusion(found[2:]).startswith("Not recommended")
    only = decided([Row("pooled, cut", 8, plain, None), Row("head", 8, better, None)], (8,))
    assert only[1].recommended


@pytest.fixture
def written(open_catalogue: OpenCatalogue) -> None:
    """80 documents of eight subjects, a collection without documents and one without an encoder."""
    random = np.random.default_rng(1)
    subjects = [[f"s{i}w{j}" for j in range(6)] for i in range(8)]
    with open_catalogue() as catalogue:
        made = catalogue.create("c", model="words", kind="dense")
        documents = []
        for i in range(80):
            own = subjects[i % 8]
            sentences = [" ".join(random.permutation(own)[:5]) + "." for _ in range(3)]
            documents.append(Document(f"d{i}", " ".join(sentences), own[0]))
        write_documents(made, documents)
        catalogue.create("few", model="words", kind="dense")
        catalogue.create("own", model=None, kind="dense", dim=3)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    folder = tmp_path / "judged"
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "s1w2 s1w3"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\nq\td9\t1\n")
    return folder


@pytest.mark.usefixtures("written")
def test_the_command(command: Command, judged: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "heads" / "mine", tmp_path / "report.json"
    line = ["c", "--dim", 8, 4, "--out", out, "--rounds", 3, "--queries", 100, "--judged", judged, "--json", report]
    done = command("distil", *line, "--teacher", "other", "words", "--write-anyway")
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert [(row["vectors"], row["dim"]) for row in found["rows"]] == [
        (way, dim) for dim in (8, 4) for way in ("pooled, cut", "principal axes", "head")
    ]
    assert all("nDCG@10" in row for row in found["rows"])
    assert f"written to {out}" in done.stdout
    head = read_head(out)
    assert (head.dims, head.teacher["names"]) == ((8, 4), ["other", "words"])
    models = json.loads(MODELS) | {"mine": {"type": "distilled", "path": str(out), "base": "words"}}
    encoders = Encoders(Settings(models=models).models)
    assert encoders.get("mine", "dense", 4).encode_queries(["s1w2"]).pooled.shape == (1, 4)


@pytest.mark.usefixtures("written")
def test_what_loses_is_told_and_not_written(
    open_catalogue: OpenCatalogue, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, settings = tmp_path / "mine", asked(tmp_path)
    # A teacher that is the encoder itself has nothing to give at its own dimensions.
    line = ["c", "--dim", "32", "--out", str(out), "--rounds", "2", "--queries", "100"]
    run(parser().parse_args([*line, "--teacher", "words"]), settings)
    said = capsys.readouterr().out
    assert "Not recommended" in said
    assert "nothing was written" in said
    assert not out.exists()
    run(parser().parse_args([*line, "--sides", "query", "--write-anyway"]), settings)
    found = read_head(out)
    assert (found.teacher["names"], found.teacher["sides"]) == (["maxsim"], "query")


@pytest.mark.usefixtures("written")
def test_what_it_cannot_do_it_says(tmp_path: Path, judged: Path) -> None:
    (judged / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tnever\t1\n")
    for wrong, said in (
        (["few", "--dim", "8"], "expected 40 documents or more to learn from, the collection has 0"),
        (["own", "--dim", "2"], "has no encoder"),
        (["absent", "--dim", "2"], "there is no collection 'absent'"),
        (["c", "--dim", "33"], "at most the 32 numbers that 'words' has, got 33"),
        (["c", "--dim", "0"], "expected dimensions from 1"),
        (["c", "--dim", "8", "--teacher", "maxsim", "other"], "maxsim teaches alone"),
        (["c", "--dim", "8", "--teacher", "nobody"], "no encoder is named 'nobody'"),
        (["c", "--dim", "8", "--judged", str(judged)], "judges no document that collection c has"),
    ):
        with pytest.raises(SheafError, match=said):
            run(parser().parse_args([*wrong, "--out", str(tmp_path / "mine")]), asked(tmp_path))


def asked(tmp_path: Path) -> Settings:
    return Settings(indexes=tmp_path / "indexes", models=json.loads(MODELS))
