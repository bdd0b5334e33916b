"""A Hypencoder's checkpoint, tiny and made here: its networks against the paper's formulas, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import network_score
from safetensors.torch import load_file, save_file
from tiny_models import TinyModels, write_json
from transformers import BertModel, BertTokenizer

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.encoders.torch.hypencoder import HypencoderEncoder
from app.errors import EncoderRefused, Invalid
from app.ingest import write_documents
from app.measure.recall import measure_recall
from app.query.examples import Example, Like
from app.scoring.networks.forward import scores
from app.search import Query, search
from app.settings import HypencoderModel, Settings
from app.types import Document

WIDTHS = [32, 32, 32, 1]
TEXTS = ["the cat sat on the mat", "read the zip file", "a dog", "query passage"]


@pytest.fixture(scope="module")
def folder(tiny: TinyModels) -> Path:
    """As the published code saves one: a shared transformer, once; and what that is made of."""
    plain = tiny.plain()
    made = tiny.copy(plain, "hypencoder")
    (made / "transformer").mkdir()
    (made / "config.json").rename(made / "transformer" / "config.json")
    converter = {"vector_dimensions": WIDTHS, "activation_type": "relu"}
    write_json(
        made / "config.json",
        {
            "model_type": "",
            "query_encoder_kwargs": {"model_name_or_path": "bert", "converter_kwargs": converter},
            "passage_encoder_kwargs": {"model_name_or_path": "bert", "pooling_type": "cls"},
            "shared_encoder": True,
        },
    )
    torch.manual_seed(3)
    bert = load_file(plain / "model.safetensors")
    state = {f"passage_encoder.transformer.{name}": one.clone() for name, one in bert.items()}
    shapes = [(WIDTHS[i], WIDTHS[i + 1]) for i in range(3)]
    for makes, base, sizes, first in (
        ("weight", "hyper_base_matrices", shapes, 0),
        ("bias", "hyper_base_vectors", [(32, 1), (32, 1)], 3),
    ):
        for number, (size, rows) in enumerate(sizes):
            own = {
                f"{base}.{number}": torch.randn((1, rows, size) if makes == "weight" else (rows, size)) * 0.3,
                f"{makes}_query_embeddings.{number}": torch.randn(1, rows, size) * 3,
            }
            for name in (
                f"{makes}_hyper_projection.{number}",
                f"key_projections.{first + number}",
                f"value_projections.{first + number}",
            ):
                own[f"{name}.weight"], own[f"{name}.bias"] = torch.randn(size, 32) * 0.2, torch.randn(size) * 0.1
            state |= {f"query_encoder.{name}": tensor for name, tensor in own.items()}
    save_file(state, made / "model.safetensors")
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> HypencoderEncoder:
    return HypencoderEncoder(folder, "cpu")


def by_the_paper(folder: Path, bert: Path, query: str, document: str) -> float:
    """The score, in torch: section 3.2, and the published network of dense blocks."""
    state = load_file(folder / "model.safetensors")
    model, tokenizer = BertModel.from_pretrained(str(bert)).eval(), BertTokenizer.from_pretrained(str(bert))

    def get(name: str) -> torch.Tensor:
        return state[f"query_encoder.{name}"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    def made(makes: str, number: int, place: int) -> torch.Tensor:
        asked = get(f"{makes}_query_embeddings.{number}").squeeze(0)
        keys, values = linear(states, f"key_projections.{place}"), linear(states, f"value_projections.{place}")
        context = torch.softmax(asked @ keys.T / math.sqrt(len(asked)), dim=-1) @ values
        context = torch.nn.functional.layer_norm(torch.relu(context), (context.shape[-1],))
        base = "hyper_base_matrices" if makes == "weight" else "hyper_base_vectors"
        return (linear(context, f"{makes}_hyper_projection.{number}") + get(f"{base}.{number}").reshape(asked.shape)).T

    with torch.inference_mode():
        states = model(**tokenizer(query, return_tensors="pt")).last_hidden_state[0]
        x = model(**tokenizer(document, return_tensors="pt")).last_hidden_state[0, :1]
        for layer in range(2):
            y = torch.relu(x @ made("weight", layer, layer) + made("bias", layer, 3 + layer).ravel())
            y = torch.nn.functional.layer_norm(y, (y.shape[-1],))
            x = y + x if layer == 0 else y
        return float(x @ made("weight", 2, 2))


def test_scores_are_those_of_the_published_code(folder: Path, encoder: HypencoderEncoder, tiny: TinyModels) -> None:
    documents = encoder.encode_documents(TEXTS)
    for query in ("the cat", "read a zip file"):
        (network,) = encoder.encode_networks([query])
        found = scores(network, documents.pooled)
        expected = [by_the_paper(folder, tiny.plain(), query, text) for text in TEXTS]
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)
        assert found.tolist() == [network_score(network, vector) for vector in documents.pooled]


def test_it_keeps_to_the_protocol(encoder: HypencoderEncoder) -> None:
    assert (encoder.kind, encoder.dim, encoder.room) == ("dense", 32, 62)
    whole = encoder.encode_documents([*TEXTS, "", "the dog " * 90])
    assert whole.tokens is None
    assert whole.truncated.tolist() == [False] * 5 + [True]
    alone = [encoder.encode_documents([text]).pooled[0] for text in TEXTS]
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(whole.pooled, alone, strict=False)]
    assert min(cosines) > 0.9999
    assert encoder.encode_documents([]).pooled.shape == (0, 32)
    assert encoder.encode_networks([]) == []
    assert [len(own) for own in encoder.tokens(["the cat", ""])] == [2, 0]
    details = encoder.fingerprint.details
    assert (details["pooling"], details["query_max_length"], details["document_max_length"]) == ("cls", "64", "64")


def test_a_collection_is_searched_by_text(folder: Path, encoder: HypencoderEncoder, tmp_path: Path) -> None:
    models = {"hyper": HypencoderModel(type="hypencoder", path=str(folder))}
    settings = Settings(indexes=tmp_path / "indexes", models=models, threads=2)
    with Catalogue(settings.indexes, Encoders(models), settings) as catalogue:
        with pytest.raises(Invalid, match="expected inner_product") as raised:
            catalogue.create("c", model="hyper", kind="dense")
        assert raised.value.problems[0].pointer == "/similarity"
        with pytest.raises(Invalid, match="makes dense vectors"):
            catalogue.create("c", model="hyper", kind="multi_vector")
        made = catalogue.create("c", model="hyper", kind="dense", similarity="inner_product")
        texts = [f"{one} {word}" for one in TEXTS for word in ("cat", "zip", "mat")]
        write_documents(made, [Document(f"d{i}", text) for i, text in enumerate(texts)])
        network, vectors = encoder.encode_networks(["the cat"])[0], encoder.encode_documents(texts).pooled
        expected = {f"d{i}": score for i, score in enumerate(scores(network, vectors).tolist())}
        for exact in (True, False):
            hits = search(made, Query("the cat", k=20, exact=exact)).hits
            assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-3, abs=1e-3)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        fused = search(made, Query("the cat", k=5, mode="hybrid", explain=True)).hits[0]
        assert fused.explanation is not None
        assert {side.side for side in fused.explanation.sides} == {"words", "pooled"}
        assert len(search(made, Query(vectors=vectors[:1], k=3)).hits) == 3
        # Examples are asked for by their vectors.
        alike = search(made, Query(like=Like([Example(text=texts[4])]), k=12)).hits
        products = vectors @ vectors[4]
        assert [hit.id for hit in alike] == [f"d{i}" for i in np.argsort(-products, kind="stable")]
        measured = measure_recall(made, 5, 3, float32=True)
        assert (measured.recall, measured.recall_float32) == (1.0, 1.0)


Change = Callable[[Path], None]


def configured(change: Callable[[dict[str, Any]], None]) -> Change:
    def work(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        write_json(folder / "config.json", config)

    return work


def weighed(change: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def work(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return work


REFUSED: list[tuple[Change, str]] = [
    (configured(lambda config: config.pop("query_encoder_kwargs")), "is not a Hypencoder"),
    (configured(lambda config: config["query_encoder_kwargs"].pop("converter_kwargs")), "vector_dimensions"),
    (configured(lambda config: config["passage_encoder_kwargs"].update(pooling_type="max")), "cls or mean"),
    (
        configured(lambda config: config["query_encoder_kwargs"]["converter_kwargs"].update(activation_type="swish")),
        "activation_type",
    ),
    (weighed(lambda state: state.pop("query_encoder.hyper_base_matrices.1")), "hyper_base_matrices.1"),
    (
        weighed(lambda state: state.pop("passage_encoder.transformer.encoder.layer.1.output.dense.weight")),
        "encoder.layer.1.output.dense.weight",
    ),
    (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    (lambda folder: (folder / "transformer" / "config.json").unlink(), "no heads of 64"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "not a safetensors file"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_folder_that_lacks_something_is_refused(tiny: TinyModels, folder: Path, change: Change, said: str) -> None:
    broken = tiny.copy(folder, "broken")
    change(broken)
    with pytest.raises(EncoderRefused, match=said):
        HypencoderEncoder(broken, "cpu")
