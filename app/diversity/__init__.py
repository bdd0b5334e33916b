"""An order in which hits do not say the same: each next one is relevant, and unlike those before it.

Useful for: how alike two documents are, what likeness costs a hit. Not useful for: how relevant a document is
(``app.query``, ``app.fusion``).
"""
