"""The prompts that a model wants before a text, such as `query: ` and `passage: `.

The operator's settings decide, else what the model was saved with. A model of a family that was trained with such
words and is given none ranks badly and says nothing; so it is known by its name, and a warning given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

Task: TypeAlias = Literal["query", "document"]

# Not as encode_document, which takes an empty `document`, always there, before a saved `passage`.
_SAVED: Final[Mapping[Task, tuple[str, ...]]] = {
    "query": ("query", "search_query"),
    "document": ("document", "passage", "search_document", "corpus"),
}
_SENTENCE: Final = "Represent this sentence for searching relevant passages: "
_FAMILIES: Final = (
    # As their model cards say; e5 trained with instructions and bge-m3 are other models.
    (r"\be5-(?:small|base|large)(?:-v2|-unsupervised)?$", "query: ", "passage: "),
    (r"\bbge-(?:small|base|large)-en(?:-v1\.5)?$", _SENTENCE, ""),
    (r"\bmxbai-embed-(?:large|xsmall)(?:-v1)?$", _SENTENCE, ""),
    (r"\bsnowflake-arctic-embed-(?:xs|s|m|l)$", _SENTENCE, ""),
    (r"\bsnowflake-arctic-embed-[ml]-v2\.0$", "query: ", ""),
    (r"\bnomic-embed-text(?:-v1|-v1\.5|-v2-moe)?$", "search_query: ", "search_document: "),
)


def in_force(saved: Mapping[str, str | None], given: Mapping[Task, str | None]) -> dict[Task, str]:
    """The words before a query and before a document. saved: the model's own, by name. given: the operator's.

    >>> in_force({"search_query": "q: ", "document": "", "passage": "p: "}, {"query": None, "document": None})
    {'query': 'q: ', 'document': 'p: '}
    >>> in_force({"query": "q: "}, {"query": "", "document": "d: "})
    {'query': '', 'document': 'd: '}
    """
    found: dict[Task, str] = {}
    for task, names in _SAVED.items():
        own = given.get(task)
        found[task] = own if own is not None else next((said for name in names if (said := saved.get(name))), "")
    return found


def missing(names: Iterable[str], query: str, document: str) -> str | None:
    """The prompts that a model of this name was trained with and is not given, for a warning. names: paths, hub ids.

    >>> missing(["/models/multilingual-e5-small"], "query: ", "")
    "it was trained with 'passage: ' before each document, and is given nothing: set document_prefix"
    >>> missing(["/models/multilingual-e5-small"], "query: ", "passage: "), missing(["all-MiniLM-L6-v2"], "", "")
    (None, None)
    """
    for name in names:
        for pattern, *wanted in _FAMILIES:
            if not re.search(pattern, name.rstrip("/").lower()):
                continue
            lacking = [
                (said, task)
                for said, own, task in zip(wanted, (query, document), ("query", "document"), strict=True)
                if said and not own
            ]
            if lacking:
                said = " and ".join(f"{words!r} before each {task}" for words, task in lacking)
                fields = " and ".join(f"{task}_prefix" for _, task in lacking)
                return f"it was trained with {said}, and is given nothing: set {fields}"
    return None
