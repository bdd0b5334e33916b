"""What is made of the documents that match: their order."""

from __future__ import annotations

from typing import Annotated

from pydantic import GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema

from app.documents import fault
from app.errors import Invalid
from app.results import sorting


def _sort(value: object) -> tuple[sorting.SortKey, ...]:
    try:
        return sorting.parse(value)
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


# Made without looking into the class of a key, which is nobody's schema.
_SORT = GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(_sort))
SortField = Annotated[tuple[sorting.SortKey, ...] | None, _SORT, WithJsonSchema(sorting.SORT_SCHEMA)]
