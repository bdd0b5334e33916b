"""Documents' ids: what is one, how an integer becomes one, and which a document gets that came without.

The id of a document without one is made of its content, so that the same document sent again is the same document
(docs/decisions.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Final

from pydantic import PlainValidator, WithJsonSchema

from app.schema.faults import fault, name_of
from app.types import Document

MAX_ID_BYTES: Final = 512
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode category Cc, complete."""


def read_id(value: object) -> str:
    """A document's id: 1 to 512 bytes of UTF-8 without control characters, taken byte for byte. An integer is its
    decimal digits, so that 7 and "7" are one document.

    >>> read_id(7), read_id("7"), read_id(-(2**63))
    ('7', '7', '-9223372036854775808')
    """
    if type(value) is int:
        if not -(2**63) <= value < 2**64:
            raise fault("", "an integer as an id has at most 64 bits; send it as a string")
        return str(value)
    if not isinstance(value, str):
        hint = "; write the number without a fraction, or as a string" if isinstance(value, float) else ""
        came = "a number with a fraction or an exponent" if isinstance(value, float) else name_of(value)
        raise fault("", f"an id is a string or an integer; got {came}{hint}")
    size = len(value.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise fault("", f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8; got {size:,}")
    if control := _CONTROL.search(value):
        raise fault("", f"an id has no control characters; got U+{ord(control[0]):04X}")
    return value


def is_id(text: str) -> bool:
    """Whether a text may be an id."""
    return 1 <= len(text.encode(errors="replace")) <= MAX_ID_BYTES and _CONTROL.search(text) is None


def made_id(document: Document) -> str:
    """The id of a document that came without one: 32 hexadecimal digits, the first half of the SHA-256 of all that it
    holds.

    >>> made_id(Document("", "a wren")) == made_id(Document("", "a wren")) != made_id(Document("", "a robin"))
    True
    """
    said = json.dumps([document.title, document.text, document.metadata], sort_keys=True)
    made = hashlib.sha256(said.encode())
    if document.turns:
        made.update(json.dumps([document.turns, document.summary]).encode())
    sparse = document.sparse
    arrays = [document.vectors, *(() if sparse is None else (sparse.indices, sparse.values)), document.values]
    for array in arrays:
        if array is not None:
            made.update(repr(array.shape).encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
    return made.hexdigest()[:32]


DocumentId = Annotated[
    str,
    PlainValidator(read_id),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_ID_BYTES,
                    "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$",
                },
                {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1},
            ],
            "description": "1 to 512 bytes of UTF-8, no controls; an integer is kept as its decimal digits.",
        }
    ),
]
