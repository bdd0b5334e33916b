"""Sheaf in frameworks of others: LangChain, Haystack, LlamaIndex, each a file over the client, each an extra.

Useful for: applications that are written in one of them. Not useful for: new ones, which ask ``app.client`` itself.
Nothing here is imported unless its framework is.
"""
