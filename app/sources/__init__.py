"""Where documents come from: files and folders in the forms that people have them, read lazily, one form a file.

Useful for: the scripts that build a collection in bulk. Not useful for: the server, which takes documents over HTTP.
"""
