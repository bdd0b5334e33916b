"""A collection whose home is an object store: what its writer puts there, and what readers make of it."""
