"""Segments of collections on other machines: which holds what, what it is asked, and what is done where none answers.

Useful for: searching what one machine cannot hold, or not fast enough. Not useful for: what a search asks of a segment
(``app.query``), how copies of collections follow a store (``app.replicas``).
"""
