"""How a token vector is kept in few bytes: one family of codes behind one protocol, one implementation a file.

Useful for: what lies in `tokens.npy` and in the tail. Not useful for: scoring codes (app.scoring), or codes of one
vector a document (app.vector_index).
"""
