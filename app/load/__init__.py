"""Bulk builds: everything that a source has into a collection, in this process or through a server.

Useful for: ``scripts/build_index.py``. Not useful for: reading foreign files (``app.sources``).
"""
