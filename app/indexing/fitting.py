"""Learned first stages: when one is due, the sample that it is fitted on, and what was found on the way.

The rule is simple. A multi-vector collection whose segments hold ``learn_documents`` gets one; it is fitted anew when
more than half of the documents came after the fit, when fewer did but are found less well (``drift.py``), or when a
rebuild took it away or changed the vectors. Queries to fit on are given ones, or titles and sentences of documents
through the query encoder; where callers bring vectors, or the encoder is another now, runs of the documents' own
vectors.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from app.collection.collection import Collection
from app.collection.first_stage import Drift, FirstStage, Known, Source, StageChoice, StageRecord
from app.collection.layers import POOLED, TOKENS, scored
from app.collection.part import View, scored_vectors, standing
from app.collection.passages import sought
from app.collection.view import Snapshot
from app.encodings.features import mean_of, windows
from app.encodings.protocol import Encoding, Recipe, Sample
from app.encodings.recipes import RidgeRecipe, recipe_from_json
from app.encodings.ridge import RidgeParameters
from app.errors import Conflict, Invalid
from app.indexing.drift import count_later, drift_due, measure_drift
from app.indexing.restaging import Progress, restage
from app.indexing.sampling import exact_best, share_found, width_of
from app.indexing.sealing import SLICE
from app.indexing.width import LEAST, TARGET, settle
from app.types import F32, I64, Document, TokenVectors

RANK: Final = 512
"""Dimensions of a learned first stage; see docs/decisions.md for the measurement behind it."""
MANY: Final = 500_000
"""Documents from which it has ``RANK_OF_MANY``: most of a search is then to read all codes."""
RANK_OF_MANY: Final = 256
DOCUMENTS: Final = 8_192
"""Documents in a sample, at most."""
LOOKED_AT: Final = 8
"""Times as many are looked at, at most, for so many that differ."""
BLOCK: Final = 1_024
"""Of them looked at in one step."""
VALUES: Final = 2**29
"""Numbers in the token vectors of a sample, at most: 2 GiB."""
QUERIES: Final = 2_048
"""Queries in a sample, at most: as many as ``RidgeParameters.probes``."""
PROBES: Final = 48
"""Queries left out of the fit, that its report is measured with."""
PROBED: Final = 1_024
"""Documents of the sample that the report is measured on."""
SETTLED: Final = "candidates"
"""Under which a report says how the width was found, where nobody gave one."""
SHARED: Final = 0.5
"""The part of the token vectors' squared lengths that is their mean's, at which a description says so."""
CHARACTERS: Final = 300
"""Of a drawn text; queries are short."""

_PIECES: Final = re.compile(r"(?<=[.?!])\s+|\n+")
_SEED: Final = 0

Check = Callable[[], None]


def default_recipe(documents: int) -> RidgeRecipe:
    """The fit that suits a collection of so many documents: fewer samples for few, since they cost most of a fit, and
    fewer dimensions for very many.
    """
    samples = 8_192 if documents >= 4_096 else 4_096
    rank = RANK if documents < MANY else RANK_OF_MANY
    return RidgeRecipe(RidgeParameters(rank=rank, samples=samples, landmarks=samples // 2))


def outside(collection: Collection) -> int:
    """Documents in segments that came after the fit of the first stage in force."""
    now = collection.published
    record = now.generation.stage
    start = 0 if record is None else int(record.fitted.get("next_seq", 0))
    return count_later(now, start)


def due(collection: Collection) -> str | None:
    """Why a first stage is to be fitted now; None where none is."""
    now, least = collection.published, collection.resources.settings.learn_documents
    record = now.generation.stage
    if scored(collection.spec) != TOKENS or collection.spec.scanned or collection.salvaged or not least:
        return None
    sealed = sum(view.live for view in now.segments)
    if record is None:
        return f"learned from {sealed:,} documents" if sealed >= least else None
    if record.recipe is None or not recipe_from_json(record.recipe).learns or not sealed:
        return None
    if record.description is None:
        return "learned again, after a rebuild of a damaged collection"
    if record.fitted.get("stale"):
        return "learned again, from another encoder's vectors"
    if outside(collection) > int(record.fitted.get("of", 2**62)):
        return "learned again: more than half of the documents came after the fit"
    drift = _drift(collection)
    if drift is not None and drift.lost:
        return f"learned again: {drift.found_later:.3f} of later documents are found, {drift.found_known:.3f} of others"
    return None


def _drift(collection: Collection) -> Drift | None:
    """The last findings about documents that came after the fit in force."""
    record, seen = collection.published.generation.stage, collection.drift
    return seen if record is not None and seen is not None and seen.fit == record.fitted.get("next_seq") else None


def described(collection: Collection) -> dict[str, Any]:
    """The first stage of the segments for the collection's description: what it is, why, and how far it has drifted."""
    now = collection.published
    record, stage = now.generation.stage, now.stage
    found: dict[str, Any] = {
        "sources": list(stage.sources),
        "candidates": stage.width,
        "encoding": None if stage.encoding is None else stage.encoding.to_json()["type"],
        "dim": None if stage.encoding is None else stage.encoding.encoded_dim,
        "learned": record is not None and record.file is not None,
    }
    if record is not None:
        found |= {"fitted": dict(record.fitted), "report": dict(record.report), "documents_since": outside(collection)}
    if stage.index is not None:
        found |= {"index": stage.index, "widening": stage.widening}
    if stage.neighbours:
        linked = sum(view.part.size for view in now.segments if view.part.is_linked)
        found["neighbours"] = {"links": stage.neighbours, "passages": linked}
    drift = _drift(collection)
    if drift is not None:
        found["drift"] = asdict(drift)
    reason = due(collection)
    return found if reason is None else found | {"due": reason}


def learn_if_due(collection: Collection, check: Check = lambda: None) -> bool:
    """Whether it was, and is done. Raises EncoderUnavailable, StorageFull, Damaged."""
    looked_at = drift_due(collection.published, collection.drift)
    if due(collection) is None and not looked_at:
        return False
    with collection.learning:
        if due(collection) is None and drift_due(collection.published, collection.drift):
            with collection.snapshot() as snapshot:
                collection.drift = measure_drift(snapshot, collection.spec.measure, check) or collection.drift
        reason = due(collection)
        if reason is None:
            return False
        learn_again(collection, reason, check)
        return True


def learn_again(collection: Collection, reason: str, check: Check = lambda: None) -> None:
    """By the recipe, the width and the sources that somebody chose or tuned, else by the defaults."""
    record, stage = collection.published.generation.stage, collection.published.stage
    learn(
        collection,
        _chosen(record),
        width=None if record is None or SETTLED in record.report else stage.width,
        sources=stage.sources if record is not None and "fde" in stage.sources else ("fde",),
        reason=reason,
        check=check,
    )


def _chosen(record: StageRecord | None) -> Recipe | None:
    """The recipe that somebody chose or tuned; None where it is the default for as many documents as there were."""
    if record is None or record.recipe is None:
        return None
    default = default_recipe(int(record.fitted.get("of", 0)))
    return None if record.recipe == default.to_json() else recipe_from_json(record.recipe)


def learn(
    collection: Collection,
    recipe: Recipe | None = None,
    *,
    width: int | None = None,
    sources: tuple[Source, ...] = ("fde",),
    reason: str = "learned",
    queries: TokenVectors | None = None,
    check: Check = lambda: None,
    progress: Progress = lambda done, total: None,
) -> StageChoice:
    """Fits a first stage on a sample of the segments and puts it in force. recipe: None takes the default. width: None
    takes what the collection needs (``settling.py``). sources: as in ``FirstStage``, the encoding among them.

    queries: token vectors of given queries, beside which none are drawn. Raises Invalid (a collection without segments,
    a recipe that cannot be fitted), EncoderUnavailable, StorageFull, Damaged.
    """
    choice = _fit(collection, recipe, width, sources, reason, queries, check)
    restage(collection, choice, check=check, progress=progress)
    return choice


def _fit(
    collection: Collection,
    recipe: Recipe | None,
    width: int | None,
    sources: tuple[Source, ...],
    reason: str,
    queries: TokenVectors | None,
    check: Check,
) -> StageChoice:
    """Apart from what follows, which takes longer and has no use for gigabytes of a sample."""
    started = time.monotonic()
    segments = frozenset(view.part.record.name for view in collection.published.segments)
    sample, probes, fitted = draw_sample(collection, queries=queries, check=check)
    chosen = default_recipe(fitted["of"]) if recipe is None else recipe
    met: list[F32] = []
    encoding = chosen.fit(sample, collection.resources.background, check, met.append)
    report = probed(collection, sample, probes, encoding, check)
    if width is None:
        width, report[SETTLED] = _needed(collection, sample, met, encoding, probes, check)
    report["fit_s"] = round(time.monotonic() - started, 1)
    # Taken by whole batches: of a part of the documents hardly one would be met.
    whole = fitted["documents"] == fitted["of"]
    known = Known.sorted(sample.keys, met[0], segments) if whole and met and sample.keys is not None else None
    return StageChoice(FirstStage(sources, encoding, width), reason, chosen.to_json(), fitted, report, known)


def _needed(
    collection: Collection, sample: Sample, met: list[F32], encoding: Encoding, probes: TokenVectors, check: Check
) -> tuple[int, dict[str, Any]]:
    """The width that the collection needs, and what it rests on."""
    workers = collection.resources.background
    sampled = met[0] if met else encoding.encode_documents(sample.documents)
    # Without a snapshot: it looks at every document for every query, and the database's log would grow meanwhile.
    found = settle(collection.published.segments, encoding, sampled, probes, workers, check)
    if found is None:
        return LEAST, {"width": LEAST}
    return found.width, {**asdict(found), "target": TARGET}


def draw_sample(
    collection: Collection,
    *,
    documents: int = DOCUMENTS,
    count: int = QUERIES,
    queries: TokenVectors | None = None,
    seed: int = _SEED,
    check: Check = lambda: None,
) -> tuple[Sample, TokenVectors, dict[str, Any]]:
    """(sample, some more queries that are not in it, what it is): of distinct documents of the collection.

    documents, count: how many of each, at most. queries: given ones, beside which none are drawn. Its description:
    sizes, the seed, the source of the queries, and ``next_seq``, the first sequence number that it could not have.
    Raises Invalid where there are no documents.
    """
    random = np.random.RandomState(seed)
    with collection.snapshot() as snapshot:
        views = snapshot.views
        there = [standing(view, view.alive) for view in views]
        owners = np.repeat(np.arange(len(views)), [len(rows) for rows in there])
        rows = np.concatenate([np.zeros(0, np.int64), *there])
        if not len(rows):
            raise Invalid("the collection has no documents to learn from")
        counts = np.concatenate([v.part.ragged(TOKENS).counts[mine] for v, mine in zip(views, there, strict=True)])
        order = _distinct(views, owners, rows, random.permutation(len(rows)), documents)
        values = np.cumsum(counts[order] * collection.spec.stored_dim)
        order = order[: max(1, int(np.searchsorted(values, VALUES, side="right")))]
        taken = [(views[owners[place]], int(rows[place])) for place in order.tolist()]
        check()
        found = _tokens(collection, taken, counts[order])
        pooled = [view.part.flat(POOLED).range(row, row + 1) for view, row in taken]
        keys = np.concatenate([v.part.seqs[v.part.owners.of(mine)] for v, mine in zip(views, there, strict=True)])[
            order
        ].astype(np.int64)
        fitted: dict[str, Any] = {
            "documents": len(taken),
            "of": len(rows),
            "seed": seed,
            "next_seq": snapshot.published.next_seq,
        }
        wanted = count + PROBES
        source, asked, dense = "given", queries, None
        if asked is None:
            source, asked, dense = "windows", sought(windows(found, wanted, seed), collection.spec.measure), None
            texts = _texts(snapshot, keys[:wanted].tolist(), random)
            drawn = _encoded(collection, texts, check)
            if drawn is not None:
                source, (asked, dense) = "texts", drawn
    cut = max(1, len(asked) - PROBES)
    sample = Sample(
        found,
        asked.slice(0, min(cut, count)),
        np.concatenate(pooled),
        None if dense is None else dense[: min(cut, count)],
        keys,
    )
    fitted |= {"queries": len(sample.queries), "query_source": source}
    return sample, asked.slice(cut, min(cut + PROBES, len(asked))), fitted


def _distinct(views: Sequence[View], owners: I64, rows: I64, order: I64, wanted: int) -> I64:
    """The first ``wanted`` places of an order whose passages differ, among so many that are looked at.

    Drawn with their repeats, many equal documents would leave no place for the odd ones among them.
    """
    seen: set[bytes] = set()
    kept: list[int] = []
    for start in range(0, min(len(order), LOOKED_AT * wanted), BLOCK):
        block = order[start : start + BLOCK]
        pooled = np.empty((len(block), views[0].part.flat(POOLED).values.shape[1]), np.float32)
        for i in np.unique(owners[block]):
            mine = owners[block] == i
            pooled[mine] = views[i].part.flat(POOLED).take(rows[block][mine])
        for place, vector in zip(block.tolist(), pooled, strict=True):
            if (content := vector.tobytes()) not in seen:
                seen.add(content)
                kept.append(place)
        if len(kept) >= wanted:
            break
    return np.array(kept[:wanted], np.int64)


def _tokens(collection: Collection, taken: Sequence[tuple[View, int]], counts: I64) -> TokenVectors:
    """Token vectors of rows with so many each, float32, decoded on all background workers."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.empty((int(offsets[-1]), collection.spec.stored_dim), np.float32)

    def decode(start: int, stop: int) -> None:
        for i, (view, row) in enumerate(taken[start:stop], start):
            values[offsets[i] : offsets[i + 1]] = scored_vectors(view.part, row)

    collection.resources.background.map_slices(len(taken), decode, smallest=SLICE)
    return TokenVectors(values, offsets)


def probed(
    collection: Collection, sample: Sample, probes: TokenVectors, encoding: Encoding, check: Check
) -> dict[str, Any]:
    """The share of the exact top 10 that a twentieth of the sample holds by each encoding's scores: the tail's and
    this.

    On ``PROBED`` documents of the sample, for queries outside it. Says where token vectors share a large mean, at which
    encodings that need no data collapse.
    """
    tokens = sample.documents.slice(0, min(PROBED, len(sample.documents)))
    mean = mean_of(sample.documents)
    squares = float(np.square(tokens.values.astype(np.float32)).sum(axis=1).mean())
    shared = round(float(np.square(mean.astype(np.float64)).sum()) / max(squares, 1e-30), 3)
    report: dict[str, Any] = {"shared_mean": shared, "tried": []}
    if shared > SHARED:
        report["note"] = "token vectors share a large mean: encodings without data tell them apart badly"
    if not len(probes) or len(tokens) < 40:
        return report
    workers = collection.resources.background
    best = exact_best(tokens, probes, mean, workers)
    for name, tried in (("without data", collection.stage.encoding), ("learned", encoding)):
        check()
        if tried is not None:
            recall = share_found(tried, tokens, probes, best, workers)
            of = {"documents": len(tokens), "width": width_of(len(tokens)), "queries": len(probes)}
            report["tried"].append({"encoding": name, "dim": tried.encoded_dim, "recall@10": round(recall, 4), **of})
    return report


def _texts(snapshot: Snapshot, seqs: Sequence[int], random: np.random.RandomState) -> list[str]:
    """A title or a sentence of each document that has one."""
    documents = snapshot.documents(list(seqs))
    texts = []
    for seq in seqs:
        pieces = [piece for piece in _pieces(documents[seq]) if len(piece.split()) > 2]
        if pieces:
            texts.append(pieces[random.randint(len(pieces))][:CHARACTERS])
    return texts


def _pieces(document: Document) -> list[str]:
    return [document.title.strip(), *(piece.strip() for piece in _PIECES.split(document.text))]


def _encoded(collection: Collection, texts: Sequence[str], check: Check) -> tuple[TokenVectors, F32] | None:
    """Token and pooled vectors of texts as queries have them; None where no encoder makes them."""
    if collection.spec.model is None or not texts:
        return None
    try:
        collection.encoder()
    except Conflict:
        return None
    tokens, pooled = [], []
    for start in range(0, len(texts), 256):
        check()
        encoded = collection.encode_queries(texts[start : start + 256], alone=True)
        assert encoded.tokens is not None
        tokens += [collection.spec.measure.query(matrix) for matrix in encoded.tokens]
        pooled.append(collection.spec.measure.query(encoded.pooled))
    return TokenVectors.join(tokens), np.concatenate(pooled)
