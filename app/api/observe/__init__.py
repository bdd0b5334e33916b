"""The operator's view: logs, metrics, traces.

Useful for: a new figure; docs/operations.md tells of each. Not useful for: what a user sees.
"""
