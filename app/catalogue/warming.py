"""The models of a first search are loaded before the server is ready: encoders, half a second each, or minutes.

By default the local ones of collections that are there: a server of callers' own vectors loads none, and no remote is
asked for what nobody wants yet. ``Settings.preload`` says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from app.catalogue.catalogue import Catalogue
from app.errors import SheafError
from app.types import Kind

log = logging.getLogger(__name__)


def load_encoders(catalogue: Catalogue) -> None:
    """Opens them, and encodes a word with each. A collection that cannot be opened is told in the log, and again to who
    needs it."""
    encoders, settings = catalogue.encoders, catalogue.settings
    for name in settings.preloaded:
        with _told(f"the encoder {name}"):
            if kinds := encoders.kinds(name):
                _load(catalogue, name, kinds[0])
            elif encoders.is_sparse(name):
                encoders.sparse_encoder(name, patient=True)
            else:
                encoders.cross_encoder(name, patient=True)
    loaded = set(settings.preloaded)
    for info in catalogue.describe_all() if settings.preload == "collections" else ():
        if info.sparse is not None and info.sparse.model is not None:
            with _told(f"the sparse encoder of collection {info.name}"):
                encoders.sparse_encoder(info.sparse.model, patient=True)
                catalogue.get(info.name).sparse_encoder()
        model = info.encoder.model
        if model is None or not encoders.is_local(model):
            continue
        with _told(f"the encoder of collection {info.name}"):
            if model not in loaded:
                _load(catalogue, model, info.encoder.kind)
                loaded.add(model)
            # Whether it is the one that made the vectors.
            catalogue.get(info.name).encoder()


def _load(catalogue: Catalogue, model: str, kind: Kind) -> None:
    catalogue.encoders.get(model, kind, patient=True).encode_queries(["a"])


@contextmanager
def _told(of: str) -> Iterator[None]:
    """A fault of one encoder, even in a library below, keeps no other from being loaded."""
    try:
        yield
    except SheafError as error:
        log.warning("%s: %s", of, error)
    except Exception:
        log.exception("%s: the first search that needs it tries again", of)
