"""Which device a model gets, on machines that are played: with and without a driver, a GPU, a torch that can use it."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import app
from app.encoders import local, registry
from app.encoders.registry import Encoders
from app.encoders.torch.backbone import choose_device
from app.settings import LocalModel


def test_what_is_asked_for_is_given() -> None:
    assert [choose_device(name) for name in ("cpu", "cuda:1", "mps")] == ["cpu", "cuda:1", "mps"]


@pytest.mark.slow
def test_without_a_driver_torch_is_not_even_asked() -> None:
    program = (
        "import sys; from app.encoders.torch.backbone import choose_device\n"
        "print(choose_device('auto', []), 'torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(app.__file__).parents[1]
    )
    assert ran.stdout.split() == ["cpu", "False"]


@pytest.fixture
def driver(tmp_path: Path) -> list[Path]:
    (tmp_path / "driver").touch()
    return [tmp_path / "absent", tmp_path / "driver"]


def test_a_gpu_that_torch_can_use_is_used(driver: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda size, device: None)
    assert choose_device("auto", driver) == "cuda"


def test_a_gpu_that_torch_cannot_use_is_no_end(
    driver: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", driver) == "cpu"
    assert "cannot use it" in caplog.text

    def broken(size: int, device: str) -> None:
        raise RuntimeError(f"{device} error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", broken)
    assert choose_device("auto", driver) == "cpu"
    assert "cuda error: out of memory" in caplog.text


def test_a_gpu_without_torch_is_none(driver: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device("auto", driver) == "cpu"


def test_builtin_and_local_models_get_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    folder = str(Path(app.__file__).parent)

    class Reached(Exception):
        pass

    def open_folder(folder: Path, device: str, *_: Any) -> Any:
        asked.append(device)
        raise Reached

    monkeypatch.setattr(local, "open_folder", open_folder)
    monkeypatch.setattr(local, "open_builtin", partial(open_folder, folder))
    monkeypatch.setattr(registry, "choose_device", lambda asked: {"auto": "gpu"}.get(asked, asked))
    models = {
        "free": LocalModel(type="sentence_transformer", path=folder),
        "fixed": LocalModel(type="sentence_transformer", path=folder, device="cpu"),
    }
    for name in ("builtin", "free", "fixed"):
        with pytest.raises(Reached):
            Encoders(models).get(name, "dense")
    assert asked == ["gpu", "gpu", "cpu"]
