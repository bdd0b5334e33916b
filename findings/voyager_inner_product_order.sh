#!/bin/sh
# What a graph finds by inner product depends on the order in which the vectors came, and their usual order is the worst.
#
# Libraries: voyager 2.2.3, hnswlib 0.8.0 beside it, numpy 2.4.6 (CPython 3.11 or newer, Linux).
# Input: 5,000 vectors of 32 numbers whose lengths differ (log-normal, deviation .4: most are .5 to 2), as those of
# recommenders and of encoders without normalisation do. 100 queries, 10 rows, the usual graph (M 16, construction 200),
# searched with a breadth of 100, one thread. The space is InnerProduct.
# Behaviour: every answer is full, its distances are right and a saved index answers the same, but added in a random order
# the index finds three of the ten best; the same vectors added by rising or by falling length are found nearly all.
# The vector of greatest length alone at the front changes nothing, nor do ten times the breadth make up for it. hnswlib,
# from which voyager comes, finds nearly all in any order: since 2.0 voyager gives each vector a further coordinate, so
# that all are as long as the longest so far, and its graph, made for that, is searched by queries which have 0 there.
# Vectors of one length (.99) show none of this, so a test with normalised vectors does not either.
# Seen, share of the ten best found, voyager: random order .29, with the longest first .33, rising 1.00, falling 1.00; random
# with a breadth of 1,000 .74; of vectors normalised .99. hnswlib, random order: 1.00.
# What to do: where lengths differ, add the vectors sorted by length (rebuild so what grew), or take a graph with the
# plain product; measure against the exact ten with the lengths, and in the order, that the vectors will have.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install voyager==2.2.3 hnswlib==0.8.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import hnswlib
import numpy as np
import voyager

COUNT, DIMENSION, LINKS, BUILT, BREADTH = 5_000, 32, 16, 200, 100
random = np.random.default_rng(0)
directions = random.standard_normal((COUNT, DIMENSION))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
lengths = np.exp(random.normal(0, 0.4, COUNT))
vectors = (directions * lengths[:, None]).astype(np.float32)
directions = directions.astype(np.float32)
queries = random.standard_normal((100, DIMENSION)).astype(np.float32)
longest = int(lengths.argmax())


def share_found(found, rows):
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), best.tolist())]))


def of_voyager(rows, order, breadth=BREADTH):
    index = voyager.Index(
        voyager.Space.InnerProduct, num_dimensions=DIMENSION, M=LINKS, ef_construction=BUILT, random_seed=1
    )
    index.add_items(rows[order], order.tolist(), num_threads=1)
    found, distances = index.query(queries, 10, num_threads=1, query_ef=breadth)
    found = found.astype(int)
    products = np.take_along_axis(queries @ rows.T, found, axis=1)
    assert np.abs(1 - products - distances).max() < 1e-4, "distances are not 1 less the product"
    return share_found(found, rows)


def of_hnswlib(rows, order):
    index = hnswlib.Index("ip", DIMENSION)
    index.init_index(len(rows), M=LINKS, ef_construction=BUILT)
    index.add_items(rows[order], order, num_threads=1)
    index.set_ef(BREADTH)
    return share_found(index.knn_query(queries, 10, num_threads=1)[0].astype(int), rows)


as_it_comes = np.arange(COUNT)
shares = {
    "random": of_voyager(vectors, as_it_comes),
    "longest first": of_voyager(vectors, np.r_[longest, np.delete(as_it_comes, longest)]),
    "rising": of_voyager(vectors, np.argsort(lengths)),
    "falling": of_voyager(vectors, np.argsort(-lengths)),
    "random, wide": of_voyager(vectors, as_it_comes, 10 * BREADTH),
    "normalised": of_voyager(directions, as_it_comes),
    "hnswlib": of_hnswlib(vectors, as_it_comes),
}
print(", ".join(f"{name} {share:.2f}" for name, share in shares.items()))
for name in ("rising", "falling", "normalised", "hnswlib"):
    assert shares[name] >= 0.9, f"{name}: less is found than it was"
for name in ("random", "longest first"):
    assert shares[name] <= 0.6, f"{name}: more is found than it was: look again"
assert shares["random, wide"] <= 0.9, "a wide search finds more than it did: look again"
print("as described")
PYTHON
