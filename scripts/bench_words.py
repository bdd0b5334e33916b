"""What words cost: searches by them beside those of tantivy, bm25s and SQLite FTS5, hybrid beside semantic ones, the
build with and without words, and what highlights and explanations add.

    python scripts/bench_words.py FOLDER ... [--measure lexical hybrid build shown] [--passages 100000] [--queries 100]
        [--work FOLDER] [--peers PYTHON] [--rounds 3]

FOLDER: of BEIR, whose texts passages are drawn from (words_data.py); `build` and `shown` take the texts of the first
as they are. Every figure is processor time on one thread, at the median of the queries, what is compared by turns in
one run; the query's vectors are given.

lexical: the ten best of twelve words, with their ids and how many documents match, of a collection without an encoder
(a vector of one number each); `run` are twelve words in a row, `telling` the same without stop words. With `--peers`,
a Python that has tantivy, bm25s, numba and numpy, peers answer the same queries (peers/words.py) out of the stems that
Sheaf's analysis makes, so their builds are without one.
hybrid: collections of the same texts with 64 drawn token vectors of 128 dimensions each (scale_data.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TextIO, TypeVar

import numpy as np
import scale_data
import words_data
from progress import Progress

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import NotFound, RequestError
from app.highlights.fragments import Marking
from app.lexical.analysis import Analyser
from app.lexical.clauses import plain
from app.load.bulk import fill
from app.query.preparing import encode_queries
from app.search import Query, search, search_encoded
from app.settings import Settings
from app.sources.protocol import Entry
from app.types import Document

K: Final = 10
WARM: Final = 10
"""Searches that are not counted."""
MEASURES: Final = ("lexical", "hybrid", "build", "shown")
PEERS: Final = ("tantivy", "bm25s", "fts5")
ONE: Final = np.ones((1, 1), np.float32)
T = TypeVar("T")
ENGLISH: Final = Analyser("english")


class Made:
    """Documents as a source. making_s: the processor time that it took to make them, which is not the build's."""

    name: str = "made"
    unit: Literal["bytes", "documents"] = "documents"
    skipped = 0

    def __init__(self, documents: Iterator[Document], total: int) -> None:
        self._documents = documents
        self.total: int | None = total
        self.done, self.making_s = 0, 0.0

    def entries(self) -> Iterator[Entry]:
        while True:
            began = time.process_time()
            document = next(self._documents, None)
            self.making_s += time.process_time() - began
            if document is None:
                return
            self.done += 1
            yield Entry(self.done, document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--work", type=Path, help="where collections are made and kept; a temporary folder by default")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of an environment that has them")
    parser.add_argument("--rounds", type=int, default=3, help="of `build`: pairs of builds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        args.work = args.work or Path(temporary)
        args.work.mkdir(parents=True, exist_ok=True)
        settings = Settings(indexes=args.work / "indexes", threads=1)
        encoders = Encoders(settings.models, settings.converted, 1)
        with Catalogue(settings.indexes, encoders, settings) as catalogue:
            for measure in args.measure:
                {"lexical": lexical, "hybrid": hybrid, "build": build, "shown": shown}[measure](args, catalogue)


def lexical(args: argparse.Namespace, catalogue: Catalogue) -> None:
    size, stems = args.passages, args.work / f"{args.passages}.stems"
    passages = drawn_from(args.folders)
    sample = [text for text, _ in zip(passages.draw(size), range(20_000), strict=False)]
    kinds = {
        "run": words_data.queries(sample, args.queries),
        "telling": words_data.queries(sample, args.queries, ENGLISH.stops),
    }
    texts = passages.draw(size)
    if args.peers:
        texts = stemmed(texts, stems.open("w", encoding="utf-8"))
    documents = (Document(f"{i:08}", text, vectors=ONE) for i, text in enumerate(texts))
    made = filled(catalogue, f"words-{size}", Made(documents, size), model=None, kind="dense", dim=1)
    print(f"{size:,} passages, {made.nbytes / size:,.0f} bytes each with text and vector; beta {passages.beta:.2f}")
    found: dict[str, list[list[str]]] = {}
    for kind, queries in kinds.items():

        def ask(query: str) -> list[str]:
            return [hit.id for hit in search(made, Query(query, mode="lexical", k=K, include=frozenset())).hits]

        found[kind] = [ask(query) for query in queries]
        (took,) = by_turns(queries, ask)
        print(f"lexical, {kind}: {told(took)}", flush=True)
    if args.peers:
        asked = {kind: [stems_of(query) for query in queries] for kind, queries in kinds.items()}
        (args.work / f"{size}.queries").write_text(json.dumps({"queries": asked, "found": found}))
        script = Path(__file__).parent / "peers" / "words.py"
        for peer in PEERS:
            command = [str(args.peers), str(script), peer, str(stems), str(stems.with_suffix(".queries"))]
            subprocess.run(command, check=True)


def hybrid(args: argparse.Namespace, catalogue: Catalogue) -> None:
    size, passages = args.passages, drawn_from(args.folders)
    pool = scale_data.Pool.load(args.work / "pool.npz", 2_000, 128, "builtin")
    vectors = (matrix for chunk in scale_data.chunks(pool, size) for matrix in chunk.vectors)
    pairs = enumerate(zip(passages.draw(size), vectors, strict=True))
    documents = (Document(f"{i:08}", text, vectors=matrix) for i, (text, matrix) in pairs)
    made = filled(
        catalogue, f"hybrid-{size}", Made(documents, size), model=None, kind="multi_vector", dim=128, keep_vectors=False
    )
    sample = [text for text, _ in zip(passages.draw(size), range(20_000), strict=False)]
    texts = words_data.queries(sample, args.queries)
    both = [
        Query(text, matrix, mode="hybrid", k=K, include=frozenset())
        for text, matrix in zip(texts, scale_data.queries(pool, size, args.queries), strict=True)
    ]
    compared(made, both, [replace(query, text=None, mode="semantic") for query in both], "hybrid / semantic")


def build(args: argparse.Namespace, catalogue: Catalogue) -> None:
    texts = words_data.texts_of(args.folders[0])
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(args.rounds + 1):
        for words in (True, False) if number % 2 else (False, True):
            documents = (Document(str(i), text) for i, text in enumerate(texts) if text)
            began = time.process_time()
            choices = {} if words else {"lexical": None}
            filled(catalogue, "built", Made(documents, len(texts)), model="builtin", kind="multi_vector", **choices)
            # The first builds of a process load and compile.
            if number:
                took[words].append(time.process_time() - began)
            catalogue.delete("built")
    print(
        f"build of {args.folders[0].name}: with words {listed(took[True])} s, without {listed(took[False])} s,", end=" "
    )
    print(f"{np.median(took[True]) / np.median(took[False]):.3f} times", flush=True)


def shown(args: argparse.Namespace, catalogue: Catalogue) -> None:
    folder = args.folders[0]
    texts = words_data.texts_of(folder)
    documents = (Document(str(i), text) for i, text in enumerate(texts) if text)
    made = filled(catalogue, f"shown-{folder.name}", Made(documents, len(texts)), model="builtin", kind="multi_vector")
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        asked = [json.loads(line)["text"] for line in lines][: args.queries]
    for mode in ("hybrid", "semantic", "lexical"):
        plainly = [Query(text, mode=mode, k=K) for text in asked]
        for name, more in (
            ("highlights", {"highlights": Marking()}),
            ("explain", {"explain": True}),
            ("both", {"highlights": Marking(), "explain": True}),
        ):
            showing = [replace(query, **more) for query in plainly]
            compared(made, showing, plainly, f"{mode} with {name} / without")


def drawn_from(folders: Sequence[Path]) -> words_data.Passages:
    return words_data.Passages([text for folder in folders for text in words_data.texts_of(folder)])


def filled(catalogue: Catalogue, name: str, source: Made, **choices: object) -> Collection:
    """The collection with all of the source in it; one that is there already is taken as it is."""
    with suppress(NotFound):
        return catalogue.get(name)
    made = catalogue.create(name, **choices)  # type: ignore[arg-type]
    began = time.process_time()
    with Progress(name, "documents", source.total) as bar:
        fill(made, source, on_error="stop", bad_line=refuse, progress=lambda summary: bar.update(
            source.done, source.total, summary.phase))  # fmt: skip
    print(f"{name}: built in {time.process_time() - began - source.making_s:.1f} s of processor time", flush=True)
    return made


def refuse(place: str, error: RequestError) -> None:
    raise SystemExit(f"{place}: {error.message}")


def stemmed(texts: Iterator[str], out: TextIO) -> Iterator[str]:
    """The texts; the stems of each are written as a line."""
    known: dict[str, str | None] = {}
    with out:
        for text in texts:
            line = []
            for word in ENGLISH.words(text):
                if word not in known:
                    known[word] = None if ENGLISH.is_stop(word) else ENGLISH.stem(word)
                if (stem := known[word]) is not None:
                    line.append(stem)
            out.write(" ".join(line) + "\n")
            yield text


def stems_of(query: str) -> list[str]:
    """As often as each is asked for."""
    return [clause.words[0] for clause in plain(query, ENGLISH) for _ in range(round(clause.weight))]


def compared(made: Collection, one: Sequence[Query], other: Sequence[Query], name: str) -> None:
    encoded = encode_queries(made, [replace(query, mode="hybrid") for query in other])
    # As the server has it: what there is by now is not looked through for garbage again.
    gc.freeze()
    ready = list(zip(one, other, encoded, strict=True))
    left, right = by_turns(
        ready,
        lambda each: search_encoded(made, each[0], None if each[0].mode == "lexical" else each[2]),
        lambda each: search_encoded(made, each[1], None if each[1].mode == "lexical" else each[2]),
    )
    times = float(np.median(np.array(left) / np.array(right)))
    added = float(np.median(np.array(left) - np.array(right)))
    print(f"{name}: {told(left)} / {told(right)}; medians of pairs: {times:.2f} times, {added:+.2f} ms", flush=True)


def by_turns(queries: Sequence[T], *ways: Callable[[T], object]) -> list[list[float]]:
    """Milliseconds of the processor of each way and query. Every other query asks them the other way round, for the
    first finds the vectors and texts of a query cold."""
    took: list[list[float]] = [[] for _ in ways]
    for number, query in enumerate([*queries[:WARM], *queries]):
        for own, way in list(zip(took, ways, strict=True))[:: 1 if number % 2 else -1]:
            began = time.process_time()
            way(query)
            if number >= WARM:
                own.append((time.process_time() - began) * 1e3)
    return took


def told(took: Sequence[float]) -> str:
    return f"{np.median(took):.2f} ms (95 % within {np.percentile(took, 95):.2f})"


def listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)


if __name__ == "__main__":
    main()
