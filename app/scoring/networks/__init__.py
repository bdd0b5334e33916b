"""Networks that queries bring: what one is, and the pass of documents' vectors through it."""
