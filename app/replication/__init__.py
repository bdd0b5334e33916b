"""A collection's commits in an object store: one writer at a time, any number of readers, one history.

Useful for: who may write, what is committed, what a reader sees, which objects nobody needs any more. Not useful for:
what a commit holds (its bytes are the caller's), requests to a store (``app.objects``).
"""
