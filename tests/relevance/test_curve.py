"""Curves of relevance against scikit-learn's, planted truths, and the laws that chances keep."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from app.errors import Conflict
from app.evaluation.relevance import _learned
from app.relevance.curve import FOLDS, RIDGE, area, calibration_error, fitted, held_out, squared_error
from app.types import F64

NAMES = ["fused", "words", "rank"]


def draw(seed: int, queries: int, hits: int = 20) -> tuple[F64, F64, F64, list[int]]:
    """Features, the true chances, what they made of each hit, and its query."""
    random = np.random.default_rng(seed)
    ranks = np.tile(np.log1p(np.arange(hits)), queries)
    # Best first.
    fused = -np.sort(-random.normal(2, 3, (queries, hits)), axis=1).ravel()
    features = np.column_stack([fused, random.random(len(ranks)), ranks])
    odds = 0.8 * (features[:, 0] - 2) + 2 * features[:, 1] - ranks
    truth = 1 / (1 + np.exp(-odds))
    relevant = (random.random(len(truth)) < truth).astype(np.float64)
    return features, truth, relevant, np.repeat(np.arange(queries), hits).tolist()


def test_the_curve_is_the_likeliest_one() -> None:
    features, _, relevant, _ = draw(0, 40)
    made = fitted(NAMES, features, relevant)
    inputs = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit(inputs, relevant)
    np.testing.assert_allclose(made.weights, theirs.coef_[0], atol=1e-6)
    np.testing.assert_allclose(made.chances(features), theirs.predict_proba(inputs)[:, 1], atol=1e-6)


def test_a_planted_truth_is_found_and_holds_for_other_queries() -> None:
    features, _, relevant, _ = draw(1, 200)
    made = fitted(NAMES, features, relevant)
    new, truth, seen, _ = draw(2, 200)
    chances = made.chances(new)
    assert np.abs(chances - truth).max() < 0.06
    assert calibration_error(chances, seen) < 0.03
    # What always says the same, or says too much, is told from it.
    assert calibration_error(np.full(len(seen), 0.1), seen) > 0.15
    assert calibration_error(np.where(chances > 0.5, 1.0, 0.0), seen) > 0.08


def test_figures_are_those_of_scikit_learn() -> None:
    _, truth, relevant, _ = draw(3, 20)
    rounded = truth.round(1)  # ties
    assert area(rounded, relevant) == pytest.approx(roc_auc_score(relevant, rounded), abs=1e-12)
    assert squared_error(rounded, relevant) == pytest.approx(brier_score_loss(relevant, rounded), abs=1e-12)


def test_a_chance_is_held_out_from_what_its_own_query_was_judged() -> None:
    features, _, relevant, queries = draw(4, 15)
    before = held_out(NAMES, features, relevant, queries)
    mine = np.array(queries) == 7
    turned = np.where(mine, 1 - relevant, relevant)
    after = held_out(NAMES, features, turned, queries)
    together = np.array(queries) % FOLDS == 7 % FOLDS
    assert (after[together] == before[together]).all()
    assert (after[~together] != before[~together]).any()


def test_one_feature_that_never_varies_is_no_fault() -> None:
    features, _, relevant, _ = draw(5, 10)
    features[:, 1] = 3
    made = fitted(NAMES, features, relevant)
    assert made.weights[1] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(made.chances(features * 1e6)).all()


def test_along_a_list_no_hit_is_likelier_than_one_before_it() -> None:
    features, _, relevant, _ = draw(6, 30)
    made = fitted(NAMES, features, relevant)
    along, free = made.along(features[:20]), made.chances(features[:20])
    assert along[0] == free[0]
    assert along == sorted(along, reverse=True)
    assert (np.array(along) <= free).all()
    # A longer list begins with the shorter one.
    assert made.along(features[:10]) == along[:10]
    assert made.along(features[:0]) == []


def test_what_tells_nothing_is_not_learned() -> None:
    features, _, relevant, queries = draw(7, 40)
    shuffled = np.random.default_rng(8).permutation(relevant)
    with pytest.raises(Conflict, match="tells no more") as refused:
        _learned("hybrid", "people", NAMES, features, shuffled, queries)
    assert refused.value.code == "relevance_not_learned"
    learned = _learned("hybrid", "people", NAMES, features, relevant, queries)
    assert learned.squared_error < learned.squared_error_of_share
    assert (learned.queries, learned.hits, learned.relevant) == (40, 800, int(relevant.sum()))


@pytest.mark.parametrize("few", ["queries", "relevant", "others"])
def test_too_little_is_not_learned_from(few: str) -> None:
    features, _, relevant, queries = draw(9, 12)
    if few == "queries":
        features, relevant, queries = features[:180], relevant[:180], queries[:180]
    elif few == "relevant":
        relevant = np.where(np.cumsum(relevant) > 9, 0.0, relevant)
    else:
        relevant = np.where(np.cumsum(1 - relevant) > 9, 1.0, relevant)
    with pytest.raises(Conflict, match="at least 10 of each") as refused:
        _learned("hybrid", "people", NAMES, features, relevant, queries)
    assert refused.value.code == "too_few_judgements"
