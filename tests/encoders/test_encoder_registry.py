from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_models import TinyModels

import app
from app.encoders.registry import Encoders
from app.errors import EncoderRefused, Invalid
from app.settings import DeterministicModel, LocalModel, RemoteModel

WORDS = DeterministicModel(type="deterministic", dim=8)


def test_names_and_kinds_are_told_without_opening_anything() -> None:
    nowhere = LocalModel(type="sentence_transformer", path="/nowhere")
    registry = Encoders(
        {
            "words": WORDS,
            "local": nowhere,
            "colbert": LocalModel(type="colbert", path="/nowhere"),
            "far": RemoteModel(type="remote", url="http://127.0.0.1:9/v1", model="m", dim=3),
        }
    )
    assert registry.names() == ["builtin", "colbert", "far", "local", "words"]
    kinds = {name: registry.kinds(name) for name in registry.names()}
    both = ("multi_vector", "dense")
    expected = {"builtin": both, "colbert": ("multi_vector",), "far": ("dense",), "local": both, "words": both}
    assert kinds == expected


def test_unknown_names_and_kinds_are_invalid_and_say_where() -> None:
    registry = Encoders({"words": WORDS, "far": RemoteModel(type="remote", url="http://127.0.0.1:9", model="m", dim=3)})
    for call in (lambda: registry.kinds("none"), lambda: registry.get("none", "dense")):
        with pytest.raises(Invalid, match="no encoder is named 'none'; there are builtin, far, words") as caught:
            call()
        assert [problem.pointer for problem in caught.value.problems] == ["/encoder/model"]
    with pytest.raises(Invalid, match="'far' has the kinds dense, not 'multi_vector'") as caught:
        registry.get("far", "multi_vector")
    assert [problem.pointer for problem in caught.value.problems] == ["/encoder/kind"]


def test_the_name_builtin_is_taken() -> None:
    with pytest.raises(Invalid, match="'builtin' is taken"):
        Encoders({"builtin": WORDS})


def test_an_encoder_is_opened_once_whoever_asks_first(tiny: TinyModels) -> None:
    registry = Encoders({"tiny": LocalModel(type="sentence_transformer", path=str(tiny.sentence()))})
    together = threading.Barrier(6)

    def ask(kind: str) -> object:
        together.wait()
        return registry.get("tiny", kind)  # type: ignore[arg-type]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, ["dense", "multi_vector"] * 3))
    assert len({id(encoder) for encoder in found[::2]}) == 1
    assert len({id(encoder) for encoder in found[1::2]}) == 1
    assert len({id(encoder._backbone) for encoder in found}) == 1  # type: ignore[attr-defined]


def test_a_model_that_failed_is_tried_again(tiny: TinyModels) -> None:
    path = tiny.root / "late"
    registry = Encoders({"late": LocalModel(type="sentence_transformer", path=str(path))})
    with pytest.raises(EncoderRefused, match="late is not a folder"):
        registry.get("late", "dense")
    shutil.copytree(tiny.sentence(), path)
    assert registry.get("late", "dense").dim == 32


def test_close_lets_go_and_opens_anew() -> None:
    registry = Encoders({"words": WORDS, "far": RemoteModel(type="remote", url="http://127.0.0.1:9", model="m", dim=3)})
    words, far = registry.get("words", "dense"), registry.get("far", "dense")
    registry.close()
    assert registry.get("words", "dense") is not words
    with pytest.raises(RuntimeError, match="closed"):
        far.encode_queries(["a"])
    registry.close()


@pytest.mark.slow
def test_torch_is_not_imported_before_a_local_model_opens() -> None:
    """A server of callers' own vectors starts without the seconds that torch takes."""
    program = (
        "import json, sys; from app.encoders.registry import Encoders\n"
        "import app.encoders.builtin, app.encoders.torch.colbert, app.encoders.torch.sentence_transformer\n"
        "from app.settings import DeterministicModel, RemoteModel\n"
        "registry = Encoders({'words': DeterministicModel(type='deterministic', dim=8),\n"
        "    'far': RemoteModel(type='remote', url='http://127.0.0.1:9', model='m', dim=3)})\n"
        "registry.names(), registry.kinds('builtin'), registry.get('far', 'dense')\n"
        "registry.get('words', 'dense').encode_queries(['a'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    root = Path(app.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    imported = set(json.loads(ran.stdout))
    assert "app.encoders.torch.colbert" in imported
    assert imported & {"torch", "transformers", "sentence_transformers", "huggingface_hub"} == set()
