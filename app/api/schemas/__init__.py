"""Requests and answers: each body is one of these, in the code and in OpenAPI, requests by their answers.

Bodies that come in are ``Strict``: nothing unknown, nothing guessed, and their schema says all that can be said of it.
Answers are models too, or the engine's own dataclasses, so that the schema promises no other shape than is sent.

Useful for: a field of a body or of an answer. Not useful for: how a body is read (``app.api.edge.bodies``).
"""
