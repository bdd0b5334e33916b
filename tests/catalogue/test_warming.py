"""Encoders that are loaded before the server is ready: one that fails, in whatever way, keeps no other from it."""

from __future__ import annotations

import logging

import pytest
from made import DIM, OpenCatalogue

from app.catalogue.warming import load_encoders
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.settings import LocalModel
from app.types import Kind


@pytest.mark.parametrize("preload", ["collections", "broken,whole"])
def test_an_encoder_that_falls_over_keeps_no_other_from_being_loaded(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, preload: str
) -> None:
    asked: list[str] = []

    def get(encoders: Encoders, name: str, kind: Kind, dim: int | None = None, *, patient: bool = False) -> Encoder:
        asked.append(name)
        if name == "broken" and patient:
            raise RuntimeError("a library below has an error of its own")
        return DeterministicEncoder(DIM, kind)

    monkeypatch.setattr(Encoders, "get", get)
    models = {name: LocalModel(type="sentence_transformer", path="nowhere") for name in ("broken", "whole")}
    catalogue = open_catalogue(models=models, preload=preload)
    for name, model in (("a", "broken"), ("b", "whole")):
        catalogue.create(name, model=model, kind="multi_vector")
    asked.clear()
    with caplog.at_level(logging.WARNING):
        load_encoders(catalogue)
    assert list(dict.fromkeys(asked)) == ["broken", "whole"]
    (told,) = caplog.records
    of = "the encoder of collection a" if preload == "collections" else "the encoder broken"
    assert told.message.startswith(f"{of}: ")
    assert told.exc_info is not None
    assert "a library below" in str(told.exc_info[1])
