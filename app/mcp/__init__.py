"""Sheaf for assistants, over the Model Context Protocol: `python -m app.mcp`, beside a Sheaf server. Needs the extra
`mcp`.

Useful for: what an assistant may ask and is told. Not useful for: programs, which have the API and ``app.client``.
"""
