"""Metadata by columns: which documents match a filter, and which values they have, without reading one."""
