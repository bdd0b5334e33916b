"""The forms in which the body of an import may come, beside lines; what reads them is loaded where one comes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from app.errors import Invalid, RequestError

Many: TypeAlias = Literal[
    "ndjson", "json", "csv", "tsv", "msmarco", "trec", "xlsx", "parquet", "arrow", "npy", "fvecs", "hdf5", "zip",
]  # fmt: skip
Single: TypeAlias = Literal["markdown", "text", "html", "pdf", "docx"]
"""Those that are one document."""
MANY: Final = get_args(Many)
SINGLE: Final = get_args(Single)
PACKED: Final = ("ndjson", "json", "csv", "tsv", "msmarco", "trec")
"""Those that may come compressed."""
FAULT: Final = b'{"$fault": '
"""What a line begins with that is no document: no document has such a field."""


def parse_fault(line: bytes) -> RequestError:
    """What was wrong at the place of this line."""
    code, message = json.loads(line)["$fault"]
    return Invalid(message, code=code)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a body is read, as it was asked for. form: of ``MANY`` or ``SINGLE``. id: of the document, where the file is
    one. compression: `gz` or `zst`, of what may be compressed. The rest as the bulk build's options of these names."""

    form: str
    id: str | None = None
    compression: str | None = None
    id_field: str | None = None
    text_field: tuple[str, ...] = ()
    title_field: str | None = None
    vector_field: str | None = None
    select: str | None = None
    rename: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    delimiter: str = ","
    charset: str | None = None

    def check(self) -> None:
        """Raises Invalid for what does not go together."""
        if (self.id is None) == (self.form in SINGLE):
            many = "holds many, each with its own: leave `id` out" if self.id is not None else "is one: say its `id`"
            raise Invalid(f"the file is {self.form}, which {many}")
        if self.compression is not None and self.form not in PACKED:
            raise Invalid(f"{self.form} does not come compressed; {', '.join(sorted(PACKED))} may")
        if len(self.delimiter) != 1 or self.delimiter in ('"', "\n", "\r"):
            raise Invalid(f"a delimiter is one character; got {self.delimiter!r}")

    def to_params(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Asked:
        given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in params.items()}
        return cls(**given)
