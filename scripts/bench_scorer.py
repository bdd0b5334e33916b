"""Searches by a query's own network: exact against along the neighbour graph, of real vectors.

    python scripts/bench_scorer.py BEIR_FOLDER ... [--size 100000] [--networks 24] [--kept FILE] [--width 64 ...]

The vectors are those of scripts/dense_data.py: sentences through the built-in encoder, beyond 30,000 others drawn
around them. The networks are trained here, one for each of several questions that no inner product asks: the largest of
three queries' inner products, less half of a fourth's where it is above 0 ("a or b or c, and rather not d"), on vectors
drawn evenly and the nearest ones of each query (Adam, squared error). So they are networks as queries would bring them,
and no hypernetwork's. Each --width makes as many: one number is one hidden layer, `128x3` three with layer norm.

Printed for each: how many of the question's own ten best the network's exact ten hold; recall@10 of the search along
the graph, of the exact ten; vectors scored; milliseconds of processor time and of the clock of both, one after the
other for each query, medians; and seconds of processor time that the graph took. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from dense_data import Vectors

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.indexing.reindexing import link
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.query import encoded
from app.scoring.networks.network import Layer, Network
from app.search import Query, search
from app.settings import Settings
from app.types import F32, Document

STEPS: Final = 250
"""Of training."""
DRAWN: Final = 256
"""Vectors of a step that are drawn evenly, and as many near ones."""
NEAR: Final = 300
"""Of each query."""
BATCH: Final = 2_000
"""Documents of a write."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument(
        "--kept", type=Path, default=Path("dense_sentences.npz"), help="where encoded sentences are kept"
    )
    parser.add_argument("--width", nargs="+", default=["64", "128x3"], help="of hidden layers, and how many")
    parser.add_argument("--links", type=int, default=32)
    args = parser.parse_args()
    vectors = Vectors.of(args.folders, args.size, args.kept)
    print(f"{len(vectors.docs):,} vectors, {vectors.real:,} of them sentences", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(indexes=Path(folder) / "indexes", seal_documents=2 * args.size, seal_bytes=2**34)
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            collection = catalogue.create(
                "scored", model=None, kind="dense", dim=vectors.docs.shape[1], lexical=None, keep_vectors=False
            )
            for start in range(0, len(vectors.docs), BATCH):
                some = vectors.docs[start : start + BATCH]
                write_documents(
                    collection, [Document(f"{start + i:09d}", vectors=one[None]) for i, one in enumerate(some)]
                )
            seal(collection)
            before = time.process_time()
            link(collection, args.links, reason="to be measured")
            print(f"graph of {args.links} links: {time.process_time() - before:.0f} s of processor time", flush=True)
            for width in args.width:
                measure(collection, vectors, width, args.networks)


def measure(collection: Collection, vectors: Vectors, width: str, count: int) -> None:
    hidden, _, layers = width.partition("x")
    rows = []
    for number in range(count):
        network, wanted = trained(vectors, int(hidden), int(layers or 1), number)
        # Once for what is read at first.
        search(collection, Query(scorer=network, k=10, include=frozenset()))
        ids, times = [], []
        for exact in (True, False):
            clock, processor, scored = time.perf_counter(), time.process_time(), Scored()
            with scored:
                hits = search(collection, Query(scorer=network, k=10, exact=exact, include=frozenset())).hits
            times += [time.process_time() - processor, time.perf_counter() - clock, scored.count]
            ids.append({int(hit.id) for hit in hits})
        rows.append([len(ids[0] & wanted) / 10, len(ids[0] & ids[1]) / 10, *times])
    found = np.array(rows)
    held, recall = found[:, :2].mean(axis=0)
    exact_ms, exact_clock, exact_scored, ms, clock, scored_ = np.median(found[:, 2:], axis=0)
    print(
        f"width {width}, {network.numbers:,} numbers, {count} networks: of the question's ten {held:.2f}; recall@10 "
        f"{recall:.3f}, at the least {found[:, 1].min():.1f}; scored {scored_:,.0f} of {exact_scored:,.0f}; processor "
        f"{ms * 1e3:.1f} of {exact_ms * 1e3:.1f} ms ({ms / exact_ms:.3f}), clock {clock * 1e3:.1f} of "
        f"{exact_clock * 1e3:.1f} ms ({clock / exact_clock:.3f})",
        flush=True,
    )


class Scored:
    """Counts the vectors that go through networks, within a block."""

    def __init__(self) -> None:
        self.count = 0
        self._own: Callable[[Network, F32], F32] = vars(encoded)["scores"]

    def __enter__(self) -> None:
        def counted(network: Network, vectors: F32) -> F32:
            self.count += len(vectors)
            return self._own(network, vectors)

        vars(encoded)["scores"] = counted

    def __exit__(self, *_: object) -> None:
        vars(encoded)["scores"] = self._own


def trained(vectors: Vectors, width: int, layers: int, seed: int) -> tuple[Network, set[int]]:
    """The network of a question, and the rows of its ten best."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    asked = vectors.queries[random.choice(len(vectors.queries), 4, replace=False)]
    products = vectors.docs @ asked.T
    target = products[:, :3].max(axis=1) - 0.5 * np.maximum(products[:, 3], 0)
    near = np.unique(np.argpartition(-products, NEAR, axis=0)[:NEAR])
    scaled = (target - target.mean()) / target.std()
    dim, normal = vectors.docs.shape[1], layers > 1
    widths = [dim, *[width] * layers, 1]
    weights = [torch.randn(a, b) * (2 / a) ** 0.5 for a, b in itertools.pairwise(widths)]
    # Vectors of length 1 have small products with weights of usual size.
    weights[0] *= dim**0.5
    weights[0][:, :4] = torch.from_numpy(2 * asked.T)
    biases = [torch.zeros(one) for one in widths[1:]]
    for one in (*weights, *biases):
        one.requires_grad_()
    optimiser = torch.optim.Adam([*weights, *biases], lr=2e-3)
    for _ in range(STEPS):
        rows = np.concatenate([random.integers(0, len(vectors.docs), DRAWN), random.choice(near, DRAWN)])
        x = torch.from_numpy(vectors.docs[rows])
        for one, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = torch.relu(x @ one + bias)
            x = functional.layer_norm(x, (width,)) if normal else x
        loss = functional.mse_loss((x @ weights[-1] + biases[-1])[:, 0], torch.from_numpy(scaled[rows]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    made = tuple(Layer(_array(one), _array(bias)) for one, bias in zip(weights, biases, strict=True))
    network = Network(made, norm="before" if normal else "none")
    network.check()
    return network, set(np.argsort(-target, kind="stable")[:10].tolist())


def _array(tensor: object) -> F32:
    found: F32 = np.ascontiguousarray(tensor.detach().numpy(), np.float32)  # type: ignore[attr-defined]
    return found


if __name__ == "__main__":
    main()
