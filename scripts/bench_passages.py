"""The evidence for how a document of several passages is scored, with the built-in model and MaxSim in float32.

    python scripts/bench_passages.py BEIR_FOLDER ... [--cache FOLDER]
    python scripts/bench_passages.py BEIR_FOLDER ... --joined TEXTS [--cache FOLDER]

The first prints nDCG@10 of each way to score, beside that of the first 256 tokens alone. The second makes so many texts
of 5,000 words of a collection's documents joined end to end. Three of each are the judged answer of a query, and stand
at 10, 50 and 99 % of it, each of them in each place in turn; printed is how often the text is among the first three.
A cache keeps the scores of queries and windows.

Seen (change of nDCG@10 on anthropic_docs, anthropic_codebase, cranfield, liveqa_med; among the first three of 40 texts
of SciFact's documents, 120 queries, at 10, 50 and 99 %):

    best window             +.016 +.016 +.007 -.031     .867 .883 .858
    less .004 log2 n        +.025 +.016 +.008 -.028     .867 .883 .858
    less .012 log2 n        +.015 +.010 +.008 -.021     .867 .875 .858
    mean of the best two    +.008 -.017 +.004 -.025     .858 .858 .875
    1/4 mean of all         +.027 +.011 +.011 -.011     .875 .883 .875
    1/4 opening             +.032 +.012 +.008 -.011     .817 .825 .817
    1/2 opening             +.026 +.006 +.004 +.004     .692 .708 .708
    as Sheaf does           +.025 +.006 +.004 +.004     .850 .858 .850
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from first_stage import maxsim
from numpy.typing import NDArray

from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.evaluation.measures import mean
from app.passages.windows import Windowing
from app.query.scores import of_document
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import F32, Document, TokenVectors

OVERLAP: Final = 64
WORDS: Final = 5_000
PLACES: Final = (0.1, 0.5, 0.99)
ENCODED_AT_ONCE: Final = 256
Way: TypeAlias = Callable[[F32], NDArray[Any]]
"""(queries, windows) of one document -> (queries,)."""
WAYS: Final[dict[str, Way]] = {
    "best window": lambda rows: rows.max(axis=1),
    "less .004 log2 n": lambda rows: rows.max(axis=1) - 0.004 * np.log2(rows.shape[1]),
    "less .012 log2 n": lambda rows: rows.max(axis=1) - 0.012 * np.log2(rows.shape[1]),
    "mean of the best two": lambda rows: np.sort(rows, axis=1)[:, -2:].mean(axis=1),
    "1/4 mean of all": lambda rows: rows.max(axis=1) * 0.75 + rows.mean(axis=1) * 0.25,
    "1/4 opening": lambda rows: rows.max(axis=1) * 0.75 + rows[:, 0] * 0.25,
    "1/2 opening": lambda rows: rows.max(axis=1) * 0.5 + rows[:, 0] * 0.5,
    "as Sheaf does": lambda rows: of_document(rows[:, 0], rows.max(axis=1), rows.shape[1]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--joined", type=int, metavar="TEXTS")
    parser.add_argument("--cache", type=Path, default=Path("passages.cache"))
    args = parser.parse_args()
    args.cache.mkdir(exist_ok=True)
    encoder = Encoders({}, args.cache / "models").get("builtin", "multi_vector")
    for folder in args.folders:
        if args.joined:
            joined(folder, encoder, args.joined, args.cache)
        else:
            quality(folder, encoder, args.cache)


def quality(folder: Path, encoder: Encoder, cache: Path) -> None:
    documents, queries, qrels = collection(folder)
    windows = Windowing(encoder.room, OVERLAP).of(documents, encoder.tokens)
    several = [i for i, own in enumerate(windows) if len(own) > 1]
    texts = [window.encoded for i in several for window in windows[i]]
    whole = scored(encoder, queries, [document.passage for document in documents], cache / f"{folder.name}.whole.npy")
    rows = scored(encoder, queries, texts, cache / f"{folder.name}.windows.npy")
    ends = np.cumsum([len(windows[i]) for i in several])
    print(f"{folder.name}: {len(documents)} documents, {len(several)} of several windows, {len(texts)} of these")
    least = ndcg(whole, documents, queries, qrels)
    print(f"  {'first 256 tokens':24}{least:.4f}")
    for name, way in WAYS.items():
        scores = whole.copy()
        for i, part in zip(several, np.split(rows, ends[:-1], axis=1), strict=False):
            scores[:, i] = way(part)
        found = ndcg(scores, documents, queries, qrels)
        print(f"  {name:24}{found:.4f}  {found - least:+.4f}")


def joined(folder: Path, encoder: Encoder, count: int, cache: Path) -> None:
    documents, queries, qrels = collection(folder)
    known = {document.id: document for document in documents}
    random = np.random.default_rng(0)
    pairs: dict[str, str] = {}
    for query in random.permutation(sorted(queries)).tolist():
        answers = [name for name, grade in qrels[query].items() if grade > 0 and name in known]
        if answers and len(pairs) < 3 * count and not set(answers) & set(pairs.values()):
            pairs[query] = answers[0]
    asked = list(pairs)[: len(pairs) // 3 * 3]
    judged = {name for query in asked for name in qrels[query]}
    others = iter(random.permutation(sorted(known.keys() - judged)).tolist() * 99)
    fillers = []
    for _ in range(len(asked) // 3):
        own: list[str] = []
        while sum(len(text.split()) for text in own) < WORDS - 600:
            own.append(known[next(others)].passage)
        fillers.append(own)
    encoded: dict[str, int] = {}
    made: list[list[list[int]]] = []
    for turn in range(3):
        texts = []
        for i, own in enumerate(fillers):
            three = [known[pairs[query]].passage for query in asked[3 * i : 3 * i + 3]]
            texts.append(Document("x", join(own, three[turn:] + three[:turn])))
        split = Windowing(encoder.room, OVERLAP).of(texts, encoder.tokens)
        made.append([[encoded.setdefault(w.encoded, len(encoded)) for w in windows] for windows in split])
    chosen = {query: queries[query] for query in asked}
    rows = scored(encoder, chosen, list(encoded), cache / f"{folder.name}.joined.{count}.npy")
    print(f"{folder.name}: {len(fillers)} texts of {WORDS} words, {len(asked)} queries, {len(encoded)} windows")
    print(f"  {'among the first three, at':28}" + "".join(f"{place:<7.0%}" for place in PLACES))
    for name, way in {"opening alone": lambda rows: rows[:, 0], **WAYS}.items():
        hits: list[list[bool]] = [[], [], []]
        for turn, windows in enumerate(made):
            scores = np.stack([way(rows[:, own]) for own in windows], axis=1)
            for number in range(len(asked)):
                own_score = scores[number, number // 3]
                hits[(number - turn) % 3].append(bool((scores[number] > own_score).sum() < 3))
        print(f"  {name:28}" + "".join(f"{np.mean(some):<7.3f}" for some in hits))


def join(fillers: Sequence[str], three: Sequence[str]) -> str:
    """The fillers with three texts among them, at ``PLACES``."""
    sizes = np.cumsum([0, *(len(text.split()) for text in fillers)])
    found = list(fillers)
    for text, place in zip(three[::-1], PLACES[::-1], strict=True):
        found.insert(int(np.argmin(np.abs(sizes - place * sizes[-1]))), text)
    return "\n\n".join(found)


def collection(folder: Path) -> tuple[list[Document], dict[str, str], dict[str, dict[str, int]]]:
    found = [entry.found for entry in Beir(folder).entries()]
    qrels = beir_qrels(folder)
    queries = {name: text for name, text in beir_queries(folder).items() if name in qrels}
    return [one for one in found if isinstance(one, Document)], queries, qrels


def scored(encoder: Encoder, queries: Mapping[str, str], texts: Sequence[str], at: Path) -> F32:
    """(queries, texts): MaxSim, the mean over query tokens."""
    if at.is_file():
        kept: F32 = np.load(at, allow_pickle=False)
        return kept
    asked = encoder.encode_queries(list(queries.values())).tokens
    assert isinstance(asked, TokenVectors)
    parts = [np.zeros((len(queries), 0), np.float32)]
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        tokens = encoder.encode_documents(texts[start : start + ENCODED_AT_ONCE]).tokens
        assert isinstance(tokens, TokenVectors)
        parts.append((maxsim(asked, tokens) / asked.counts[:, None]).astype(np.float32))
        print(f"\r  {start:,} of {len(texts):,} encoded", end="", flush=True)
    print("\r", end="")
    scores: F32 = np.concatenate(parts, axis=1)
    np.save(at, scores)
    return scores


def ndcg(
    scores: F32, documents: Sequence[Document], queries: Mapping[str, str], qrels: dict[str, dict[str, int]]
) -> float:
    run = {}
    for query, row in zip(queries, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:10].tolist()
        run[query] = [documents[i].id for i in best]
    return mean("nDCG@10", qrels, run)


if __name__ == "__main__":
    main()
