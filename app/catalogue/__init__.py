"""Which collections are there: found, opened, created, deleted, restored; damaged ones kept apart while others serve.

Useful for: names, aliases, life cycles. Not useful for: what one collection holds (``app.collection``).
"""
