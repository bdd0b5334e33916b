"""Codes for few vectors too."""

from __future__ import annotations

import sys

import pytest


def code_everything(patch: pytest.MonkeyPatch, numbers: int = 0) -> None:
    """Segments of more than so many numbers are searched by codes, however few their rows."""
    choose = sys.modules["app.vector_index.choose"]
    patch.setattr(choose, "EXACT_ROWS", 0)
    patch.setattr(choose, "EXACT_NUMBERS", numbers)
    patch.setattr(choose, "WALKED_NUMBERS", numbers)
