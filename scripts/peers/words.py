"""A peer of ``scripts/bench_words.py`` on the same stems: builds, and answers one query at a time on one thread.

    python words.py tantivy|bm25s|fts5 STEMS QUERIES

STEMS: a passage a line, stems with blanks between. QUERIES: JSON, `queries` with the stems of each by kind, and
`found`, Sheaf's ten of each, whose share among the peer's ten is printed. All have k1 = 1.2 and b = .75.
"""

import itertools
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

K = 10
WARM = 10


class Tantivy:
    """One writing thread, no positions, no stored text; the number of a passage is a stored field, read for each hit.
    `count`: with how many match, as Sheaf answers; without, lists are skipped by blocks."""

    def __init__(self, path, folder):
        import tantivy

        self._t = tantivy
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("stems", stored=False, tokenizer_name="whitespace", index_option="freq")
        schema.add_unsigned_field("number", stored=True)
        self._schema = schema.build()
        index = tantivy.Index(self._schema, path=str(folder))
        writer = index.writer(heap_size=1_000_000_000, num_threads=1)
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                writer.add_document(tantivy.Document(stems=line.strip(), number=number))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()
        self.said = f"tantivy {tantivy.__version__}, {self._searcher.num_segments} segments"
        self.ways = {"with count": lambda q: self.ask(q, True), "without": lambda q: self.ask(q, False)}

    def ask(self, stems, count):
        t = self._t
        terms = [(t.Occur.Should, t.Query.term_query(self._schema, "stems", stem, "freq")) for stem in stems]
        found = self._searcher.search(t.Query.boolean_query(terms), K, count=count)
        return [self._searcher.doc(address)["number"][0] for _, address in found.hits]


class Bm25s:
    """Lucene's formula, scores computed at the build, Numba's search."""

    def __init__(self, path, folder):
        import bm25s

        known = {}
        with Path(path).open(encoding="utf-8") as lines:
            ids = [[known.setdefault(stem, len(known)) for stem in line.split()] for line in lines]
        self._known = known
        self._index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
        self._index.index((ids, known), show_progress=False)
        del ids
        self._index.save(str(folder))
        self.said = f"bm25s {bm25s.__version__}"
        self.ways = {"": self.ask}

    def ask(self, stems):
        own = [[self._known[stem] for stem in stems if stem in self._known]]
        found = self._index.retrieve(own, k=K, show_progress=False, n_threads=1)
        return found.documents[0].tolist()


class Fts5:
    """Without the text's content, optimised after the build."""

    def __init__(self, path, folder):
        self._db = sqlite3.connect(folder / "words.db")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA mmap_size = 8000000000")
        self._db.execute(
            "CREATE VIRTUAL TABLE t USING fts5(stems, content='', "
            "tokenize='unicode61 remove_diacritics 0 tokenchars _')"
        )
        with Path(path).open(encoding="utf-8") as lines:
            self._db.executemany("INSERT INTO t (rowid, stems) VALUES (?, ?)", ((i, s) for i, s in enumerate(lines)))
        self._db.execute("INSERT INTO t (t) VALUES ('optimize')")
        self._db.commit()
        self.said = f"SQLite {sqlite3.sqlite_version} FTS5"
        self.ways = {"": self.ask}

    def ask(self, stems):
        asked = " OR ".join(f'"{stem}"' for stem in stems)
        rows = self._db.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?", (asked, K))
        return [row for (row,) in rows]


def main():
    name, path, asked = sys.argv[1:]
    asked = json.loads(Path(asked).read_text())
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        began = time.process_time()
        peer = {"tantivy": Tantivy, "bm25s": Bm25s, "fts5": Fts5}[name](path, Path(folder))
        built = time.process_time() - began
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        print(f"{peer.said}: built in {built:.1f} s of processor time, {size / 1e6:,.0f} MB", flush=True)
        for (kind, queries), (way, ask) in itertools.product(asked["queries"].items(), peer.ways.items()):
            took, same = [], []
            for query in queries[:WARM]:
                ask(query)
            for query, found in zip(queries, asked["found"][kind], strict=True):
                began = time.process_time()
                own = ask(query)
                took.append((time.process_time() - began) * 1e3)
                wanted = {int(one) for one in found}
                same.append(len(wanted & set(own)) / len(wanted))
            print(
                f"  {kind} {way}: {np.median(took):.2f} ms (95 % within {np.percentile(took, 95):.2f}),"
                f" {np.mean(same):.3f} of Sheaf's ten",
                flush=True,
            )


if __name__ == "__main__":
    main()
