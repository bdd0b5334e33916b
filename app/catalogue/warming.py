"""What the first search would wait for is loaded before the server is ready: encoders, half a second each, or minutes.

By default the local ones of collections that are there: a server of callers' own vectors loads none, and no remote is
asked for what nobody wants yet. ``Settings.preload`` says otherwise.
"""

from __future__ import annotations

import logging

from app.catalogue.catalogue import Catalogue
from app.errors import SheafError
from app.types import Kind

log = logging.getLogger(__name__)


def load_encoders(catalogue: Catalogue) -> None:
    """Opens them, and encodes a word with each. What cannot be opened is told in the log, and again to who needs it."""
    encoders, settings = catalogue.encoders, catalogue.settings
    for name in settings.preloaded:
        _load(catalogue, name, encoders.kinds(name)[0], f"the encoder {name}")
    loaded = set(settings.preloaded)
    for info in catalogue.describe_all() if settings.preload == "collections" else ():
        model = info.encoder.model
        if model is None or not encoders.is_local(model):
            continue
        of = f"the encoder of collection {info.name}"
        if model in loaded or _load(catalogue, model, info.encoder.kind, of):
            loaded.add(model)
            try:
                # Whether it is the one that made the vectors.
                catalogue.get(info.name).encoder()
            except SheafError as error:
                log.warning("%s: %s", of, error)


def _load(catalogue: Catalogue, model: str, kind: Kind, of: str) -> bool:
    try:
        catalogue.encoders.get(model, kind, patient=True).encode_queries(["a"])
    except SheafError as error:
        log.warning("%s: %s", of, error)
        return False
    return True
