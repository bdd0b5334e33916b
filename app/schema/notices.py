"""What an answer says beside its result: where the request asks for what is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

NoticeCode: TypeAlias = Literal["unknown_field", "other_type", "no_order", "unknown_ids", "segments_unreached"]


@dataclass(frozen=True, slots=True)
class Notice:
    """code: `unknown_field`: no document has the field, or none has a point there; `other_type`: its values are of
    another type than what they are compared with; `no_order`: sorted by what has none; `unknown_ids`: ids of no
    document; `segments_unreached`: no machine that holds some segments answered. pointer: the place in the request."""

    code: NoticeCode
    message: str
    pointer: str
