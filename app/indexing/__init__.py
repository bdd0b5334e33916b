"""The life of documents after their write: sealed into segments, merged, found by a first stage that is learned.

Useful for: background work and generations. Not useful for: the write itself (``app.ingest``, ``app.collection``).
"""
