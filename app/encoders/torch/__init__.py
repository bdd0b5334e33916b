"""Models that torch runs, through sentence-transformers: loaded, checked, and read off a forward pass.

Useful for: a model family. Not useful for: what a folder holds (``app.encoders.model_folder``), converted models.
"""
