"""HTTP, and nothing else: routes, schemas, problem details.

Useful for: what a status code, a header or a body means. Not useful for: what a search or a write does; that is
``app.search`` and ``app.ingest``. Never imports FAISS, torch or NumPy, and runs nothing slow on the event loop.
"""
