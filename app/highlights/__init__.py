"""The parts of a document that answer a query: where its words stand, and the sentence that means most.

Useful for: what a hit shows of its text, as places and as marked text. Not useful for: scores, and the order of hits.
"""
