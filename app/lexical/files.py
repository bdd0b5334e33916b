"""The words of a segment as files: what is small in one that is read whole, postings and sequences mapped."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.lexical.analysis import Analyser
from app.lexical.dictionary import Dictionary, Strings
from app.lexical.sequences import Sequences
from app.lexical.words import SealedWords, index
from app.store.directory import Directory
from app.store.files import ArrayWriter, FileRecord, MappedArray, read_verified, write_file

WORDS: Final = "words.npz"
"""The dictionary, where postings and sequences begin, and the documents' lengths."""
MAPPED: Final = ("words.postings.npy", "words.sequences.npy")
FILES: Final = (WORDS, *MAPPED)


def write_words(
    folder: Directory, parts: Sequence[Sequences], fields: int, analyser: Analyser
) -> dict[str, FileRecord]:
    """The words of documents that come one part after the other; no file where there is no word."""
    if not any(len(part.ids) for part in parts):
        return {}
    joined = Sequences.join(parts)
    ids, dictionary, lengths, starts, pairs = index(joined, fields, analyser)
    small: dict[str, NDArray[Any]] = {
        "words": dictionary.words.content,
        "word_starts": dictionary.words.starts,
        "ids": dictionary.ids,
        "lengths": lengths,
        "starts": starts,
        "offsets": joined.offsets,
    }
    if dictionary.stems is not None and dictionary.starts is not None and dictionary.of_stems is not None:
        small["stems"], small["stem_starts"] = dictionary.stems.content, dictionary.stems.starts
        small["stem_words"], small["stem_word_starts"] = dictionary.of_stems, dictionary.starts
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **small)
    files = {WORDS: write_file(folder, WORDS, content.getvalue())}
    for name, array in zip(MAPPED, (pairs, ids), strict=True):
        writer = ArrayWriter(folder, name, array.dtype, array.shape)
        try:
            writer.write(array)
            files[name] = writer.finish()
        finally:
            writer.close()
    return files


def read_words(folder: Directory, files: Mapping[str, FileRecord], fields: int) -> SealedWords | None:
    """None where there is none. Raises Damaged."""
    if WORDS not in files:
        return None
    with np.load(io.BytesIO(read_verified(folder, WORDS, files[WORDS])), allow_pickle=False) as small:
        found = dict(small)
    words = Strings(found["words"], found["word_starts"])
    if "stems" in found:
        stems = Strings(found["stems"], found["stem_starts"])
        dictionary = Dictionary(words, found["ids"], stems, found["stem_word_starts"], found["stem_words"])
    else:
        dictionary = Dictionary(words, found["ids"])
    pairs, ids = (MappedArray(folder, name, files[name]) for name in MAPPED)
    return SealedWords(dictionary, found["lengths"], found["starts"], pairs, found["offsets"], ids, fields)
