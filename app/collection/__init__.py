"""The contents of a collection, a query's view of it, and how a write becomes both.

Useful for: vectors, segments, the tail, generations. Not useful for: bytes on disk (``app.store``), work in the
background (``app.indexing``).
"""
