"""Sheaf's Python client: a server's collections as objects, blocking (``Sheaf``) and for asyncio (``AsyncSheaf``).

    from app.client import Document, Sheaf

    with Sheaf("http://localhost:8000") as sheaf:
        papers = sheaf.create("papers")
        papers.write([Document("a", "Reads and writes archives.", metadata={"year": 2024})])
        for hit in papers.search("compressed files", filter={"year": {"gte": 2020}}):
            print(hit.score, hit.id)

Errors are those of ``app.errors``, by the code of the server's answer, with its ``request_id``; a server that does not
answer is Unavailable (``no_answer``). Useful for: programs that ask a server. Not useful for: opening collections in
this process (``app.catalogue``). It imports httpx and NumPy, no model.
"""

from app.client.asynchronous import AsyncCollection, AsyncSheaf
from app.client.blocking import Collection, Sheaf
from app.client.documents import Answer, Document, Hit, Listed, Passage, Table, Task, Written
from app.client.failures import TaskFailed
from app.client.operations import scorer
from app.client.sending import Retries

__all__ = [
    "Answer",
    "AsyncCollection",
    "AsyncSheaf",
    "Collection",
    "Document",
    "Hit",
    "Listed",
    "Passage",
    "Retries",
    "Sheaf",
    "Table",
    "Task",
    "TaskFailed",
    "Written",
    "scorer",
]
