"""Held against CrossEncoder itself; what is none is refused before it could rank at random."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from tiny_models import LIMIT, TinyModels, write_json

from app.encoders.registry import Encoders
from app.encoders.torch.cross_encoder import CrossEncoderModel
from app.errors import EncoderRefused, Invalid
from app.settings import CrossEncoderModel as Setting
from app.settings import LocalModel

TEXTS = ["the cat sat on a mat!", "dog", "read the zip file! " * 20, "", "a cat", "zip " * 7]
QUERY = "the cat"


def weigh(folder: Path, name: str, value: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: value}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("layout", ["cross", "classifier"])
def test_scores_are_the_librarys_own(tiny: TinyModels, layout: str) -> None:
    folder = getattr(tiny, layout)()
    model, own = CrossEncoder(str(folder), device="cpu", local_files_only=True), CrossEncoderModel(folder, "cpu", 2)
    assert (own.backend, own.max_tokens) == ("torch, cpu", LIMIT)
    expected = model.predict([[QUERY, text] for text in TEXTS])
    assert own.scores(QUERY, TEXTS) == pytest.approx(expected.tolist(), abs=1e-6)
    assert len({round(score, 4) for score in expected.tolist()}) == len(TEXTS)


def test_a_score_is_the_same_to_the_bit_whatever_else_is_scored(tiny: TinyModels) -> None:
    own = CrossEncoderModel(tiny.cross(), "cpu", 2)
    alone = [score for text in TEXTS for score in own.scores(QUERY, [text])]
    assert own.scores(QUERY, TEXTS * 3) == alone * 3
    assert own.scores(QUERY, TEXTS[::-1]) == alone[::-1]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: own.scores(QUERY, [text]), TEXTS * 5))
    assert [score for (score,) in together] == alone * 5
    assert own.scores(QUERY, []) == []


def test_the_threads_of_a_cross_encoder_leave_those_of_others_as_they_were(tiny: TinyModels) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    own = CrossEncoderModel(tiny.cross(), "cpu", 2)
    own.scores(QUERY, TEXTS)
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == 2
    assert torch.get_num_threads() == 2
    assert own._pool.submit(torch.get_num_threads).result() == 1
    torch.set_num_threads(usual)
    own.close()


def test_texts_that_the_model_is_sure_of_are_told_apart(tiny: TinyModels) -> None:
    """In float32 a sigmoid of 18 is 1."""
    folder = tiny.copy(tiny.cross(), "sure")
    weigh(folder, "classifier.bias", torch.tensor([19.0]))
    library = CrossEncoder(str(folder), device="cpu", local_files_only=True).predict([[QUERY, t] for t in TEXTS])
    own = CrossEncoderModel(folder, "cpu", 2)
    assert len(set(library.tolist())) < len(TEXTS)
    assert len(set(own.scores(QUERY, TEXTS))) == len(TEXTS)


def test_what_is_no_cross_encoder_is_refused(tiny: TinyModels) -> None:
    headless = tiny.copy(tiny.classifier(), "headless")
    kept = {k: v for k, v in load_file(headless / "model.safetensors").items() if not k.startswith("classifier.")}
    save_file(kept, headless / "model.safetensors", metadata={"format": "pt"})
    pickled = tiny.copy(tiny.cross(), "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    own_end = tiny.copy(tiny.cross(), "own-end")
    saved = own_end / "config_sentence_transformers.json"
    write_json(saved, {**json.loads(saved.read_text()), "activation_fn": "evil.Activation"})
    broken = tiny.copy(tiny.cross(), "broken")
    weigh(broken, "classifier.bias", torch.tensor([float("nan")]))
    for folder, why in (
        (tiny.sentence(), "is not a CrossEncoder"),
        (tiny.plain(), "is not a CrossEncoder"),
        (tiny.colbert(), "is not a CrossEncoder"),
        (headless, r"no classifier\."),
        (pickled, "a pickle"),
        (own_end, "evil.Activation"),
        (broken, "a score of nan"),
        (tiny.cross("three", labels=3), "gives 3 numbers"),
    ):
        with pytest.raises(EncoderRefused, match=why):
            CrossEncoderModel(folder, "cpu", 2)


def test_a_cross_encoder_is_refused_as_an_encoder(tiny: TinyModels) -> None:
    for folder in (tiny.cross(), tiny.classifier()):
        for type in ("sentence_transformer", "colbert"):
            encoders = Encoders({"m": LocalModel(type=type, path=str(folder))})  # type: ignore[arg-type]
            with pytest.raises(EncoderRefused):
                encoders.get("m", "multi_vector")


def test_the_registry_tells_of_it_and_opens_it_once_it_is_asked(tiny: TinyModels) -> None:
    counted: list[tuple[str, str, int, bool]] = []

    def count(model: str, role: str, texts: int, seconds: float, failed: bool) -> None:
        counted.append((model, role, texts, failed))

    late = tiny.root / "late-cross"
    encoders = Encoders({"cross": Setting(type="cross_encoder", path=str(late), device="cpu")}, count=count)
    assert (encoders.kinds("cross"), encoders.reranks("cross"), encoders.reranks("builtin")) == ((), True, True)
    assert encoders.describe("cross").state == "not loaded"
    with pytest.raises(EncoderRefused, match="late-cross is not a folder"):
        encoders.scores("cross", QUERY, ["a"])
    told = encoders.describe("cross")
    assert told.state == "failed"
    assert "late-cross is not a folder" in str(told.error)
    shutil.copytree(tiny.cross(), late)
    scores = encoders.scores("cross", QUERY, ["a", "the cat"])
    assert scores == encoders.cross_encoder("cross").scores(QUERY, ["a", "the cat"])
    told = encoders.describe("cross")
    assert (told.state, told.backend, told.max_tokens, told.error) == ("loaded", "torch, cpu", LIMIT, None)
    assert counted == [("cross", "pairs", 2, False)]
    with pytest.raises(Invalid):
        encoders.get("cross", "dense")
    with pytest.raises(Invalid, match="no cross encoder"):
        encoders.cross_encoder("builtin")
    encoders.close()
    assert encoders.describe("cross").state == "not loaded"
