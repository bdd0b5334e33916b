"""What requests change of a collection, and how several share one commit.

Useful for: the rows of a write, many writers at once. Not useful for: what is published (``app.collection.view``).
"""
