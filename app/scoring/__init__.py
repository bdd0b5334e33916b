"""Exact scores: each module has one formula, its reference, its fast pass, and a bound on their difference.

``reference`` is THE score: of one passage at a time, in float64, so nothing else can change it. ``fast_scores`` is the
same in float32 over many passages. ``error_bound`` says how far apart they can be, and ``select.keep_for_top`` which
passages that leaves in question.
Useful for: rescoring, exact search. Not useful for: finding candidates; encodings and vector_index do that.
"""
