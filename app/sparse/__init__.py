"""Sparse vectors, learned or callers' own: their rows, their postings, and exact inner products with a query."""
