"""The routes, a file for each thing that has a path.

Useful for: a new path; each is given a scope in ``app.api.edge.access``. Not useful for: rules of all requests.
"""
