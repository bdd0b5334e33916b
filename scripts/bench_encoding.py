"""Speed of encoding text: SentenceTransformer.encode beside Sheaf's encoder, on the same texts in one run.

    python scripts/bench_encoding.py scifact/ [--documents 200] [--rounds 5] [--quality]

Both take turns, so that what else the machine does falls on both; figures are medians, ratios those of one round. The
time of the processor is shown beside the clock's, because it says more on a busy machine. SentenceTransformer runs
all-MiniLM-L6-v2 in torch, float32, with its own defaults, and gives pooled vectors; Sheaf gives token vectors too.

--quality also ranks the whole collection by exact MaxSim with the vectors of torch and of Sheaf: nDCG@10 of both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from progress import Progress

from app.compute.quota import cores
from app.encoders.builtin import verified_folder
from app.encoders.protocol import Encoder
from app.encoders.registry import BUILTIN, Encoders
from app.evaluation.measures import mean
from app.scoring.maxsim import fast_scores
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import F32, Document

PEER: Final = "SentenceTransformer.encode"
START: Final = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from app.encoders.registry import Encoders
encoders = Encoders({}, Path(sys.argv[1]) if sys.argv[1] else None)
encoders.get("builtin", "multi_vector").encode_queries(["a query"])
took = time.perf_counter() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(took, int(status["VmRSS"].split()[0]) / 1024, "torch" in sys.modules)
encoders.close()
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--documents", type=int, default=200, help="drawn by a fixed seed (default: 200)")
    parser.add_argument("--queries", type=int, default=50, help="encoded one by one (default: 50)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of both; 0 is one a core")
    parser.add_argument("--quality", action="store_true", help="nDCG@10 of both over the whole collection; minutes")
    return parser


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds by the clock, seconds of the processor) of each call in each round, after one that is not counted."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            if number:
                took[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return took


def documents(took: Mapping[str, list[tuple[float, float]]], size: int) -> None:
    """Prints documents a second and the ratios to the peer."""
    for name, times in took.items():
        ratios = [
            [own / peer for own, peer in zip(mine, theirs, strict=True)]
            for mine, theirs in zip(took[PEER], times, strict=True)
        ]
        clock, processor = (median(pair[i] for pair in ratios) for i in (0, 1))
        rate = size / median(pair[0] for pair in times)
        print(f"{name:32}{rate:9.1f} documents/s{clock:8.2f} times by the clock{processor:8.2f} by the processor")


def queries(took: Sequence[Mapping[str, list[tuple[float, float]]]]) -> None:
    """Prints the median over queries of each query's median over rounds."""
    for name in took[0]:
        times = [median(pair[0] for pair in each[name]) * 1e3 for each in took]
        print(f"{name:32}{median(times):9.2f} ms a query (p95 {np.percentile(times, 95):.2f})")


def cosines(name: str, one: F32, other: F32) -> None:
    """Prints how alike rows are. one, other: (n, dim)."""
    found = np.einsum("ij,ij->i", one, other) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    low, first, middle = np.percentile(found, [0, 1, 50])
    print(f"cosine of {name}: median {middle:.6f}, 1 % below {first:.6f}, least {low:.6f}, of {len(found):,}")


def ndcg(encoder: Encoder, folder: Path, title: str) -> float:
    """nDCG@10 on the judgements of ``test``, by MaxSim with every document; token vectors held as float16."""
    corpus, texts, qrels = corpus_of(folder), beir_queries(folder), beir_qrels(folder, "test")
    asked = encoder.encode_queries([texts[identifier] for identifier in qrels]).tokens
    assert asked is not None
    scores, step = np.empty((len(corpus), len(qrels)), np.float32), 128
    with Progress(title, "documents", len(corpus)) as bar:
        for start in range(0, len(corpus), step):
            tokens = encoder.encode_documents([text(each) for each in corpus[start : start + step]]).tokens
            assert tokens is not None
            for column, query in enumerate(asked):
                scores[start : start + step, column] = fast_scores(query, tokens)
            bar.update(min(start + step, len(corpus)))
    run = {}
    for column, identifier in enumerate(qrels):
        best = np.argsort(-scores[:, column], kind="stable")[:10]
        run[identifier] = [corpus[row].id for row in best]
    return mean("nDCG@10", qrels, run)


def corpus_of(folder: Path) -> list[Document]:
    """Every good document, in the order of the file."""
    return [entry.found for entry in Beir(folder).entries() if isinstance(entry.found, Document)]


def text(document: Document) -> str:
    """As Sheaf encodes a document."""
    return f"{document.title}. {document.text}" if document.title else document.text


def start(cache: Path | None) -> str:
    """Of a new process: seconds to the first encoded query and what it holds then."""
    ran = subprocess.run(
        [sys.executable, "-c", START, str(cache or "")], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    seconds, megabytes, torch = ran.stdout.split()
    loaded = "torch loaded" if torch == "True" else "torch not loaded"
    return f"{float(seconds):.2f} s, {float(megabytes):.0f} MiB resident, {loaded}"


def run(args: argparse.Namespace, cache: Path) -> None:
    """Measures and prints."""
    began = time.perf_counter()
    converted, torch_only = Encoders({}, cache, args.threads), Encoders({})
    multi, dense = converted.get(BUILTIN, "multi_vector"), converted.get(BUILTIN, "dense")
    plain = torch_only.get(BUILTIN, "multi_vector")
    print(f"first start, conversion included: {time.perf_counter() - began:.1f} s")
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(args.threads or cores())
    peer = SentenceTransformer(str(verified_folder()), device="cpu", local_files_only=True)
    corpus = corpus_of(args.folder)
    chosen = np.random.default_rng(0).permutation(len(corpus))[: args.documents]
    texts = [text(corpus[row]) for row in chosen]
    print(f"{len(texts)} documents of {args.folder.name}, {args.rounds} rounds")
    calls = {
        PEER: lambda: peer.encode(texts, show_progress_bar=False),
        "Sheaf, pooled": lambda: dense.encode_documents(texts),
        "Sheaf, pooled and tokens": lambda: multi.encode_documents(texts),
    }
    documents(take_turns(calls, args.rounds), len(texts))
    asked = list(beir_queries(args.folder).values())[: args.queries]
    queries(
        [
            take_turns(
                {
                    PEER: lambda one=one: peer.encode([one], show_progress_bar=False),  # type: ignore[misc]
                    "Sheaf in torch": lambda one=one: plain.encode_queries([one]),  # type: ignore[misc]
                    "Sheaf": lambda one=one: multi.encode_queries([one]),  # type: ignore[misc]
                },
                args.rounds,
            )
            for one in asked
        ]
    )
    ours, theirs = multi.encode_documents(texts[:50]), plain.encode_documents(texts[:50])
    assert ours.tokens is not None
    assert theirs.tokens is not None
    cosines("pooled vectors", multi.encode_documents(texts).pooled, peer.encode(texts, show_progress_bar=False))
    cosines("token vectors", ours.tokens.values, theirs.tokens.values)
    print(f"a later start: {start(cache)}")
    print(f"a start in torch: {start(None)}")
    if args.quality:
        found = {name: ndcg(encoder, args.folder, name) for name, encoder in (("Sheaf", multi), ("torch", plain))}
        print(f"nDCG@10 by MaxSim: {json.dumps({name: round(value, 4) for name, value in found.items()})}")
    converted.close()


def main() -> None:
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as cache:
        run(args, Path(cache))


if __name__ == "__main__":
    main()
