"""From a snapshot to an order: which rows are worth an exact score, and what order the scores give.

Useful for: candidates and ranking. Not useful for: the formulas (``app.scoring``), the flow (``app.search``).
"""
