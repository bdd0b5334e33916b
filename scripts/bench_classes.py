"""Class labels as judgements: un-normalised vectors by inner product, cosine and distance, each vector a query.

    python scripts/bench_classes.py [DIALOGUES] [--cache FOLDER] [--count 1000]

First scikit-learn's 1,797 digits, 64 grey values each as they come, by their ten figures. DIALOGUES: a folder in BEIR's
layout whose documents have a `summary`, of which the first word pair is the class (a service and what is asked of it);
the vectors are the means of the built-in model's token vectors, of any length. Measured are NN, first and second tier,
E, DCG and mAP of an exact search (`classes` of POST .../evaluate), over documents that are drawn, each left out of its
own answer. CIP loss (arXiv 1906.00546) trains vectors for the plain inner product, and evaluates by such measures;
these vectors are not trained so, which is what is measured. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from first_stage import collected
from similarities import pooled_of

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.evaluation.classes import of_classes
from app.evaluation.compare import Setting, compare
from app.evaluation.measures import depth_of, parsed
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.query.asked import Query
from app.query.examples import Example, Like
from app.settings import Settings
from app.types import F32, Document

MEASURES: Final = ("NN", "FT", "ST", "E", "DCG", "AP")
SIMILARITIES: Final = ("inner_product", "cosine", "euclidean")
LEAST: Final = 10
"""Dialogues of a class."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialogues", type=Path, nargs="?", metavar="DIALOGUES")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings")
    parser.add_argument("--count", type=int, default=1_000, help="vectors that are queries")
    return parser


def measured(title: str, vectors: F32, labels: Sequence[str], count: int) -> None:
    """Prints a line a similarity, and what it differs from the inner product by."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(indexes=Path(folder))
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            collections = []
            for name in SIMILARITIES:
                chosen: dict[str, Any] = {"model": None, "kind": "dense", "lexical": None, "similarity": name}
                own = catalogue.create(name, dim=vectors.shape[1], **chosen)
                for start in range(0, len(vectors), 1_000):
                    some = range(start, min(start + 1_000, len(vectors)))
                    documents = [
                        Document(str(i), metadata={"class": labels[i]}, vectors=vectors[i][None]) for i in some
                    ]
                    write_documents(own, documents)
                seal(own)
                collections.append(own)
            first, *_ = collections
            labelled, measures = of_classes(first, "class", count), parsed(MEASURES, "")
            depth = depth_of(measures, labelled.most, len(vectors), len(vectors))
            asked = [
                Query(like=Like([Example(one.document)]), k=depth, exact=True, include=frozenset())
                for one in labelled.queries
            ]
            ways = [Setting(own.name, asked, None if own is first else own) for own in collections]
            found = compare(first, labelled.queries, ways, measures, depth, drawn="classes")
    sizes = np.linalg.norm(vectors, axis=1)
    print(
        f"\n{title}: {len(vectors):,} vectors of {vectors.shape[1]} dimensions, lengths {sizes.min():.2f} to "
        f"{sizes.max():.2f}, {len(set(labels))} classes; {found.queries:,} queries"
    )
    print(f"{'':16}" + "".join(f"{name:>8}" for name in MEASURES))
    for one in found.settings:
        print(f"{one.name:16}" + "".join(f"{one.measures[name].mean:8.3f}" for name in MEASURES))
    for apart in found.differences:
        if apart.measure == "AP" and apart.setting == SIMILARITIES[0]:
            said = f"{apart.mean:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), p {apart.p_corrected:.4f}"
            print(f"mAP of {apart.than} beside {apart.setting}: {said}", flush=True)


def main() -> None:
    """Both kinds of vectors, where they are given."""
    from sklearn.datasets import load_digits

    args = parser().parse_args()
    figures = load_digits()
    measured("digits", figures.data.astype(np.float32), [str(one) for one in figures.target], args.count)
    if args.dialogues is None:
        return
    lines = [json.loads(line) for line in (args.dialogues / "corpus.jsonl").read_text().splitlines()]
    kinds = [line["summary"].split(":")[0] for line in lines]
    sizes = Counter(kinds)
    kept = [place for place, kind in enumerate(kinds) if sizes[kind] >= LEAST]
    made = collected(args.dialogues, args.cache)
    assert made.ids == [line["_id"] for line in lines], "documents are encoded in the order of the file"
    measured(args.dialogues.name, pooled_of(made.tokens)[kept], [kinds[place] for place in kept], args.count)


if __name__ == "__main__":
    main()
