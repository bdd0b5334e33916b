"""The laws of app/encoders/protocol.py, over every implementation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_server import EmbeddingServer
from tiny_models import TinyModels

import app
from app.encoders.openvino.encoder import ConvertedEncoder
from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.settings import DeterministicModel, LocalModel, ModelSettings, RemoteModel
from app.types import Encoded

ROOT = Path(app.__file__).parents[1]
IMPLEMENTATIONS = [
    "builtin multi_vector",
    "builtin dense",
    "converted/builtin multi_vector",
    "converted/builtin dense",
    "converted/sentence multi_vector",
    "converted/prompts dense",
    "sentence multi_vector",
    "sentence dense",
    "prompts multi_vector",
    "colbert multi_vector",
    "pylate multi_vector",
    "stanford multi_vector",
    "remote dense",
    "deterministic multi_vector",
    "deterministic dense",
]
TEXTS = [
    "the cat sat on the mat",
    "a",
    "the dog " * 300,
    "",
    " \t\n",
    "...!?",
    "read the zip file, then sat on a mat; " * 3,
    "naïve 日本語 \u200d 🙂 \x07",
    "a",
    "query",
]


@pytest.fixture(scope="module")
def models(tiny: TinyModels) -> Iterator[dict[str, ModelSettings]]:
    server = EmbeddingServer()
    prompts = {"query": "query ", "document": "passage "}
    yield {
        "sentence": LocalModel(type="sentence_transformer", path=str(tiny.sentence())),
        "prompts": LocalModel(type="sentence_transformer", path=str(tiny.sentence("prompts", prompts=prompts))),
        "colbert": LocalModel(type="colbert", path=str(tiny.colbert())),
        "pylate": LocalModel(type="colbert", path=str(tiny.pylate())),
        "stanford": LocalModel(type="colbert", path=str(tiny.stanford())),
        "remote": RemoteModel(type="remote", url=server.url, model="m", dim=server.dim, batch=3),
        "deterministic": DeterministicModel(type="deterministic", dim=24),
    }
    server.close()


@pytest.fixture(scope="module")
def encoders(models: dict[str, ModelSettings]) -> Iterator[Encoders]:
    registry = Encoders(models)
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def converted(models: dict[str, ModelSettings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoders]:
    registry = Encoders(models, tmp_path_factory.mktemp("converted"), 2)
    yield registry
    registry.close()


@pytest.fixture(params=IMPLEMENTATIONS)
def encoder(request: pytest.FixtureRequest, encoders: Encoders, converted: Encoders) -> Encoder:
    name, kind = request.param.split()
    if name.startswith("converted/"):
        found = converted.get(name.removeprefix("converted/"), kind)
        assert isinstance(found, ConvertedEncoder)
        return found
    return encoders.get(name, kind)


@pytest.fixture(params=["encode_documents", "encode_queries"])
def encode(request: pytest.FixtureRequest, encoder: Encoder) -> Callable[[list[str]], Encoded]:
    return getattr(encoder, request.param)


def cosines(a: Any, b: Any) -> Any:
    """Row by row, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def assert_same(one: Encoded, other: Encoded) -> None:
    assert cosines(one.pooled, other.pooled).min() >= 0.9999
    assert one.truncated.tolist() == other.truncated.tolist()
    assert (one.tokens is None) == (other.tokens is None)
    if one.tokens is not None and other.tokens is not None:
        assert one.tokens.offsets.tolist() == other.tokens.offsets.tolist()
        assert cosines(one.tokens.values, other.tokens.values).min() >= 0.9999


def test_shapes_dtypes_and_values(encoder: Encoder, encode: Callable[[list[str]], Encoded]) -> None:
    found = encode(TEXTS)
    assert found.pooled.shape == (len(TEXTS), encoder.dim)
    assert found.pooled.dtype == np.float32
    assert np.isfinite(found.pooled).all()
    assert np.linalg.norm(found.pooled, axis=1).min() > 0
    assert found.truncated.shape == (len(TEXTS),)
    assert found.truncated.dtype == bool
    if encoder.kind == "dense":
        assert found.tokens is None
        return
    assert found.tokens is not None
    assert found.tokens.values.dtype == np.float32
    assert found.tokens.dim == encoder.dim
    assert len(found.tokens) == len(TEXTS)
    assert found.tokens.offsets[-1] == len(found.tokens.values)
    assert found.tokens.counts.min() >= 1
    # Unit rows: neither a zero row of padding nor one that was never normalised.
    assert np.allclose(np.linalg.norm(found.tokens.values, axis=1), 1, atol=1e-5)


def test_a_batch_of_all_lengths_gives_what_each_text_gives_alone(encode: Callable[[list[str]], Encoded]) -> None:
    together = encode(TEXTS)
    for i, text in enumerate(TEXTS):
        tokens = None if together.tokens is None else together.tokens.slice(i, i + 1)
        assert_same(encode([text]), Encoded(together.pooled[i : i + 1], tokens, together.truncated[i : i + 1]))


def test_order_is_kept(encode: Callable[[list[str]], Encoded]) -> None:
    forward, backward = encode(TEXTS), encode(TEXTS[::-1])
    tokens = None if backward.tokens is None else backward.tokens.take(range(len(TEXTS) - 1, -1, -1))
    assert_same(forward, Encoded(backward.pooled[::-1], tokens, backward.truncated[::-1]))
    # Not the same vector for all, which any order would keep.
    assert np.abs(forward.pooled[0] - forward.pooled[9]).max() > 1e-3


def test_no_texts_give_no_rows(encoder: Encoder, encode: Callable[[list[str]], Encoded]) -> None:
    found = encode([])
    assert found.pooled.shape == (0, encoder.dim)
    assert found.pooled.dtype == np.float32
    assert found.truncated.shape == (0,)
    assert (found.tokens is None) == (encoder.kind == "dense")
    if found.tokens is not None:
        assert found.tokens.values.shape == (0, encoder.dim)
        assert found.tokens.offsets.tolist() == [0]


def test_several_threads_get_what_one_gets(encoder: Encoder) -> None:
    batches = [[f"{word} {'cat ' * n}" for n in range(6)] for word in ("the", "dog", "file", "zip")]
    alone = [encoder.encode_documents(batch) for batch in batches] + [encoder.encode_queries(batches[0])]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            running = [pool.submit(encoder.encode_documents, batch) for batch in batches]
            running.append(pool.submit(encoder.encode_queries, batches[0]))
            for expected, future in zip(alone, running, strict=True):
                assert_same(expected, future.result())


def test_fingerprints_repeat_and_differ_between_models(models: dict[str, ModelSettings], encoders: Encoders) -> None:
    again = Encoders(models)
    first, second = (
        {name: registry.get(name, registry.kinds(name)[0]).fingerprint for name in models}
        for registry in (encoders, again)
    )
    again.close()
    for name, fingerprint in first.items():
        assert fingerprint.differences(second[name]) == []
        others = [other for key, other in first.items() if key != name]
        assert all(fingerprint.differences(other) for other in others)


def test_fingerprints_are_the_same_in_another_process(models: dict[str, ModelSettings], encoders: Encoders) -> None:
    program = (
        "import json, sys; from pydantic import TypeAdapter\n"
        "from app.encoders.registry import Encoders; from app.settings import ModelSettings\n"
        "registry = Encoders(TypeAdapter(dict[str, ModelSettings]).validate_json(sys.argv[1]))\n"
        "found = {n: registry.get(n, registry.kinds(n)[0]).fingerprint for n in registry.names()}\n"
        "print(json.dumps({n: [f.model, f.weights, dict(f.details)] for n, f in found.items()}))"
    )
    argument = json.dumps({name: settings.model_dump() for name, settings in models.items()})
    ran = subprocess.run(
        [sys.executable, "-c", program, argument], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for name, (model, weights, details) in json.loads(ran.stdout).items():
        here = encoders.get(name, encoders.kinds(name)[0]).fingerprint
        assert (here.model, here.weights, here.details) == (model, weights, details)
    # A server's log is not for the libraries' progress bars and load reports.
    assert ran.stderr == ""


def test_tokens_are_those_that_are_read(encoder: Encoder) -> None:
    for text, begins in zip(TEXTS, encoder.tokens(TEXTS), strict=True):
        assert begins.dtype == np.int64
        assert ((begins >= 0) & (begins < len(text))).all()
        assert (np.diff(begins) >= 0).all()
    assert encoder.tokens([]) == []
    (begins,) = encoder.tokens(["the cat"])
    assert begins.tolist() == [0, 4]
    assert encoder.room is not None
    if encoder.backend != "remote":
        # A remote one's tokens are an estimate.
        fits, more = "the " * encoder.room, "the " * (encoder.room + 1)
        assert [len(own) for own in encoder.tokens([fits, more])] == [encoder.room, encoder.room + 1]
        assert encoder.encode_documents([fits, more]).truncated.tolist() == [False, True]


@pytest.mark.parametrize("task", ["document", "query"])
def test_each_token_vector_has_its_place_in_the_text(encoder: Encoder, task: Any) -> None:
    encode = encoder.encode_documents if task == "document" else encoder.encode_queries
    made, places = encode(TEXTS).tokens, encoder.token_places(TEXTS, task)
    if made is None:
        assert places is None or len(places) == len(TEXTS)
        return
    assert places is not None
    assert [len(one.spans) for one in places] == made.counts.tolist()
    for text, one in zip(TEXTS, places, strict=True):
        starts = one.spans[:, 0]
        assert [i for i in range(len(starts)) if starts[i] < 0] == sorted(one.names)
        inside = one.spans[starts >= 0]
        assert (inside[:, 0] < inside[:, 1]).all()
        assert inside.max(initial=0) <= len(text)
        assert (np.diff(inside, axis=0) >= 0).all()
    # Text behind something that changes nothing has the vector of its own words.
    words = ["cat", "sat", "mat"]
    (own,) = encoder.token_places(["the cat sat on the mat"], task) or []
    said = ["the cat sat on the mat"[start:stop] for start, stop in own.spans.tolist() if start >= 0]
    assert [word for word in said if word in words] == words
