"""A collection as one file: copied at one moment while it is written to, kept, and checked when a stranger brings it.

Useful for: archives and what they may hold. Not useful for: giving one a name again (``app.catalogue.restoring``).
"""
