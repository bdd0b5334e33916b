"""Opens the built-in model, or a SentenceTransformer's folder: converted to OpenVINO where that gives the same vectors,
else in torch.

On a CPU OpenVINO encodes four times the documents of torch, and once converted a start imports no torch at all. The
reason why a model cannot be converted is said once in the log; nothing else changes, the fingerprint least of all.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Final

from app.compute.quota import cores
from app.encoders import model_folder
from app.encoders.builtin import verified_folder
from app.encoders.openvino.encoder import ConvertedEncoder, ConvertedModel
from app.encoders.openvino.model_cache import ModelCache
from app.encoders.openvino.runtime import NotConverted, openvino
from app.encoders.prompts import Task
from app.encoders.protocol import Encoder
from app.encoders.torch.backbone import Backbone
from app.encoders.torch.installed import require
from app.encoders.torch.sentence_transformer import SentenceTransformerEncoder
from app.types import Kind

log = logging.getLogger(__name__)


PREPARED: Final = Path(sys.prefix) / "share" / "sheaf" / "models"
"""Models that were converted when Sheaf was installed (``app.encoders.prepare``); only read."""


def open_builtin(device: str, cache: Path | None, threads: int) -> tuple[Callable[[Kind], Encoder], Callable[[], None]]:
    """As ``open_folder``, of the built-in model. Once it is converted neither torch nor its own package is needed.

    Raises EncoderRefused where the package is needed and is not what Sheaf was made with, or torch and is not there.
    """
    if cache is not None and device == "cpu":
        from app.encoders.openvino import builtin

        try:
            openvino()
            key, models = builtin.key(), ModelCache(cache)
            entry = ModelCache(PREPARED).load(key) or models.load(key)
            if entry is None:
                entry = models.make(key, partial(builtin.write, verified_folder()))
            converted = ConvertedModel(entry, key["weights"], threads or cores())
        except (NotConverted, PackageNotFoundError, OSError) as error:
            log.warning("the built-in encoder runs in torch, several times slower than OpenVINO: %s", error)
        else:
            return lambda kind: ConvertedEncoder(converted, kind), converted.close
    require("the built-in encoder, outside of OpenVINO,")
    return open_folder(verified_folder(), device)


def open_folder(
    folder: Path,
    device: str,
    cache: Path | None = None,
    threads: int = 0,
    given: Mapping[Task, str | None] | None = None,
) -> tuple[Callable[[Kind], Encoder], Callable[[], None]]:
    """A maker of encoders of either kind over one set of weights, and a function that closes it.

    cache: where converted models are kept; without one, and on another device than the CPU, torch runs the model.
    threads: of the converted model; 0 is one a core. given: the operator's prompts, in the place of the model's own.

    Raises EncoderRefused for a folder that is no SentenceTransformer, or has its weights only as pickles.
    """
    model_folder.check_sentence_transformer(folder)
    backbone: Backbone | None = None

    def loaded() -> Backbone:
        nonlocal backbone
        if backbone is None:
            backbone = Backbone("SentenceTransformer", folder, device, given or {})
        return backbone

    if cache is not None and device == "cpu":
        try:
            converted = _converted(folder, given, cache, threads or cores(), loaded)
        except (NotConverted, PackageNotFoundError, OSError) as error:
            log.warning("%s runs in torch, several times slower than OpenVINO: %s", folder, error)
        else:
            return lambda kind: ConvertedEncoder(converted, kind), converted.close
    torch_model = loaded()
    return lambda kind: SentenceTransformerEncoder(torch_model, kind), lambda: None


def _converted(
    folder: Path,
    given: Mapping[Task, str | None] | None,
    cache: Path,
    threads: int,
    loaded: Callable[[], Backbone],
) -> ConvertedModel:
    from app.encoders.openvino import conversion

    openvino()
    key, models = conversion.key(folder, given), ModelCache(cache)
    entry = ModelCache(PREPARED).load(key) or models.load(key)
    if entry is None:
        log.info("converting %s to OpenVINO, once", folder)
        entry = models.make(key, lambda new: conversion.convert(loaded(), new))
    return ConvertedModel(entry, key["weights"], threads)
