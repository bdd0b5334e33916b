"""What the approximate path misses, and what the codes do: measured against exact search.

Useful for: trust. Not useful for: choosing another first stage (``app.tuning``).
"""
