"""Many searches by vectors at once: what is asked and found as arrays, and one pass over a part for all of them.

Useful for: programs that ask hundreds of queries. Not useful for: words, pages, groups, reasons.
"""
