"""Work that outlives its request and survives a restart: imports, rebuilds, and what runs them.

Useful for: a new kind of long work. Not useful for: work that nobody asked for (``app.indexing``).
"""
