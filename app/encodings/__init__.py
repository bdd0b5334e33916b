"""Token vectors -> one vector whose inner products rank like MaxSim.

Useful for: a first stage that needs no training data (muvera). Not useful for: final scores; rescoring makes those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.encodings.protocol import Encoding
from app.errors import Invalid


def encoding_from_json(description: Mapping[str, Any]) -> Encoding:
    """The encoding that ``Encoding.to_json`` described. Raises Invalid for anything else."""
    kind = description.get("type")
    if kind != "muvera":
        raise Invalid(f"expected an encoding of type 'muvera', got {kind!r}")
    from app.encodings.muvera import Muvera  # here, since it loads scipy, which a reader of manifests may not need

    return Muvera.from_json(description)
