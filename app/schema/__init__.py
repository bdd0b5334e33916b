"""What the fields of a body are held to, and how a fault in one is told: below every schema.

Useful for: a type of field, the words of a fault. Not useful for: bodies (``app.documents``, ``app.api.schemas``).
"""
