"""From an order of documents to hits: rows read, best passages, where they answer, why they have their scores.

Useful for: what a hit carries. Not useful for: which documents are found, and in what order (``app.query``,
``app.results``).
"""
