"""What the fixtures of conftest.py make, by name. (A conftest cannot be imported from: there are several.)"""

from __future__ import annotations

from collections.abc import Callable

from app.collection.catalogue import Catalogue
from app.collection.collection import Collection

DIM = 32
OpenCatalogue = Callable[..., Catalogue]
MakeCollection = Callable[..., Collection]
