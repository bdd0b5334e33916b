"""Local models converted for OpenVINO: made once, checked, kept, and held against torch's own vectors.

Useful for: speed without torch. Not useful for: what a model is (``app.encoders.model_folder``).
"""
