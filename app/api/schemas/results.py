"""Orders and counts of the documents that match: their order, and how often they have which values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, GetPydanticSchema, ValidationInfo, WithJsonSchema
from pydantic_core import core_schema

from app.boosts import asked as boosts
from app.errors import Invalid
from app.results import facets, grouping, sorting
from app.schema.faults import fault
from app.settings import limits_of


def _sort(value: object) -> tuple[sorting.SortKey, ...]:
    try:
        return sorting.parse(value)
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


def _facets(value: object) -> tuple[facets.Facet, ...]:
    try:
        return facets.parse(value)
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


def _group(value: object) -> grouping.GroupBy:
    try:
        return grouping.parse(value)
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


def _boosts(value: object, info: ValidationInfo) -> tuple[boosts.Boost, ...]:
    try:
        return boosts.parse(value, limits_of(info.context))
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


# Made without looking into the class of a key, which is nobody's schema.
_SORT = GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(_sort))
SortField = Annotated[tuple[sorting.SortKey, ...] | None, _SORT, WithJsonSchema(sorting.SORT_SCHEMA)]
_FACETS = GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(_facets))
_BOOSTS = GetPydanticSchema(lambda _source, _handler: core_schema.with_info_plain_validator_function(_boosts))
_GROUP = GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(_group))
GroupField = Annotated[grouping.GroupBy | None, _GROUP, WithJsonSchema(grouping.GROUP_SCHEMA)]
BoostsField = Annotated[tuple[boosts.Boost, ...] | None, _BOOSTS, WithJsonSchema(boosts.BOOSTS_SCHEMA)]
FacetsField = Annotated[tuple[facets.Facet, ...] | None, _FACETS, WithJsonSchema(facets.FACETS_SCHEMA)]


class ValueCount(BaseModel):
    """How many documents have a value, or lie in a range."""

    value: bool | int | float | str | None = None
    range: Annotated[dict[str, int | float | str] | None, WithJsonSchema({"type": "object"})] = None
    count: int


class FacetAnswer(BaseModel):
    """Of one field: terms by count, then by value; ranges as they were asked; dates ascending, the latest 1,000."""

    counts: list[ValueCount]
    distinct: int
    """How many values there are in all."""
    missing: int
    """Documents that have none of them."""


def facet_answers(counted: Mapping[str, facets.Counted]) -> dict[str, FacetAnswer]:
    """By field."""
    found = {}
    for field, one in counted.items():
        counts = [_answer(count) for count in one.counts]
        found[field] = FacetAnswer(counts=counts, distinct=one.distinct, missing=one.missing)
    return found


def _answer(one: facets.FacetCount) -> ValueCount:
    given: Any = {"value": one.value} if one.range is None else {"range": dict(one.range)}
    return ValueCount(**given, count=one.count)
