"""Held against SparseEncoder itself; what is none is refused before its weights could be drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SparseEncoder
from tiny_models import LIMIT, TinyModels

from app.encoders.prompts import Task
from app.encoders.registry import Encoders
from app.encoders.torch.sparse_encoder import SparseEncoderModel
from app.errors import EncoderRefused, Invalid
from app.settings import SparseEncoderModel as Setting
from app.sparse.rows import unpacked
from app.types import TokenVectors

TEXTS = ["the cat sat on a mat!", "dog", "read the zip file! " * 20, "", "a cat", "zip " * 7]
TASKS: list[Task] = ["query", "document"]


def dense(rows: TokenVectors, width: int) -> np.ndarray:
    found = np.zeros((len(rows), width), np.float32)
    for own, run in zip(found, rows, strict=True):
        vector = unpacked(run)
        assert (np.diff(vector.indices) > 0).all()
        own[vector.indices] = vector.values
    return found


@pytest.mark.parametrize("options", [{}, {"static": True}, {"most": 5}])
@pytest.mark.parametrize("task", TASKS)
def test_vectors_are_the_librarys_own(tiny: TinyModels, options: dict, task: Task) -> None:
    folder = tiny.splade("splade" + "".join(options), **options)
    model, own = SparseEncoder(str(folder), device="cpu", local_files_only=True), SparseEncoderModel(folder, "cpu")
    encode = model.encode_query if task == "query" else model.encode_document
    # Alone: in a batch of other lengths the library's own differ in the last bits.
    expected = torch.stack([encode(text, convert_to_sparse_tensor=False) for text in TEXTS if text])
    made = own.encode(TEXTS, task)
    found = dense(made.rows, expected.shape[1])
    kept = [i for i, text in enumerate(TEXTS) if text]
    assert found[kept] == pytest.approx(expected.numpy(), abs=1e-5)
    assert (found[0] != found[1]).any()
    if task == "document":
        assert made.truncated.tolist() == [False, False, True, False, False, False]
    if "most" in options:
        assert max(np.diff(made.rows.offsets)) <= 5


def test_terms_are_the_vocabularys(tiny: TinyModels) -> None:
    own = SparseEncoderModel(tiny.splade(), "cpu")
    vocabulary = (tiny.splade().parent / "splade-base" / "vocab.txt").read_text().split("\n")
    assert own.terms([7, 8, 9]) == vocabulary[7:10]
    assert own.encode([], "query").rows.offsets.tolist() == [0]


def test_no_other_model_is_one(tiny: TinyModels) -> None:
    for folder in (tiny.plain(), tiny.sentence(), tiny.colbert(), tiny.cross()):
        with pytest.raises(EncoderRefused, match="not a SparseEncoder"):
            SparseEncoderModel(folder, "cpu")


def test_a_broken_one_is_refused(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.splade(), "broken")
    (file,) = folder.rglob("*.safetensors")
    weights = load_file(file)
    weights["bert.embeddings.word_embeddings.weight"] *= torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(EncoderRefused, match="not finite"):
        SparseEncoderModel(folder, "cpu")


def test_the_registry_gives_it_where_sparse_vectors_are_made(tiny: TinyModels, tmp_path: Path) -> None:
    setting = Setting(type="sparse_encoder", path=str(tiny.splade()), device="cpu")
    encoders = Encoders({"splade": setting})
    assert (encoders.kinds("splade"), encoders.is_sparse("splade"), encoders.reranks("splade")) == ((), True, False)
    assert not encoders.is_sparse("builtin")
    assert encoders.describe("splade").state == "not loaded"
    made = encoders.encode_sparse("splade", ["a cat"], "query")
    again = SparseEncoderModel(tiny.splade(), "cpu").encode(["a cat"], "query")
    assert made.rows.values.tolist() == again.rows.values.tolist()
    info = encoders.describe("splade")
    assert (info.state, info.sparse, info.backend, info.max_tokens) == ("loaded", True, "torch, cpu", LIMIT)
    for wrong in (lambda: encoders.get("splade", "dense"), lambda: encoders.cross_encoder("splade")):
        with pytest.raises(Invalid):
            wrong()
    with pytest.raises(Invalid, match="no sparse encoder"):
        encoders.sparse_encoder("builtin")
    encoders.close()
