"""The chance that a hit is relevant, as judgements of the collection itself taught.

Useful for: a number that means the same for every query. Not useful for: the order of hits, which it does not change.
"""
