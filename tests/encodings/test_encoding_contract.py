"""The contract of every encoding, whatever its kind: bits, shapes, refusals, round trips, and finding what is best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from topical_passages import exact, passages, recall

from app.encodings import load_encoding
from app.encodings.muvera import MuveraParameters
from app.encodings.protocol import Encoding, Recipe, Sample
from app.encodings.recipes import MuveraRecipe, PooledRecipe, RidgeRecipe, recipe_from_json
from app.encodings.ridge import RidgeParameters
from app.errors import Damaged, Invalid
from app.types import F32, TokenVectors

DIM = 24
NARROW = MuveraParameters(10, 3, 6, fill=False)
WIDE = MuveraParameters(12, 4, None, fill=False, final_projection=256)
LEARNED = RidgeParameters(rank=24, samples=300, landmarks=150, probes=100)
RECIPES: Mapping[str, Recipe] = {
    "narrow": MuveraRecipe(NARROW),
    "narrow, filled": MuveraRecipe(replace(NARROW, fill=True)),
    "narrow, centred": MuveraRecipe(NARROW, centred=True),
    "narrow, filled, centred": MuveraRecipe(replace(NARROW, fill=True), centred=True),
    "wide": MuveraRecipe(WIDE),
    "wide, filled": MuveraRecipe(replace(WIDE, fill=True)),
    "wide, centred": MuveraRecipe(WIDE, centred=True),
    "wide, filled, centred": MuveraRecipe(replace(WIDE, fill=True), centred=True),
    "pooled": PooledRecipe(),
    "ridge": RidgeRecipe(LEARNED),
    "ridge of all samples": RidgeRecipe(replace(LEARNED, landmarks=300)),
    "ridge and pooled": RidgeRecipe(LEARNED, pooled=0.4),
}
DOCUMENTS, QUERIES, LATER = passages(0, 150, DIM, 4), passages(1, 100, DIM, 3, 6), passages(2, 120, DIM, 4)
SAMPLE = Sample(DOCUMENTS, QUERIES.slice(0, 80))


@pytest.fixture(scope="module", params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def encoding(name: str) -> Encoding:
    return RECIPES[name].fit(SAMPLE)


def moved(tokens: TokenVectors, mean: F32) -> TokenVectors:
    return TokenVectors(tokens.values + mean, tokens.offsets)


def test_shapes(encoding: Encoding) -> None:
    assert encoding.dim == DIM
    for encode in (encoding.encode_documents, encoding.encode_queries):
        found = encode(LATER)
        assert (found.dtype, found.shape) == (np.float32, (len(LATER), encoding.encoded_dim))
        assert encode(LATER.slice(0, 0)).shape == (0, encoding.encoded_dim)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_same_vectors_give_the_same_bits_in_any_batch(encoding: Encoding, dtype: type) -> None:
    given = passages(3, 20, DIM, longest=70)
    tokens = TokenVectors(given.values.astype(dtype), given.offsets)
    order = np.random.default_rng(0).permutation(20)
    for encode in (encoding.encode_documents, encoding.encode_queries):
        together = encode(tokens)
        assert encode(tokens.take(order)).tobytes() == together[order].tobytes()
        for row in range(20):
            assert encode(tokens.slice(row, row + 1)).tobytes() == together[row].tobytes()
        assert encode(TokenVectors(tokens.values.astype(np.float32), tokens.offsets)).tobytes() == together.tobytes()


def test_stored_and_loaded_to_the_bit(encoding: Encoding) -> None:
    again = load_encoding(json.loads(json.dumps(encoding.to_json())), encoding.to_bytes())
    assert (again.dim, again.encoded_dim) == (encoding.dim, encoding.encoded_dim)
    assert (again.to_json(), again.to_bytes()) == (encoding.to_json(), encoding.to_bytes())
    assert again.encode_documents(LATER).tobytes() == encoding.encode_documents(LATER).tobytes()
    assert again.encode_queries(LATER).tobytes() == encoding.encode_queries(LATER).tobytes()


def test_the_recipe_is_json_and_makes_it_again(name: str, encoding: Encoding) -> None:
    recipe = RECIPES[name]
    again = recipe_from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    made = again.fit(SAMPLE)
    assert (made.to_json(), made.to_bytes()) == (encoding.to_json(), encoding.to_bytes())


def test_only_what_learns_depends_on_the_sample(name: str, encoding: Encoding) -> None:
    other = RECIPES[name].fit(Sample(LATER, QUERIES.slice(40, 100)))
    same = encoding.encode_documents(LATER).tobytes() == other.encode_documents(LATER).tobytes()
    assert same != RECIPES[name].learns
    # An encoding that learns nothing has nothing to keep beside its description.
    assert (encoding.to_bytes() == b"") != RECIPES[name].learns


def test_damaged_arrays_are_refused(encoding: Encoding) -> None:
    content = encoding.to_bytes()
    if content:
        nan = content[:-4] + np.array([np.nan], np.float32).tobytes()
        for bad in (b"", content[:-1], nan):
            with pytest.raises(Damaged):
                load_encoding(encoding.to_json(), bad)


def test_a_description_of_anything_else_is_refused(name: str, encoding: Encoding) -> None:
    description, recipe = encoding.to_json(), RECIPES[name].to_json()
    changes: list[dict[str, Any]] = [{"type": "lemur"}, {"type": None}, {"more": 1}]
    for change in changes:
        with pytest.raises(Invalid):
            load_encoding(description | change, encoding.to_bytes())
        with pytest.raises(Invalid):
            recipe_from_json(recipe | change)
    for key in description:
        with pytest.raises(Invalid):
            load_encoding({k: v for k, v in description.items() if k != key}, encoding.to_bytes())
    for key in recipe:
        with pytest.raises(Invalid):
            recipe_from_json({k: v for k, v in recipe.items() if k != key})


def test_vectors_that_cannot_be(encoding: Encoding) -> None:
    empty = TokenVectors(LATER.values, np.array([0, 3, 3, len(LATER.values)]))
    holed = TokenVectors(LATER.values.copy(), LATER.offsets)
    holed.values[holed.offsets[4], 2] = np.nan
    for encode in (encoding.encode_documents, encoding.encode_queries):
        with pytest.raises(Invalid, match="passage 1 has no vectors"):
            encode(empty)
        with pytest.raises(Invalid, match="passage 4 has a value that is not finite"):
            encode(holed)
        with pytest.raises(Invalid, match=f"{DIM} dimensions"):
            encode(passages(0, 2, 8))
        with pytest.raises(Invalid, match="float64"):
            encode(TokenVectors(LATER.values.astype(np.float64), LATER.offsets))


def test_finds_the_best(name: str, encoding: Encoding) -> None:
    asked = QUERIES.slice(80, 100)
    found = encoding.encode_queries(asked) @ encoding.encode_documents(LATER).T
    expected = recall(found, exact(asked, LATER), width=30)
    assert expected > (0.9 if "ridge" in name else 0.6)


def test_a_document_is_a_set(encoding: Encoding) -> None:
    passage = passages(9, 1, DIM, 6, 9).values
    other = np.concatenate([passage[::-1], passage])
    both = encoding.encode_documents(TokenVectors.join([passage, other]))
    np.testing.assert_allclose(both[0], both[1], rtol=1e-3, atol=1e-4 * np.abs(both).max())


def test_taking_a_mean_off_the_documents_leaves_rankings_by_max_sim_as_they_are() -> None:
    mean = np.random.default_rng(1).normal(0, 2, DIM).astype(np.float32)
    asked = QUERIES.slice(80, 100)
    documents, queries = moved(LATER, mean), moved(asked, mean)
    shifts = exact(queries, documents) - exact(queries, moved(documents, -mean))
    expected = np.array([query.astype(np.float64).sum(axis=0) @ mean.astype(np.float64) for query in queries])
    # One number a query, the same for every document: the order cannot change.
    np.testing.assert_allclose(shifts, np.repeat(expected[:, None], len(LATER), axis=1), rtol=1e-5)


@pytest.mark.parametrize("fill", [True, False])
def test_no_document_scores_more_than_repetitions_times_max_sim_less_the_mean(fill: bool) -> None:
    mean = np.random.default_rng(1).normal(0, 1, DIM).astype(np.float32)
    documents, queries = moved(LATER, mean), moved(QUERIES, mean)
    recipe = MuveraRecipe(MuveraParameters(3, 4, None, fill=fill), centred=True)
    encoding = recipe.fit(Sample(documents, queries))
    truth = exact(queries.slice(0, 20), moved(documents, -mean_of(encoding)))
    found = encoding.encode_queries(queries.slice(0, 20)) @ encoding.encode_documents(documents).T
    if fill:
        assert (found <= 3 * truth + 1e-2).all()
    one = TokenVectors.join([documents[0][:1]])
    alone = encoding.encode_queries(queries.slice(0, 20)) @ encoding.encode_documents(one).T
    if fill:
        np.testing.assert_allclose(
            alone, 3 * exact(queries.slice(0, 20), moved(one, -mean_of(encoding))), rtol=1e-3, atol=1e-2
        )


def mean_of(encoding: Encoding) -> F32:
    mean: F32 = encoding.mean  # type: ignore[attr-defined]
    return mean


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.learns])
def test_a_large_mean_that_all_vectors_share_costs_what_learns_little(name: str) -> None:
    mean = np.full(DIM, 2, np.float32)  # of length 10, where vectors have length 1
    documents, queries = moved(DOCUMENTS, mean), moved(QUERIES, mean)
    later, asked = moved(LATER, mean), queries.slice(80, 100)
    truth = exact(asked, later)

    def found(recipe: Recipe) -> float:
        encoding = recipe.fit(Sample(documents, queries.slice(0, 80)))
        return recall(encoding.encode_queries(asked) @ encoding.encode_documents(later).T, truth, width=30)

    recipe = RECIPES[name]
    assert found(recipe) > (0.85 if "ridge" in name else 0.5)
    if isinstance(recipe, MuveraRecipe):
        assert found(recipe) > found(replace(recipe, centred=False)) + 0.05


def test_pooled_vectors_that_are_given_are_taken() -> None:
    random = np.random.default_rng(2)
    documents, queries = (random.standard_normal((n, DIM)).astype(np.float32) for n in (len(DOCUMENTS), 80))
    sample = replace(SAMPLE, document_pooled=documents, query_pooled=queries)
    plain = PooledRecipe().fit(sample)
    assert plain.encode_documents(DOCUMENTS, documents).tobytes() == documents.tobytes()
    with pytest.raises(Invalid, match="shape"):
        plain.encode_documents(DOCUMENTS, documents[:3])
    both = RidgeRecipe(LEARNED, pooled=0.5).fit(sample)
    ridge = RidgeRecipe(LEARNED).fit(sample)
    rank = ridge.encoded_dim
    left = both.encode_queries(sample.queries, queries), both.encode_documents(DOCUMENTS, documents)
    assert left[0][:, :rank].tobytes() == ridge.encode_queries(sample.queries).tobytes()
    first, second = (left[0][:, part] @ left[1][:, part].T for part in (slice(0, rank), slice(rank, None)))
    # Pooled scores vary half as much as the others, over documents.
    shares = [np.sqrt(scores.astype(np.float64).var(axis=1).mean()) for scores in (first, second)]
    assert shares[1] / shares[0] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("recipe", [RidgeRecipe(LEARNED, pooled=-1.0), RidgeRecipe(LEARNED, pooled=float("nan"))])
def test_a_share_that_cannot_be(recipe: Recipe) -> None:
    with pytest.raises(Invalid, match="pooled"):
        recipe.fit(SAMPLE)


def test_no_documents_have_no_mean() -> None:
    with pytest.raises(Invalid, match="at least one document"):
        MuveraRecipe(NARROW, centred=True).fit(Sample(DOCUMENTS.slice(0, 0), QUERIES))
