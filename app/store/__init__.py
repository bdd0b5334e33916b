"""Bytes on disk that are whole or absent, and reads that distrust them.

Useful for: files, folders, locks, the database of a collection. Not useful for: what the arrays mean
(``app.collection``).
"""
