"""Similarities beside the plain ones, and all of them by name."""
