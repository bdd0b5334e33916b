"""Files that are one document each: Markdown, plain text, HTML, PDF, DOCX.

Useful for: what a file says, in the shape that passages are cut by (Markdown's headings, form feeds between pages). Not
useful for: files of many documents (``app.sources.records``).
"""
