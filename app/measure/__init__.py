"""The losses of the approximate path and of the codes, measured against exact search; where documents lie.

Useful for: trust. Not useful for: choosing another first stage (``app.tuning``).
"""
