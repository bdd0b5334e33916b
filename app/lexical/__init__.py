"""Words: how text becomes them, where they stand, and what documents are worth by them (BM25)."""
