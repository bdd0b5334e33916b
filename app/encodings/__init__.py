"""Token vectors -> one vector whose inner products rank like MaxSim.

Useful for: a first stage, without training data (muvera, pooled) or fitted on a sample (ridge, muvera less the mean).
Not useful for: final scores; rescoring makes those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.encodings.protocol import Encoding
from app.errors import Invalid


def load_encoding(description: Mapping[str, Any], content: bytes = b"") -> Encoding:
    """The encoding that ``Encoding.to_json`` described and whose ``to_bytes`` is ``content``.

    Raises Invalid for anything else, Damaged for a content that cannot be its arrays.
    """
    kind = description.get("type")
    if kind == "muvera":
        from app.encodings.muvera import Muvera

        return Muvera.load(description, content)
    if kind == "ridge":
        from app.encodings.ridge import Ridge

        return Ridge.load(description, content)
    from app.encodings.pooled import Pooled, read_with_pooled

    if kind == "pooled":
        return Pooled.load(description)
    if kind == "with_pooled" and isinstance(description.get("inner"), Mapping):
        return read_with_pooled(description, load_encoding(description["inner"], content))
    raise Invalid(f"expected an encoding of type muvera, ridge, pooled or with_pooled, got {kind!r}")
