"""From what queries bring to what is scored: token and pooled vectors, and sparse ones; texts are encoded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED, TOKENS, scored, vector_field
from app.collection.passages import check_vectors, pool, require_direction
from app.collection.spec import CollectionSpec
from app.encoders.turns import conversed
from app.errors import Invalid, TextRefused
from app.passages.conversation import Said, by_turns, said_of
from app.query.asked import (
    UNENCODED,
    Query,
    check_browsing,
    check_examples,
    check_ordered,
    check_scorer,
    check_whole,
)
from app.query.encoded import EncodedQuery, NetworkScorer, scorer_of
from app.query.wording import spoken_text
from app.scoring.similarity import MAX_LENGTH, lengths
from app.sparse.rows import unpacked
from app.types import F32, SparseVector, TokenVectors


def encoded_meaning(collection: Collection, queries: Sequence[Query]) -> list[EncodedQuery | None]:
    """As ``encode_queries``; None for a query by words or sparse vectors alone, by examples, or by nothing."""
    meaning: list[Query] = []
    for query in queries:
        check_whole(query)
        check_ordered(query, collection.spec)
        if query.scorer is not None:
            check_scorer(query)
        if query.mode == "browse":
            check_browsing(query)
        elif query.like is not None:
            check_examples(query, collection.spec)
            continue
        elif query.mode == "lexical" or (query.mode == "hybrid" and spoken(collection.spec, query)):
            # Faults of the words are said before anything is encoded for nothing.
            query = replace(query, text=spoken_text(collection.spec, query))
        _require_lists(collection.spec, query)
        if query.mode not in UNENCODED:
            meaning.append(query)
    meant = iter(encode_queries(collection, meaning))
    return [None if query.mode in UNENCODED or query.like is not None else next(meant) for query in queries]


def with_examples(collection: Collection, queries: Sequence[Query]) -> list[Query]:
    """With the texts and vectors among their examples encoded, all in one batch, and their texts by the sparse encoder,
    where there is one, in another."""
    if all(query.like is None for query in queries):
        return list(queries)
    asked = [
        Query(text=one.text, turns=one.turns, vectors=one.vectors, at=one.at)
        for query in queries
        if query.like is not None and query.mode not in UNENCODED
        for one in query.like.given
    ]
    made = iter(encode_queries(collection, asked, networks=False))
    queries = [
        query
        if query.like is None or query.mode in UNENCODED
        else replace(query, like=query.like.encoded([next(made) for _ in query.like.given]))
        for query in queries
    ]
    if collection.spec.sparse_model is None:
        return queries
    likes = [query.like for query in queries if query.like is not None and weighed(collection.spec, query)]
    texts = [(one.text, one.at) for like in likes for one in like.given if one.text is not None]
    weights = iter(_by_sparse_encoder(collection, texts))
    return [
        query
        if query.like is None or not weighed(collection.spec, query)
        else replace(
            query, like=query.like.weighed([None if one.text is None else next(weights) for one in query.like.given])
        )
        for query in queries
    ]


def encode_queries(collection: Collection, queries: Sequence[Query], *, networks: bool = True) -> list[EncodedQuery]:
    """The vectors of queries by meaning, as they are scored. Texts are encoded in one batch. networks: whether a text
    may become one, where the encoder makes them; else it has a vector."""
    if not queries:
        return []
    spec = collection.spec
    measure, single = spec.measure, scored(spec) == POOLED and not spec.ordered
    for query in queries:
        ways = (query.text is not None) + (query.vectors is not None) + (query.scorer is not None)
        if not ways or (ways > 1 and query.mode != "hybrid"):
            raise Invalid.at(query.at, "expected exactly one of query, vector and vectors")
        if query.vectors is not None:
            check_vectors(query.vectors, spec, query.at, asked=True)
    scorers = [
        None if query.scorer is None else scorer_of(query.scorer, spec, f"{query.at}/scorer") for query in queries
    ]
    spoken_ones = [query for query in queries if query.vectors is None and query.scorer is None]
    if networks and spec.model is not None and collection.resources.encoders.makes_networks(spec.model):
        made_networks = iter(_networks(collection, spoken_ones))
        scorers = [
            next(made_networks) if query.vectors is None and query.scorer is None else one
            for query, one in zip(queries, scorers, strict=True)
        ]
        spoken_ones = []
    made = _from_encoder(collection, spoken_ones)
    ready = []
    for query, scorer in zip(queries, scorers, strict=True):
        if scorer is not None:
            nothing = np.zeros((1, spec.stored_dim), np.float32)
            ready.append(EncodedQuery(nothing, nothing, scorer=scorer))
        elif query.vectors is None:
            ready.append(next(made))
        else:
            given = np.ascontiguousarray(query.vectors, np.float32)
            vectors = measure.query(given)
            # Of length 1, or they would not have passed.
            if not measure.unit and (not np.isfinite(vectors).all() or lengths(vectors).max(initial=0) > MAX_LENGTH):
                pointer = f"{query.at}/{vector_field(spec)}"
                raise Invalid.at(
                    pointer, f"times the matrix it is longer than {MAX_LENGTH:g}, the limit: scale it down"
                )
            if single:
                # As of a text: it stands for itself.
                pooled = vectors
            elif measure.unit:
                pooled = pool(TokenVectors.join([vectors]), measure)
            else:
                pooled = measure.query(pool(TokenVectors.join([given]), measure))
            ready.append(EncodedQuery(vectors, pooled))
    return ready


def _networks(collection: Collection, queries: Sequence[Query]) -> list[NetworkScorer]:
    """Of texts, where the collection's encoder makes networks of them."""
    if not queries:
        return []
    # It is the one that made the vectors.
    collection.encoder()
    spec = collection.spec
    assert spec.model is not None, "an encoder has a name"
    made = collection.resources.encoders.encode_networks(spec.model, [query.text or "" for query in queries])
    return [scorer_of(one, spec, f"{query.at}/query") for one, query in zip(made, queries, strict=True)]


def _from_encoder(collection: Collection, queries: Sequence[Query]) -> Iterator[EncodedQuery]:
    """The vectors of each text. Raises Invalid for a text that it makes nothing of."""
    if not queries:
        return
    spec, said, weights = collection.spec, list[Said | None]([None] * len(queries)), list[F32 | None]()
    if spec.turns is not None:
        talks = [i for i, query in enumerate(queries) if query.turns]
        asked, tokens = [queries[i].turns for i in talks], scored(spec) == TOKENS
        told = said_of(asked, spec.turns, collection.encoder(), tokens=tokens, task="query")
        for i, one in zip(talks, told, strict=True):
            said[i] = one
    try:
        encoded = collection.encode_queries(
            [query.text or "" if one is None else one.text for query, one in zip(queries, said, strict=True)]
        )
        if spec.turns is not None:
            encoded, weights = by_turns(encoded, said, collection.encoder(), "query")
        require_direction(encoded, collection.spec)
    except TextRefused as error:
        ((place, why), *_) = error.texts.items()
        raise Invalid.at(f"{queries[place].at}/query", why) from error
    for place in range(len(encoded.pooled)):
        pooled = spec.measure.query(encoded.pooled[place : place + 1])
        if encoded.tokens is None:
            yield EncodedQuery(pooled, pooled)
            continue
        vectors = spec.measure.query(encoded.tokens[place])
        if spec.turns is not None and spec.turns.map is not None and said[place] is not None:
            pooled = spec.turns.map.of(conversed(vectors))
        own = weights[place] if weights else None
        yield EncodedQuery(vectors if own is None else vectors * own[:, None], pooled)


def spoken(spec: CollectionSpec, query: Query) -> bool:
    """Whether a hybrid search has words."""
    return spec.lexical is not None and (query.text is not None or query.like is not None)


def _require_lists(spec: CollectionSpec, query: Query) -> None:
    """Raises Invalid for a sparse vector where the mode or the collection has none, and for a hybrid search by vectors
    alone."""
    if query.sparse is not None and query.mode not in ("sparse", "hybrid"):
        raise Invalid.at(f"{query.at}/sparse_vector", f"a {query.mode} search is by no sparse vector")
    if spec.sparse is None and (query.sparse is not None or query.mode == "sparse"):
        at = "sparse_vector" if query.sparse is not None else "mode"
        raise Invalid.at(f"{query.at}/{at}", f"collection {spec.name} has no sparse vectors: its `sparse` is null")
    if query.sparse is not None and spec.sparse_model is not None and query.text is not None:
        raise Invalid.at(f"{query.at}/sparse_vector", f"{spec.sparse_model!r} makes it of the query")
    if query.mode == "sparse" and (query.sparse is None) == (query.text is None):
        raise Invalid.at(query.at, "expected exactly one of query and sparse_vector")
    if query.mode == "sparse" and query.sparse is None and spec.sparse_model is None:
        raise Invalid.at(f"{query.at}/query", "the collection has no sparse encoder: bring a sparse_vector")
    if query.mode == "hybrid" and not spoken(spec, query) and not weighed(spec, query):
        said = "the search has neither"
        if query.text is not None:
            said = f"collection {spec.name} has no index of words (its `lexical` is null), nor a sparse encoder"
        raise Invalid.at(f"{query.at}/mode", f"a hybrid search is by words or a sparse vector, and by meaning: {said}")


def weighed(spec: CollectionSpec, query: Query) -> bool:
    """Whether a search has a sparse vector."""
    if spec.sparse is None or query.mode not in ("sparse", "hybrid"):
        return False
    return (
        query.like is not None or query.sparse is not None or (query.text is not None and spec.sparse_model is not None)
    )


def encoded_sparse(collection: Collection, queries: Sequence[Query]) -> list[SparseVector | None]:
    """The sparse vector of each query that has one and is not by examples. Texts are encoded in one batch. Raises
    Invalid for a text that is refused, EncoderError."""
    spec = collection.spec
    if spec.sparse is None:
        return [query.sparse for query in queries]
    asked = [query for query in queries if query.like is None and weighed(spec, query)]
    texts = [query for query in asked if query.sparse is None]
    said = [spoken_text(spec, query) if query.syntax == "query" else query.text for query in texts]
    weights = _by_sparse_encoder(collection, [(text or "", query.at) for text, query in zip(said, texts, strict=True)])
    made = {id(query): one for query, one in zip(texts, weights, strict=True)}
    return [query.sparse if query.sparse is not None else made.get(id(query)) for query in queries]


def _by_sparse_encoder(collection: Collection, texts: Sequence[tuple[str, str]]) -> list[SparseVector]:
    """Of texts, each with the pointer to what has it as its query. Raises Invalid for one that is refused."""
    if not texts:
        return []
    try:
        rows = collection.encode_sparse([text for text, _ in texts], "query").rows
    except TextRefused as error:
        ((place, why), *_) = error.texts.items()
        raise Invalid.at(f"{texts[place][1]}/query", why) from error
    return [unpacked(row) for row in rows]
