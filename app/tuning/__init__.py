"""Choosing a collection's first stage by measurement, against exact search.

Useful for: reaching a recall at the least cost. Not useful for: measuring a collection as it is
(``app.measure.recall``).
"""
