"""Queries gathered into one pass, by many threads: whose vectors, whose errors, and who waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from app.compute.deadline import deadline
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.registry import Encoders
from app.encoders.together import MOST, Together
from app.errors import EncoderRefused, EncoderUnavailable, TooSlow
from app.types import Encoded

WORDS = DeterministicEncoder(8, "multi_vector")
SOON = 30


class Gate:
    """An encoder whose passes stop at a gate until the test lets one go."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.begun, self._open = threading.Semaphore(0), threading.Semaphore(0)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.passes.append(list(texts))
        self.begun.release()
        assert self._open.acquire(timeout=SOON)
        if "down" in texts:
            raise EncoderUnavailable("the remote is down")
        if "hasty" in texts:
            raise TooSlow("the one who made the pass has no time left")
        if "bad" in texts:
            raise EncoderRefused("a text is bad")
        return WORDS.encode_queries(texts)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=SOON)

    def let(self, passes: int = 1) -> None:
        self._open.release(passes)


class Callers:
    """Threads that ask, each known to wait in the queue before the next one comes."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self._pool = ThreadPoolExecutor(32)

    def ask(self, *texts: str, waits: bool = True) -> Future[Encoded]:
        before = len(self._together._waiting)
        asked = self._pool.submit(self._together.encode_queries, texts)
        while waits and len(self._together._waiting) == before:
            assert not asked.done()
        return asked


@pytest.fixture
def gate() -> Gate:
    return Gate()


def same(found: Encoded, texts: Sequence[str]) -> bool:
    expected = WORDS.encode_queries(texts)
    assert found.tokens is not None
    assert expected.tokens is not None
    return (
        np.array_equal(found.pooled, expected.pooled)
        and np.array_equal(found.tokens.values, expected.tokens.values)
        and found.tokens.offsets.tolist() == expected.tokens.offsets.tolist()
        and found.truncated.tolist() == expected.truncated.tolist()
    )


def test_an_idle_encoder_is_asked_at_once_as_often_as_there_are_cores(gate: Gate) -> None:
    callers = Callers(Together(gate.encode, 2))
    one, two = callers.ask("one", waits=False), callers.ask("two", waits=False)
    for _ in range(2):
        gate.wait_begun()
    assert sorted(gate.passes) == [["one"], ["two"]]
    gate.let(2)
    assert same(one.result(SOON), ["one"])
    assert same(two.result(SOON), ["two"])


def test_what_waits_goes_into_one_pass_and_each_gets_its_own(gate: Gate) -> None:
    callers = Callers(Together(gate.encode, 1))
    first = callers.ask("first", waits=False)
    gate.wait_begun()
    asked = [("a b", "c"), ("d",), (), ("e f g", " ".join(["long"] * 600))]
    waiting = [callers.ask(*texts) for texts in asked]
    gate.let(2)
    assert same(first.result(SOON), ["first"])
    for texts, found in zip(asked, waiting, strict=True):
        assert same(found.result(SOON), texts)
    assert gate.passes == [["first"], [text for texts in asked for text in texts]]


def test_a_pass_has_a_bound_and_a_larger_request_goes_alone(gate: Gate) -> None:
    callers = Callers(Together(gate.encode, 1))
    sizes = [1, MOST - 1, 2, MOST + 5, 1]
    asked = [callers.ask(*[f"{i} {n}" for n in range(size)], waits=i > 0) for i, size in enumerate(sizes)]
    gate.let(len(sizes))
    for found, size in zip(asked, sizes, strict=True):
        assert len(found.result(SOON).pooled) == size
    assert [len(texts) for texts in gate.passes] == [1, MOST - 1, 2, MOST + 5, 1]


def test_an_error_reaches_only_the_caller_whose_text_it_is(gate: Gate) -> None:
    together = Together(gate.encode, 1)
    callers = Callers(together)
    first = callers.ask("first", waits=False)
    gate.wait_begun()
    good, bad, other = callers.ask("good"), callers.ask("bad"), callers.ask("other")
    gate.let(5)
    assert first.result(SOON)
    assert same(good.result(SOON), ["good"])
    assert same(other.result(SOON), ["other"])
    with pytest.raises(EncoderRefused, match="a text is bad"):
        bad.result(SOON)
    # The place of the failed pass is free again.
    gate.let()
    assert same(together.encode_queries(["after"]), ["after"])


def test_an_encoder_that_is_down_is_asked_once(gate: Gate) -> None:
    callers = Callers(Together(gate.encode, 1))
    first = callers.ask("first", waits=False)
    gate.wait_begun()
    waiting = [callers.ask("one"), callers.ask("down"), callers.ask("three")]
    gate.let(2)
    assert first.result(SOON)
    for found in waiting:
        with pytest.raises(EncoderUnavailable, match="the remote is down"):
            found.result(SOON)
    assert len(gate.passes) == 2


def test_who_waits_past_the_deadline_leaves_the_queue(gate: Gate) -> None:
    together = Together(gate.encode, 1)
    callers = Callers(together)
    first = callers.ask("first", waits=False)
    gate.wait_begun()
    with pytest.raises(TooSlow), deadline(time.monotonic() + 0.05):
        together.encode_queries(["late"])
    patient = callers.ask("patient")
    gate.let(2)
    assert same(first.result(SOON), ["first"])
    assert same(patient.result(SOON), ["patient"])
    assert gate.passes == [["first"], ["patient"]]


def test_a_pass_whose_caller_has_no_time_left_is_made_again_by_those_who_have(gate: Gate) -> None:
    callers = Callers(Together(gate.encode, 1))
    first = callers.ask("first", waits=False)
    gate.wait_begun()
    hasty, *patient = callers.ask("hasty"), callers.ask("patient"), callers.ask("calm")
    gate.let()
    gate.wait_begun()
    last = callers.ask("last")
    gate.let(2)
    assert same(first.result(SOON), ["first"])
    with pytest.raises(TooSlow):
        hasty.result(SOON)
    assert same(patient[0].result(SOON), ["patient"])
    assert same(patient[1].result(SOON), ["calm"])
    assert same(last.result(SOON), ["last"])
    assert gate.passes == [["first"], ["hasty", "patient", "calm"], ["patient", "calm", "last"]]


def test_closing_tells_those_who_wait_and_lets_the_pass_end(gate: Gate) -> None:
    together = Together(gate.encode, 1)
    callers = Callers(together)
    running = callers.ask("running", waits=False)
    gate.wait_begun()
    waiting = [callers.ask("a"), callers.ask("b")]
    together.close()
    for found in waiting:
        with pytest.raises(EncoderUnavailable, match="stopping"):
            found.result(SOON)
    gate.let()
    assert same(running.result(SOON), ["running"])
    with pytest.raises(EncoderUnavailable, match="stopping"):
        together.encode_queries(["late"])
    assert gate.passes == [["running"]]


def test_many_threads_get_the_vectors_that_they_get_alone(builtin: Encoders) -> None:
    """The real encoder, whose batches change the last bits: a cosine of .9999 is its promise."""
    encoder = builtin.get("builtin", "multi_vector")
    passes: list[int] = []

    def encode(texts: Sequence[str]) -> Encoded:
        passes.append(len(texts))
        return encoder.encode_queries(texts)

    together = Together(encode, 1)
    texts = [f"query number {n}: " + "words of some length " * (n % 5) for n in range(48)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda text: together.encode_queries([text]), texts))
    assert sum(passes) == len(texts)
    assert len(passes) < len(texts)
    for text, gathered in zip(texts, found, strict=True):
        alone = encoder.encode_queries([text])
        assert gathered.tokens is not None
        assert alone.tokens is not None
        assert gathered.tokens.offsets.tolist() == alone.tokens.offsets.tolist()
        for one, other in ((gathered.pooled, alone.pooled), (gathered.tokens.values, alone.tokens.values)):
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            assert ((one * other).sum(axis=1) / lengths).min() > 0.9999


def test_the_registry_gathers_by_model_and_kind_and_closes(gate: Gate) -> None:
    encoders = Encoders({}, threads=1)
    encoders._maker = lambda name: lambda kind: Gated(gate, kind)  # type: ignore[method-assign]
    pool = ThreadPoolExecutor(4)
    ask: Callable[[str], Future[Encoded]] = lambda text: pool.submit(  # noqa: E731
        encoders.encode_queries, "builtin", "multi_vector", [text]
    )
    running = ask("running")
    gate.wait_begun()
    waiting = [ask("a"), ask("b")]
    together = encoders._open["builtin", "multi_vector"].together
    while len(together._waiting) < 2:
        assert not waiting[0].done()
    encoders.close()
    gate.let()
    assert same(running.result(SOON), ["running"])
    for found in waiting:
        with pytest.raises(EncoderUnavailable):
            found.result(SOON)


class Gated(DeterministicEncoder):
    """An encoder behind a gate."""

    def __init__(self, gate: Gate, kind: str) -> None:
        super().__init__(8, "multi_vector")
        self._gate = gate

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._gate.encode(texts)
