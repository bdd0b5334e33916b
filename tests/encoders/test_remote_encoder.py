"""Against a real HTTP server on loopback, which fails as a test's script says."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from embedding_server import Answer, EmbeddingServer

from app.compute.deadline import Deadline, deadline
from app.encoders.remote import FIRST_DELAY_S, LONGEST_DELAY_S, RemoteEncoder
from app.errors import EncoderRefused, EncoderUnavailable, TextRefused, TooSlow
from app.settings import RemoteModel

TEXTS = ["the cat", "a dog sat", "read", "zip file", "the cat"]
Make = Callable[..., RemoteEncoder]


@pytest.fixture
def waits() -> list[float]:
    """The pauses between tries, in seconds; none is slept."""
    return []


@pytest.fixture
def make(server: EmbeddingServer, waits: list[float]) -> Iterator[Make]:
    opened: list[RemoteEncoder] = []

    def remote(**settings: Any) -> RemoteEncoder:
        full: dict[str, Any] = {"url": server.url, "model": "m", "dim": server.dim, **settings}
        opened.append(RemoteEncoder(RemoteModel(type="remote", **full), waits.append))
        return opened[-1]

    yield remote
    for encoder in opened:
        encoder.close()


def answer(status: int, body: Any = "", **headers: str) -> Callable[[dict[str, Any]], Answer]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _: (status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def test_vectors_come_in_the_order_of_the_texts(server: EmbeddingServer, make: Make) -> None:
    found = make().encode_documents(TEXTS)
    assert np.allclose(found.pooled, np.array(server.vectors(TEXTS)), atol=1e-6)
    assert found.tokens is None
    assert found.truncated.tolist() == [False] * len(TEXTS)


def test_texts_go_in_batches_with_prefixes_model_and_key(server: EmbeddingServer, make: Make) -> None:
    encoder = make(batch=2, api_key="s3cret", query_prefix="q: ", document_prefix="d: ")
    encoder.encode_documents(TEXTS)
    found = encoder.encode_queries(["the cat"])
    assert [body["input"] for _, _, body in server.requests] == [
        ["d: the cat", "d: a dog sat"], ["d: read", "d: zip file"], ["d: the cat"], ["q: the cat"],
    ]  # fmt: skip
    assert {path for path, _, _ in server.requests} == {"/v1/embeddings"}
    assert {headers["authorization"] for _, headers, _ in server.requests} == {"Bearer s3cret"}
    assert {body["model"] for _, _, body in server.requests} == {"m"}
    assert np.allclose(found.pooled, np.array(server.vectors(["q: the cat"])), atol=1e-6)


def test_no_texts_send_nothing(server: EmbeddingServer, make: Make) -> None:
    assert make().encode_documents([]).pooled.shape == (0, server.dim)
    assert server.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(server: EmbeddingServer, make: Make, waits: list[float], status: int) -> None:
    server.script = [answer(status), answer(status)]
    assert np.allclose(make().encode_queries(TEXTS).pooled, np.array(server.vectors(TEXTS)), atol=1e-6)
    assert len(server.requests) == 3
    assert [0 <= wait <= FIRST_DELAY_S * 2**i for i, wait in enumerate(waits)] == [True, True]


def test_pauses_grow_and_have_jitter(server: EmbeddingServer, make: Make, waits: list[float]) -> None:
    server.script = [answer(500)] * 44
    for _ in range(4):
        with pytest.raises(EncoderUnavailable, match="after 11 tries: status 500"):
            make(retries=10).encode_queries(["a"])
    assert len(waits) == len(set(waits)) == 40
    assert max(waits[8:10] + waits[18:20] + waits[28:30] + waits[38:40]) > FIRST_DELAY_S * 8
    assert max(waits) <= LONGEST_DELAY_S


def test_retry_after_is_honoured(server: EmbeddingServer, make: Make, waits: list[float]) -> None:
    server.script = [answer(429, Retry_After="7"), answer(503, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")]
    make().encode_queries(["a"])
    assert waits == [7.0, 0.0]


def test_a_server_that_asks_for_too_long_is_not_waited_for(
    server: EmbeddingServer, make: Make, waits: list[float]
) -> None:
    server.script = [answer(429, Retry_After="3600")]
    with pytest.raises(EncoderUnavailable, match="after 1 tries: status 429"):
        make().encode_queries(["a"])
    assert waits == []


def test_a_server_that_stays_down_is_unavailable_and_named(server: EmbeddingServer, make: Make) -> None:
    server.script = [answer(500)] * 4
    with pytest.raises(EncoderUnavailable, match=rf"{server.url}/embeddings does not answer after 4 tries: status 500"):
        make().encode_queries(["a"])
    assert len(server.requests) == 4


def test_a_refused_connection_is_unavailable(make: Make, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        # Bound and not listening: nobody else can take the port, and connecting is refused.
        with pytest.raises(EncoderUnavailable, match=rf"127\.0\.0\.1:{port}/v1/embeddings .* 2 tries: ConnectError"):
            make(url=f"http://127.0.0.1:{port}/v1", retries=1).encode_queries(["a"])
    assert len(waits) == 1


def test_a_server_that_hangs_is_unavailable(server: EmbeddingServer, make: Make) -> None:
    server.script = [server.hanging]
    with pytest.raises(EncoderUnavailable, match="after 1 tries: ReadTimeout"):
        make(timeout_s=0.05, retries=0).encode_queries(["a"])


def test_no_try_goes_beyond_the_deadline(server: EmbeddingServer, make: Make) -> None:
    """The time is over once the server has been asked."""
    server.script = [server.hanging]
    time = Deadline(0.2, lambda: float(bool(server.requests)))
    with pytest.raises(TooSlow, match="does not answer in the time that the search may take"), deadline(time):
        make(timeout_s=600, retries=10).encode_queries(["a"])
    assert len(server.requests) == 1


def test_no_pause_goes_beyond_the_deadline(server: EmbeddingServer, make: Make, waits: list[float]) -> None:
    """The clock stands still but for the pauses."""
    server.script = [answer(503, Retry_After="7")] * 2
    now = Deadline(10.0, lambda: sum(waits))
    with pytest.raises(TooSlow, match="in the time that the search may take: status 503"), deadline(now):
        make(retries=3).encode_queries(["a"])
    assert (len(server.requests), waits) == (2, [7.0])


def test_a_cut_connection_is_tried_again(server: EmbeddingServer, make: Make) -> None:
    def cut(body: dict[str, Any]) -> Answer:
        return 200, {"Connection": "close", "Transfer-Encoding": "chunked"}, b"1000\r\nno more than this"

    server.script = [cut]
    assert make().encode_queries(["a"]).pooled.shape == (1, server.dim)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [301, 401, 404])
def test_a_refusal_is_not_tried_again(server: EmbeddingServer, make: Make, status: int) -> None:
    server.script = [answer(status, {"error": {"message": "too long"}}, Location="/elsewhere")]
    with pytest.raises(EncoderRefused, match=f"answered status {status}") as caught:
        make().encode_queries(["a"])
    assert len(server.requests) == 1
    assert ("too long" in str(caught.value)) == (status != 401)


def refuse(server: EmbeddingServer, status: int, refused: Callable[[list[str]], bool]) -> None:
    """From now on the server answers so to what it refuses."""
    right = server.right
    said = status, {"Content-Type": "application/json"}, b'{"error": {"message": "too long"}}'
    server.right = lambda body: said if refused(body["input"]) else right(body)  # type: ignore[method-assign]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_texts_that_are_refused_alone_are_named(server: EmbeddingServer, make: Make, status: int) -> None:
    texts = [f"text {i}" for i in range(100)]
    texts[57] = texts[90] = "long " * 1_000
    refuse(server, status, lambda texts: any(len(text) > 1_000 for text in texts))
    encoder = make(batch=64)
    with pytest.raises(TextRefused) as caught:
        encoder.encode_documents(texts)
    assert caught.value.texts.keys() == {57, 90}
    assert all(f"answered status {status}" in why and "too long" in why for why in caught.value.texts.values())
    assert [problem.pointer for problem in caught.value.problems] == ["/57", "/90"]
    assert (caught.value.status, caught.value.code) == (422, "text_refused")
    # Two batches, each halved down to one text, and one that asks whether any text is taken.
    assert len(server.requests) <= 2 * (1 + 2 * 6) + 1
    # Nothing was too much at once, so what is right goes as before.
    before = len(server.requests)
    right = [text for text in texts if len(text) < 1_000]
    assert np.array_equal(encoder.encode_documents(right).pooled, np.array(server.vectors(right), np.float32))
    assert len(server.requests) - before == 2


def test_batches_follow_a_server_that_takes_fewer_texts(server: EmbeddingServer, make: Make) -> None:
    texts = [f"text {i}" for i in range(100)]
    refuse(server, 422, lambda texts: len(texts) > 20)
    encoder = make(batch=64)
    for refusals in (2, 0):
        before = len(server.requests)
        assert np.array_equal(encoder.encode_documents(texts).pooled, np.array(server.vectors(texts), np.float32))
        sizes = [len(body["input"]) for _, _, body in server.requests[before:]]
        # 64 and its first half; from then on 16 at a time, but for the other half of the first.
        assert sum(size > 20 for size in sizes) <= refusals + 1 if refusals else max(sizes) == 16
    assert len(sizes) == 7


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_takes_no_text_is_told_from_one_that_refuses_some(
    server: EmbeddingServer, make: Make, status: int
) -> None:
    refuse(server, status, lambda texts: True)
    with pytest.raises(EncoderRefused, match=f"answered status {status}.*too long"):
        make(batch=64).encode_documents([f"text {i}" for i in range(1_000)])
    assert len(server.requests) == 8


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_it_goes_nowhere_else_when_told_to(server: EmbeddingServer, make: Make, status: int) -> None:
    """The texts and the key are for the configured server alone."""
    with closing(EmbeddingServer()) as other:
        server.script = [answer(status, "", Location=f"{other.url}/v1/embeddings")]
        with pytest.raises((EncoderRefused, EncoderUnavailable)):
            make(retries=0).encode_queries(["a secret"])
        assert other.requests == []


def vector(*values: Any) -> list[Any]:
    return [*values, *[0.5] * (EmbeddingServer.dim - len(values))]


BAD = {
    "not JSON": b"<html>",
    "no object": [1],
    "no data": {"embeddings": []},
    "no objects": {"data": [[1.0]]},
    "too few": {"data": [{"index": 0, "embedding": vector()}]},
    "too many": {"data": [{"index": i, "embedding": vector()} for i in range(3)]},
    "an index twice": {"data": [{"index": 0, "embedding": vector()}] * 2},
    "no index": {"data": [{"embedding": vector()}] * 2},
    "an index as text": {"data": [{"index": str(i), "embedding": vector()} for i in range(2)]},
    "short": {"data": [{"index": i, "embedding": vector()[1:]} for i in range(2)]},
    "long": {"data": [{"index": i, "embedding": [*vector(), 1.0]} for i in range(2)]},
    "no embedding": {"data": [{"index": i} for i in range(2)]},
    "base64": {"data": [{"index": i, "embedding": "AAAA"} for i in range(2)]},
    "null": {"data": [{"index": i, "embedding": vector(None)} for i in range(2)]},
    "text": {"data": [{"index": i, "embedding": vector("1.0")} for i in range(2)]},
    "boolean": {"data": [{"index": i, "embedding": vector(True)} for i in range(2)]},
    "nested": {"data": [{"index": i, "embedding": vector([1.0])} for i in range(2)]},
    "NaN": {"data": [{"index": i, "embedding": vector(float("nan"))} for i in range(2)]},
    "infinity": {"data": [{"index": i, "embedding": vector(float("-inf"))} for i in range(2)]},
    "over float32": {"data": [{"index": i, "embedding": vector(1e39)} for i in range(2)]},
    "over float64": {"data": [{"index": i, "embedding": vector(10**400)} for i in range(2)]},
}


@pytest.mark.parametrize("bad", list(BAD))
def test_an_answer_of_another_shape_is_refused_at_once(server: EmbeddingServer, make: Make, bad: str) -> None:
    server.script = [answer(200, BAD[bad])]
    with pytest.raises(EncoderRefused, match=server.url):
        make().encode_documents(["a", "b"])
    assert len(server.requests) == 1


def test_secrets_are_in_no_message_and_no_log(
    server: EmbeddingServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("//", "//user:pa55word@")
    failures = [
        ([answer(401, "bad key s3cret")], EncoderRefused),
        ([answer(400, "key s3cret and pa55word")], TextRefused),
        ([answer(400, "key s3cret and pa55word")] * 2, EncoderRefused),
        ([answer(500, "s3cret")], EncoderUnavailable),
        ([answer(200, b"s3cret")], EncoderRefused),
        ([answer(200, {"data": "s3cret"})], EncoderRefused),
    ]
    with caplog.at_level(logging.DEBUG):
        encoder = make(url=url, api_key="s3cret", retries=0)
        for script, kind in failures:
            server.script = script
            with pytest.raises(kind) as caught:
                encoder.encode_queries(["a"])
            assert "s3cret" not in str(caught.value)
            assert "pa55word" not in str(caught.value)
        encoder.encode_queries(["a"])
    assert caplog.records
    assert not [record for record in caplog.messages if "s3cret" in record or "pa55word" in record]


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http:///v1", "http://h/v1?key=1", "http://h:port/v1", ""])
def test_a_url_that_cannot_be_is_refused(make: Make, url: str) -> None:
    with pytest.raises(EncoderRefused, match="URL"):
        make(url=url)


def test_fingerprint_is_the_models_not_the_servers(make: Make) -> None:
    one = make().fingerprint
    assert one.differences(make(url="http://elsewhere/v1/", api_key="k").fingerprint) == []
    assert one.differences(make(model="n").fingerprint) == ["weights"]
    assert one.differences(make(document_prefix="d: ").fingerprint) == ["details.document_prompt"]


def test_threads_share_one_encoder(server: EmbeddingServer, make: Make) -> None:
    encoder = make(batch=1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: encoder.encode_queries([text]).pooled[0], TEXTS * 5))
    assert np.allclose(found, np.array(server.vectors(TEXTS * 5)), atol=1e-6)
