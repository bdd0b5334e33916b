"""Additions to a document's score beside the query: that it passes a filter, how recent it is, how often it was liked.

Useful for: a kind of boost, its formula. Not useful for: the scores that it is added to (``app.query.scores``,
``app.fusion``).
"""
