"""Files of many records, each a document: JSON, Parquet, Arrow, XLSX, HDF5, arrays of vectors, TREC's markup.

Each module gives the records of a file, one at a time; which field is what, ``app.sources.fields`` knows.
"""
