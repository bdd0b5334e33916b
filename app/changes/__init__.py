"""What a write changes of documents, and what has to be encoded for it.

Useful for: which vectors are made anew and which stay. Not useful for: the write itself (``app.ingest``).
"""
