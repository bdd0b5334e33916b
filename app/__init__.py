"""Sheaf: a dense and multi-vector retrieval engine with a REST service.

Importing this package, or any module in it, does nothing: no model is loaded, no file is opened.
"""

__version__ = "0.1.0"
