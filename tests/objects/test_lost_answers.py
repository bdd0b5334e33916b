"""What becomes of requests that fail, over a bucket whose network does."""

from __future__ import annotations

import os
import socket
import time
from itertools import count

import pytest
from s3_server import KEYS, S3Server

from app.errors import ObjectChanged, ObjectTaken, StoreRefused, StoreUnavailable, Unsure
from app.objects.opening import open_objects
from app.objects.protocol import Objects

_NAMES = (f"lost/{i}" for i in count())


@pytest.fixture(scope="module")
def objects(s3: S3Server) -> Objects:
    return open_objects(f"s3://{s3.bucket}/p", endpoint=s3.endpoint, deadline_s=3, request_s=1, **KEYS)


@pytest.fixture
def name() -> str:
    return next(_NAMES)


@pytest.mark.parametrize("kind", ["applied 500", "applied reset", "500", "503", "reset", "409"])
def test_a_put_that_failed_is_applied_once(s3: S3Server, objects: Objects, name: str, kind: str) -> None:
    s3.fail(kind, name=name)
    tag = objects.put_new(name, b"ours")
    assert objects.get(name) == (b"ours", tag)
    s3.fail(kind, name=name)
    tag = objects.replace(name, b"ours again", tag)
    assert objects.get(name) == (b"ours again", tag)
    assert not s3.faults


@pytest.mark.parametrize("kind", ["500", "reset", "409"])
def test_one_that_comes_between_is_told_from_ours(s3: S3Server, objects: Objects, name: str, kind: str) -> None:
    objects.put_new(name, b"another's")
    s3.fail(kind, name=name)
    with pytest.raises(ObjectTaken) as refused:
        objects.put_new(name, b"ours")
    assert refused.value.content == b"another's"
    s3.fail(kind, name=name)
    with pytest.raises(ObjectChanged):
        objects.replace(name, b"ours", '"0"')
    assert not s3.faults


def test_an_answer_that_never_comes_leaves_it_unsure(s3: S3Server, objects: Objects, name: str) -> None:
    s3.fail("applied reset", *["reset"] * 20, name=name)
    with pytest.raises(Unsure, match="not known yet"):
        objects.put_new(name, b"ours")
    s3.faults.clear()
    assert objects.put_new(name, b"ours") == objects.get(name)[1]


def test_what_was_surely_not_applied_is_not_unsure(s3: S3Server, objects: Objects, name: str) -> None:
    s3.fail(*["503"] * 20, name=name)
    with pytest.raises(StoreUnavailable) as refused:
        objects.put_new(name, b"ours")
    s3.faults.clear()
    assert not isinstance(refused.value, Unsure)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    nowhere = open_objects("s3://sheaf/p", endpoint=closed, deadline_s=0.3, request_s=1, **KEYS)
    with pytest.raises(StoreUnavailable, match="is not reached") as unreached:
        nowhere.put_new(name, b"ours")
    assert not isinstance(unreached.value, Unsure)


def test_a_refused_key_is_told_at_once(s3: S3Server, objects: Objects, name: str) -> None:
    began = len(s3.seen)
    s3.fail("403", name=name)
    with pytest.raises(StoreRefused, match="refuses the key"):
        objects.put_new(name, b"ours")
    assert len(s3.seen) == began + 1
    elsewhere = open_objects("s3://none/p", endpoint=s3.endpoint, **KEYS)
    for call in (lambda: elsewhere.get(name), lambda: elsewhere.put_new(name, b"ours")):
        with pytest.raises(StoreRefused, match="no such bucket"):
            call()


@pytest.mark.parametrize("kind", ["500", "503", "reset", "slow"])
def test_a_read_is_tried_again(s3: S3Server, objects: Objects, name: str, kind: str) -> None:
    objects.put_new(name, b"ours")
    s3.fail(kind, method="GET", name=name)
    assert objects.get(name)[0] == b"ours"
    s3.fail(kind, method="GET", name=name)
    assert objects.read(name, 1, 2) == b"ur"
    assert not s3.faults


def test_every_call_ends_by_its_deadline(s3: S3Server, objects: Objects, name: str) -> None:
    s3.fail(*["500"] * 50, method="GET", name=name)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        objects.get(name)
    s3.faults.clear()
    # Its deadline, and one request more.
    assert time.monotonic() - began < 4 + 1


def test_a_503_that_is_not_the_stores_own_leaves_a_put_unsure(s3: S3Server, name: str) -> None:
    hasty = open_objects(f"s3://{s3.bucket}/p", endpoint=s3.endpoint, deadline_s=0.3, request_s=1, **KEYS)
    s3.fail(*["gateway"] * 20, name=name)
    with pytest.raises(Unsure):
        hasty.put_new(name, b"ours")
    s3.faults.clear()


def test_a_large_request_has_the_time_that_its_size_needs(s3: S3Server, name: str) -> None:
    hasty = open_objects(f"s3://{s3.bucket}/p", endpoint=s3.endpoint, deadline_s=0.1, request_s=0.5, **KEYS)
    s3.latency_s = 0.9
    try:
        with pytest.raises(Unsure):
            hasty.put_new(name, b"little")
        hasty.put_new(f"{name}.large", bytes(2**18))
    finally:
        s3.latency_s = 0


def test_empty_variables_are_as_none(s3: S3Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(variable, "")
    objects = open_objects(
        "s3://sheaf/p", region="us-east-1", deadline_s=0.1, request_s=0.2, access_key="a", secret_key="b"
    )
    assert not {name for name, value in os.environ.items() if name.startswith("AWS_") and not value}
    assert objects.place == "s3://sheaf/p"
