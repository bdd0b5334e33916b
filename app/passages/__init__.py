"""Which pieces a text is found by: its structure, the windows that fit an encoder, and the rows that are made of them.

Useful for: what is encoded of a text, and where in it a passage stands. Not useful for: how rows are stored, or scored.
"""
