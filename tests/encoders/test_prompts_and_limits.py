"""The prompt before a text, and where it is cut: as the operator or the model says; told, and in the fingerprint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import TinyModels

from app.encoders.local import open_folder
from app.encoders.registry import Encoders
from app.settings import DeterministicModel, LocalModel, RemoteModel

GIVEN: dict[str, Any] = {"query_prefix": "query ", "document_prefix": "passage "}


def local(folder: Path, type: Any = "sentence_transformer", **settings: Any) -> dict[str, Any]:
    return {"tiny": LocalModel(type=type, path=str(folder), **settings)}


@pytest.mark.parametrize("converted", [False, True])
@pytest.mark.parametrize(("roberta", "rows"), [(False, 64), (True, 66)])
def test_a_text_is_cut_at_the_positions_that_a_model_has(
    tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture, roberta: bool, rows: int, converted: bool
) -> None:
    """Not at the length that was saved with it, beyond which it fails. RoBERTa has two fewer than rows."""
    encoders = Encoders(local(tiny.long(f"long-{rows}", rows, roberta=roberta)), tmp_path if converted else None, 2)
    encoder = encoders.get("tiny", "multi_vector")
    found = encoder.encode_documents(["cat " * 200, "cat"])
    assert encoder.backend == ("openvino, f32" if converted else "torch, cpu") or encoder.backend == "openvino, bf16"
    assert found.tokens is not None
    assert (found.tokens.counts.tolist(), found.truncated.tolist()) == ([64, 3], [True, False])
    assert encoder.fingerprint.details["document_max_length"] == "64"
    assert encoders.describe("tiny").max_tokens == 64
    assert "has 64 positions: texts are cut there, not at the 100 tokens it was saved with" in caplog.text
    encoders.close()


def test_a_model_within_its_positions_is_left_as_it_was(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    make, _ = open_folder(tiny.sentence(), "cpu")
    assert make("dense").fingerprint.details["document_max_length"] == "40"
    assert caplog.records == []


@pytest.mark.parametrize("converted", [False, True])
def test_the_operators_prompts_come_before_each_text(tiny: TinyModels, tmp_path: Path, converted: bool) -> None:
    cache = tmp_path if converted else None
    plain = Encoders(local(tiny.sentence()), cache, 2).get("tiny", "multi_vector")
    encoders = Encoders(local(tiny.sentence(), **GIVEN), cache, 2)
    prompted = encoders.get("tiny", "multi_vector")
    for name, prefix in (("encode_queries", "query "), ("encode_documents", "passage ")):
        found, expected = getattr(prompted, name)(["the cat"]), getattr(plain, name)([prefix + "the cat"])
        np.testing.assert_allclose(found.pooled, expected.pooled, atol=1e-5)
        assert len(found.tokens.values) == len(getattr(plain, name)(["the cat"]).tokens.values) + 1
    assert plain.fingerprint.differences(prompted.fingerprint) == ["details.document_prompt", "details.query_prompt"]
    info = encoders.describe("tiny")
    assert (info.query_prompt, info.document_prompt) == ("query ", "passage ")
    encoders.close()


def test_a_colberts_markers_can_be_others(tiny: TinyModels) -> None:
    saved, other = (
        Encoders(local(tiny.colbert(), "colbert", **given)).get("tiny", "multi_vector")
        for given in ({}, {"document_prefix": "mat "})
    )
    assert saved.fingerprint.differences(other.fingerprint) == ["details.document_prompt"]
    assert not np.allclose(saved.encode_documents(["cat"]).pooled, other.encode_documents(["cat"]).pooled)


@pytest.mark.parametrize(
    "saved",
    [
        {"query": "query ", "document": "passage "},
        {"query": "query ", "passage": "passage "},
        {"search_query": "query ", "search_document": "passage ", "clustering": "mat "},
    ],
)
def test_a_models_own_named_prompts_are_used(tiny: TinyModels, saved: dict[str, str]) -> None:
    folder = tiny.sentence("named-" + "-".join(saved), prompts=saved)
    details = Encoders(local(folder)).get("tiny", "dense").fingerprint.details
    assert (details["query_prompt"], details["document_prompt"]) == ("query ", "passage ")
    # Given ones win, no words too.
    details = Encoders(local(folder, query_prefix="")).get("tiny", "dense").fingerprint.details
    assert (details["query_prompt"], details["document_prompt"]) == ("", "passage ")


def test_a_family_that_needs_prompts_and_has_none_is_warned_of(
    tiny: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny.copy(tiny.sentence(), "multilingual-e5-small")
    encoders = Encoders(local(folder))
    encoders.get("tiny", "dense")
    warning = encoders.describe("tiny").warning
    assert warning is not None
    assert warning.endswith("is given nothing: set query_prefix and document_prefix")
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.WARNING, f"the encoder tiny: {warning}")
    ]
    caplog.clear()
    encoders = Encoders(local(folder, **GIVEN))
    encoders.get("tiny", "dense")
    assert (encoders.describe("tiny").warning, caplog.records) == (None, [])


def test_a_remote_model_of_a_family_is_warned_of_too() -> None:
    far = {"type": "remote", "url": "http://127.0.0.1:9/v1", "model": "nomic-ai/nomic-embed-text-v1.5", "dim": 3}
    for prefixes, warned in (({}, True), ({"query_prefix": "search_query: ", "document_prefix": "x"}, False)):
        encoders = Encoders({"far": RemoteModel.model_validate({**far, **prefixes})})
        encoders.get("far", "dense")
        assert (encoders.describe("far").warning is not None) is warned


def test_what_is_known_of_an_encoder_is_told_without_loading_it() -> None:
    encoders = Encoders({"words": DeterministicModel(type="deterministic", dim=8)})
    before = encoders.describe("words")
    assert (before.state, before.dim, before.kinds) == ("not loaded", None, ("multi_vector", "dense"))
    encoders.get("words", "dense")
    after = encoders.describe("words")
    assert (after.state, after.dim, after.max_tokens, after.backend) == ("loaded", 8, 512, "hash")
    assert encoders.describe("builtin").state == "not loaded"
