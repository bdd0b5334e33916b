"""What the first search would wait for is loaded before it comes: encoders, half a second each, or more.

Only local ones of collections that are there: a server of callers' own vectors loads none, and no remote is asked for
what nobody wants yet.
"""

from __future__ import annotations

import logging

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import BUILTIN
from app.errors import SheafError
from app.settings import LocalModel

log = logging.getLogger(__name__)


def load_encoders(catalogue: Catalogue) -> None:
    """Opens them, and encodes a word with each. What cannot be opened is told in the log, and again to who needs it."""
    models = catalogue.settings.models
    asked: set[str] = set()
    for info in catalogue.describe_all():
        if info.encoder.model != BUILTIN and not isinstance(models.get(info.encoder.model or ""), LocalModel):
            continue
        try:
            # Holds it to be the one that made the vectors, too.
            encoder = catalogue.get(info.name).encoder()
            if encoder.fingerprint.weights not in asked:
                asked.add(encoder.fingerprint.weights)
                encoder.encode_queries(["a"])
        except SheafError as error:
            log.warning("the encoder of collection %s: %s", info.name, error)
