"""The layers that every request passes before a route: frame, hosts, origins, keys, bodies; and what errors become.

Useful for: a rule that holds for all routes. Not useful for: what one route does (``app.api.routes``).
"""
