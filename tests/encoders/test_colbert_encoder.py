"""Held against MultiVectorEncoder itself, over each format that it reads."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense
from tiny_models import LIMIT, PROJECTED, WIDTH, TinyModels, write_json

from app.encoders.registry import Encoders
from app.encoders.torch.colbert import ColbertEncoder
from app.encoders.turns import TurnsSpec
from app.errors import EncoderRefused, Invalid
from app.passages.conversation import by_turns, said_of
from app.settings import LocalModel
from app.types import Turn

TEXTS = ["the cat sat on a mat!", "dog", "read the zip file! " * 20, ""]
FORMATS = {"colbert": 12, "pylate": 10, "stanford": 14}
Open = Callable[..., Any]


@pytest.fixture(params=list(FORMATS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_vectors_are_the_librarys_own(tiny: TinyModels, opened: Open, layout: str) -> None:
    folder = getattr(tiny, layout)()
    encoder, model = opened(folder, "colbert"), MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    assert (encoder.kind, encoder.dim) == ("multi_vector", PROJECTED)
    for ours, theirs in (
        (encoder.encode_queries, model.encode_query),
        (encoder.encode_documents, model.encode_document),
    ):
        found, expected = ours(TEXTS), theirs(TEXTS, convert_to_numpy=True)
        assert found.tokens.counts.tolist() == [len(tokens) for tokens in expected]
        assert np.allclose(found.tokens.values, np.concatenate(expected), atol=2e-5)
        means = np.stack([tokens.mean(axis=0) for tokens in found.tokens])
        assert np.allclose(found.pooled, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-6)


def test_a_query_that_is_a_conversation_is_cut_before_its_latest_turn(
    tiny: TinyModels, opened: Open, layout: str
) -> None:
    """A query has less room than a document, prompt and all."""
    encoder, spec = opened(getattr(tiny, layout)(), "colbert"), TurnsSpec(last=1)
    turns = [Turn("the", "cat sat on a mat"), Turn("a", "dog sat"), Turn("the", "cat"), Turn("a", "zip file")]
    (document,) = said_of([turns], spec, encoder, tokens=True)
    assert document.text.count("\n") == 3
    (said,) = said_of([turns], spec, encoder, tokens=True, task="query")
    assert said.text.endswith("a: zip file")
    assert "mat" not in said.text
    assert not said.cut
    made, weights = by_turns(encoder.encode_queries([said.text]), [said], encoder, "query")
    (places,) = encoder.token_places([said.text], "query")
    kept = places.spans[(places.spans[:, 0] >= 0)]
    assert said.text[kept[-1, 0] : kept[-1, 1]] == "file"
    if said.weights:
        assert weights[0] is not None
        before = said.starts[-1] > kept[:, 0]
        assert len(made.tokens[0]) == len(places.spans) - before.sum()


def test_the_projection_is_the_one_in_the_files(tiny: TinyModels, opened: Open, layout: str) -> None:
    """A random projection has the right shape too, so it is computed by hand from the files."""
    folder = getattr(tiny, layout)()
    encoder = opened(folder, "colbert")
    path = folder / ("model.safetensors" if layout == "stanford" else "1_Dense/model.safetensors")
    weight = load_file(path)["linear.weight"].numpy()
    model, prompt = encoder._backbone.model, encoder.fingerprint.details["document_prompt"]
    with torch.inference_mode():
        passed = model[0](model.preprocess(["cat"], prompt=prompt, task="document"))
    by_hand = passed["token_embeddings"][0].numpy() @ weight.T
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    assert np.allclose(encoder.encode_documents(["cat"]).tokens[0], by_hand, atol=2e-5)


def test_expansion_prompts_and_skipped_tokens_are_as_saved(tiny: TinyModels, opened: Open, layout: str) -> None:
    encoder = opened(getattr(tiny, layout)(), "colbert")
    assert encoder.encode_queries(["cat", "the cat sat"]).tokens.counts.tolist() == [FORMATS[layout]] * 2
    # [CLS] marker cat [SEP]; punctuation is skipped in documents.
    assert encoder.encode_documents(["cat", "cat ! , ."]).tokens.counts.tolist() == [4, 4]
    assert encoder.fingerprint.details["query_prompt"] != encoder.fingerprint.details["document_prompt"] != ""


def test_truncation_counts_marker_and_skipped_tokens(tiny: TinyModels, opened: Open, layout: str) -> None:
    encoder = opened(getattr(tiny, layout)(), "colbert")
    for encode, limit in ((encoder.encode_documents, LIMIT), (encoder.encode_queries, FORMATS[layout])):
        texts = [" ".join(["cat", *["!"] * (limit - 4)]), " ".join(["cat", *["!"] * (limit - 3)])]
        assert encode(texts).truncated.tolist() == [False, True]


def test_a_text_of_skipped_tokens_alone_has_a_vector(tiny: TinyModels, opened: Open) -> None:
    skipping = [*string.punctuation, "[CLS]", "[SEP]", "passage"]
    folder = tiny.copy(tiny.colbert(), "skips-all")
    write_json(folder / "2_MultiVectorMask" / "config.json", {"skiplist_words": skipping})
    counts = opened(folder, "colbert").encode_documents(["cat !", "!"]).tokens.counts.tolist()
    assert counts == [1, 4]


def test_older_pylate_saves_keep_their_projection(tiny: TinyModels, opened: Open) -> None:
    old, new = opened(tiny.pylate("pylate-2", model_type=None), "colbert"), opened(tiny.pylate(), "colbert")
    one, other = old.encode_documents(TEXTS).tokens, new.encode_documents(TEXTS).tokens
    assert np.allclose(one.values, other.values, atol=2e-5)


def test_other_projection_weights_give_another_fingerprint(tiny: TinyModels, opened: Open, layout: str) -> None:
    folder = tiny.copy(getattr(tiny, layout)(), f"other-{layout}")
    path = folder / ("model.safetensors" if layout == "stanford" else "1_Dense/model.safetensors")
    weights = load_file(path)
    weights["linear.weight"] = weights["linear.weight"] * 2 + 0.1
    save_file(weights, path, metadata={"format": "pt"})
    one, other = opened(getattr(tiny, layout)(), "colbert"), opened(folder, "colbert")
    assert one.fingerprint.differences(other.fingerprint) == ["weights"]


def test_dense_vectors_cannot_be_asked_of_a_colbert(tiny: TinyModels) -> None:
    registry = Encoders({"tiny": LocalModel(type="colbert", path=str(tiny.colbert()))})
    with pytest.raises(Invalid, match="'tiny' has the kinds multi_vector, not 'dense'"):
        registry.get("tiny", "dense")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(EncoderRefused, match=match):
        ColbertEncoder(folder, "cpu")


def test_a_folder_that_would_get_a_random_projection_is_refused(tiny: TinyModels) -> None:
    refused(tiny.plain(), "not a ColBERT: .* it would get a random projection")
    refused(tiny.sentence(), "not a ColBERT: .* it would get a random projection")
    refused(tiny.sentence("projected-2", Dense(WIDTH, 8)), "not a ColBERT")
    refused(tiny.pylate("pylate-bare", model_type=None, dense=False), "projection is not in its files")


def test_a_colbert_that_lost_a_part_is_refused(tiny: TinyModels) -> None:
    refused(tiny.stanford("stanford-bare", linear=False), "no linear.weight, so the projection would be random")
    for source in (tiny.colbert(), tiny.pylate()):
        folder = tiny.copy(source, f"{source.name}-no-modules")
        (folder / "modules.json").unlink()
        refused(folder, "projection would be random")
        folder = tiny.copy(source, f"{source.name}-no-weights")
        (folder / "1_Dense" / "model.safetensors").unlink()
        refused(folder, "does not load")
    folder = tiny.copy(tiny.stanford(), "stanford-renamed")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("HF_ColBERT", "BertModel"))
    refused(folder, "projection would be random")
    folder = tiny.copy(tiny.stanford(), "stanford-broken")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    refused(folder, "not a safetensors file")


def test_a_pickled_projection_is_refused(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.colbert(), "pickled-projection")
    (folder / "1_Dense" / "model.safetensors").rename(folder / "1_Dense" / "pytorch_model.bin")
    refused(folder, "a pickle")
