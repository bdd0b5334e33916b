"""Libraries that come with an extra, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, TypeAlias

from app.errors import Invalid

Extra: TypeAlias = Literal["documents", "tables"]


def library(module: str, extra: Extra, form: str) -> Any:
    """The module. Raises Invalid that names the extra where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise Invalid(
            f"{form} is read by {module.partition('.')[0]}, which is not installed: install sheaf[{extra}] "
            f"(pip install '.[{extra}]' in Sheaf's folder)"
        ) from error
