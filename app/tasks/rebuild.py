"""Every index of a collection made anew from its document store, while it goes on serving.

Texts are encoded again with the encoder that is configured now; callers' vectors come from the file that keeps them
as they were given (or from the stored ones where they are not kept). The way out of a damaged index, and of a changed
encoder. Interrupted, it starts over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from app.changes.plan import ENCODED_AT_ONCE
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageRecord, recoded
from app.collection.layers import SPARSE
from app.collection.passages import Passages, from_caller
from app.collection.segment import Segment
from app.collection.segment_writing import Batch, Totals
from app.collection.spec import FINGERPRINT, SPARSE_FINGERPRINT, fingerprint_from_json
from app.encoders.protocol import Encoder, Fingerprint, SparseEncoder
from app.errors import Conflict, Invalid, TextRefused
from app.indexing.causal import learn_causal
from app.indexing.fitting import learn_if_due
from app.indexing.sealing import merge, now_utc, recode, seal, seal_due, write
from app.indexing.summaries import learn_summaries
from app.lexical.sequences import Sequences, Vocabulary
from app.passages.encoding import Splitter, encoded_rows
from app.passages.sparse import EncodeSparse, with_sparse
from app.passages.values import with_values
from app.store.database import get_record
from app.store.rows import fetch_documents
from app.tasks.tasks import Running
from app.types import I64, Metadata, Owners


def run_rebuild(collection: Collection, running: Running) -> None:
    """The task's handler."""
    encoder, sparse = _encoder(collection), _sparse_encoder(collection)
    with collection.structure:
        if not collection.salvaged:
            seal(collection, running.check)
        now = collection.published
        old = [view.part for view in now.segments]
        # Writes from here on stay in the tail, also those since it was sealed: one look tells both.
        end = now.next_seq if collection.salvaged or not now.tail.part.size else int(now.tail.part.seqs[0])
        with collection.database.read() as connection:
            live = connection.execute("SELECT seq FROM live WHERE seq < ? ORDER BY seq", (end,))
            seqs = np.array([seq for (seq,) in live], np.int64)
        running.update(phase="encoding", done=0, total=len(seqs))
        added: list[Segment] = []
        try:
            for batch in _runs(collection, encoder, seqs, running):
                added.append(_write(collection, batch))
                if not collection.salvaged and seal_due(collection):
                    seal(collection, running.check)
        except BaseException:
            collection.discard(added)
            raise
        running.update(phase="swapping")
        chosen = collection.published.generation.stage
        collection.swap(
            added,
            old,
            sealed_to=end if collection.salvaged else 0,
            reason="rebuilt from the document store",
            created=now_utc(),
            encoders=_fingerprints(encoder, sparse),
            anew=True,
            stage=None if chosen is None else _stage(collection, chosen, encoder),
        )
        running.update(phase="merging")
        while merge(collection, running.check):
            pass
    running.update(phase="learning")
    if encoder is not None:
        # It may be another than the one that made the vectors that a causal matrix was learned from.
        learn_causal(collection, again=True)
        learn_summaries(collection, again=True)
    learn_if_due(collection, running.check)


def _stage(
    collection: Collection, chosen: StageRecord, encoder: Encoder | None
) -> tuple[StageRecord, FirstStage] | None:
    """The first stage after the swap, where it is to be fitted anew: what was is damaged, or of another's vectors."""
    if collection.salvaged:
        kept = _kept_stage(collection)
        return (chosen, kept) if kept is not None else (chosen.taken_away(), collection.stage)
    if encoder is not None:
        with collection.database.read() as connection:
            stored = get_record(connection, FINGERPRINT, collection.name, fingerprint_from_json)
        if stored.differences(encoder.fingerprint):
            stale = replace(chosen, fitted={**chosen.fitted, "stale": True})
            return stale, collection.published.stage
    return None


def _kept_stage(collection: Collection) -> FirstStage | None:
    """The first stage of a damaged collection, where no file is a part of it that could be damaged: its kind of index,
    its neighbour graph."""
    chosen = collection.published.generation.stage
    if chosen is None or chosen.file is not None or chosen.description is None or chosen.recipe is not None:
        return None
    return FirstStage.from_json(chosen.description)


def _encoder(collection: Collection) -> Encoder | None:
    spec = collection.spec
    if spec.model is None:
        return None
    encoder = collection.resources.encoders.get(spec.model, spec.kind, spec.dim)
    if encoder.dim != spec.dim:
        raise Conflict(
            f"the encoder {spec.model!r} now gives {encoder.dim} dimensions, collection {spec.name} has {spec.dim}: "
            "make a new collection",
            code="encoder_changed",
        )
    return encoder


def _sparse_encoder(collection: Collection) -> SparseEncoder | None:
    model = collection.spec.sparse_model
    return None if model is None else collection.resources.encoders.sparse_encoder(model)


def _fingerprints(encoder: Encoder | None, sparse: SparseEncoder | None) -> dict[str, Fingerprint]:
    made = {FINGERPRINT: encoder, SPARSE_FINGERPRINT: sparse}
    return {record: one.fingerprint for record, one in made.items() if one is not None}


def _runs(collection: Collection, encoder: Encoder | None, seqs: I64, running: Running) -> Iterator[Batch]:
    """Runs of documents that fill a segment each, with their vectors made anew."""
    settings = collection.resources.settings
    parts: list[Passages] = []
    metadata: list[Metadata] = []
    words: list[Sequences] = []
    vocabulary = Vocabulary()
    first = 0
    for start in range(0, len(seqs), ENCODED_AT_ONCE):
        running.check()
        batch = seqs[start : start + ENCODED_AT_ONCE].tolist()
        with collection.database.read() as connection:
            documents = fetch_documents(connection, batch, collection.name)
        spec, resources = collection.spec, collection.resources
        named = [documents[seq] for seq in batch]
        if spec.given_sparse:
            given = collection.given_sparse(batch, collection.published)
            named = [replace(one, sparse=given[seq]) for seq, one in zip(batch, named, strict=True)]
        if spec.values is not None:
            carried = collection.values_of(batch, collection.published)
            named = [replace(one, values=carried[seq]) for seq, one in zip(batch, named, strict=True)]
        # Not the collection's own calls, which refuse other encoders than made the vectors that stand.
        sparse: EncodeSparse | None = None
        if spec.sparse_model is not None:
            sparse = partial(resources.encoders.encode_sparse, spec.sparse_model, task="document")
        try:
            if encoder is None:
                rows = _from_stored(collection, batch)
            else:
                assert spec.model is not None
                encode = partial(resources.encoders.encode_documents, spec.model, spec.kind, dim=spec.dim)
                windows = Splitter(spec, encoder, None).windows(named)
                encoding, workers = collection.stage.encoding, resources.background
                rows, _ = encoded_rows(windows, {}, encode, spec, encoding, workers, sparse, encoder)
            if spec.sparse is not None:
                rows, _ = with_sparse(rows, named, spec, sparse)
            rows = with_values(rows, named, spec)
        except TextRefused as error:
            refused = "; ".join(f"{named[i].id!r} ({why})" for i, why in error.texts.items())
            raise Invalid(f"the encoder refuses documents that are here; change or delete them: {refused}") from error
        parts.append(rows)
        metadata += [documents[seq].metadata for seq in batch]
        if spoken := collection.spec.words((documents[seq] for seq in batch), vocabulary):
            words.append(spoken)
        done = start + len(batch)
        running.update(done=done)
        full = sum(map(len, parts)) >= settings.seal_documents or sum(p.nbytes for p in parts) >= settings.seal_bytes
        if full or done == len(seqs):
            yield Batch(seqs[first:done], metadata, Passages.join(parts), Sequences.join(words) if words else None)
            parts, metadata, words, first = [], [], [], done


def _from_stored(collection: Collection, seqs: Sequence[int]) -> Passages:
    spec = collection.spec
    if spec.keeps_raw:
        given = collection.given_passages(seqs)
        owners = Owners.of_counts(np.array([len(given[seq]) for seq in seqs], np.int64))
        every = [matrix for seq in seqs for matrix in given[seq]]
        return from_caller(every, spec, collection.stage.encoding, collection.resources.background, owners)
    # Encodings are made anew: those of a damaged collection may be unreadable, and of two first stages.
    stored = collection.stored_vectors(seqs, collection.published, staged=False)
    return recoded(Passages.join([stored[seq].with_layer(SPARSE, None) for seq in seqs]), collection.stage, spec)


def _write(collection: Collection, batch: Batch) -> Segment:
    stage = collection.published.stage
    if collection.salvaged:
        stage = _kept_stage(collection) or collection.stage
    totals = Totals.of(batch.passages.owners, batch.passages.counts)
    batches: Iterable[Batch] = [batch]
    if stage is not collection.stage:
        batches = recode(collection, stage, batches)
    return write(collection, stage, totals, batches)
