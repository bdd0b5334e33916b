"""Reranking: the first documents of an order, read once more by a model that is too slow for all.

Useful for: what reads them, how much time it has. Not useful for: what they were found by (``app.query``).
"""
