"""From words and meaning to one order: which documents get every score, and what the scores make together.

Useful for: a side of a hybrid search, its weight. Not useful for: what a side's score is (``app.query.scores``,
``app.lexical.bm25``).
"""
