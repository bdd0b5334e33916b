"""From documents that pass or were ranked to the answer that was asked for: in what order, and which of them.

Useful for: browsing, sorting, groups, pages, counts of values. Not useful for: scores (``app.query``), the flow
(``app.search``).
"""
