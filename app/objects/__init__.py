"""What lies in an object store: named bytes that are put whole, on condition, and read by ranges.

Useful for: a bucket of S3's kind, a folder that is used as one, requests that fail or lose their answer. Not useful
for: what the objects mean (``app.replication``).
"""
