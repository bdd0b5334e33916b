"""What every store of objects does, over a folder and over a bucket."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from s3_server import KEYS, S3Server

from app.errors import Damaged, Invalid, ObjectChanged, ObjectMissing, ObjectTaken, StoreUnavailable, Unsure
from app.objects.folder import Folder
from app.objects.opening import open_objects
from app.objects.protocol import Objects

_PLACES = count()


@pytest.fixture(scope="module", params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Objects:
    if request.param == "file":
        return open_objects(tmp_path_factory.mktemp("objects").as_uri())
    return open_objects(f"s3://{s3.bucket}/some/where", endpoint=s3.endpoint, **KEYS)


@pytest.fixture
def name(objects: Objects) -> str:
    """Of nothing yet."""
    return f"place{next(_PLACES)}/a"


def test_an_object_comes_back_as_it_was_put(objects: Objects, name: str) -> None:
    content = bytes(range(256)) * 3
    tag = objects.put_new(name, content)
    assert objects.get(name) == (content, tag)
    assert objects.read(name, 250, 20) == content[250:270]
    assert objects.read(name, 5, 0) == b""
    objects.put_new(f"{name}.empty", b"")
    assert objects.get(f"{name}.empty")[0] == b""


def test_what_is_not_there_is_missing(objects: Objects, name: str) -> None:
    for call in (lambda: objects.get(name), lambda: objects.read(name, 0, 1)):
        with pytest.raises(ObjectMissing, match="is missing"):
            call()
    assert objects.list(name.replace("/a", "/")) == []


@pytest.mark.parametrize("start", [0, 2, 3, 10])
def test_a_range_beyond_the_end_is_damage(objects: Objects, name: str, start: int) -> None:
    objects.put_new(name, b"abc")
    with pytest.raises(Damaged, match="expected 9 bytes"):
        objects.read(name, start, 9)


def test_a_new_object_takes_the_place_of_none(objects: Objects, name: str) -> None:
    objects.put_new(name, b"first")
    with pytest.raises(ObjectTaken) as refused:
        objects.put_new(name, b"second")
    assert refused.value.content == b"first"
    # The same bytes are the same put, whose answer may have been lost.
    assert objects.put_new(name, b"first") == objects.get(name)[1]


def test_a_swap_compares(objects: Objects, name: str) -> None:
    with pytest.raises(ObjectChanged):
        objects.replace(name, b"x", objects.put_new(f"{name}.other", b"other"))
    first = objects.replace(name, b"first", None)
    with pytest.raises(ObjectChanged):
        objects.replace(name, b"second", None)
    second = objects.replace(name, b"second", first)
    with pytest.raises(ObjectChanged):
        objects.replace(name, b"third", first)
    assert objects.get(name) == (b"second", second)
    # Its own answer was lost: it is there, and says so.
    assert objects.replace(name, b"second", first) == second
    objects.remove([name])
    with pytest.raises(ObjectChanged):
        objects.replace(name, b"third", second)
    with pytest.raises(ObjectMissing):
        objects.get(name)


def test_a_listing_is_in_order_and_begins_after_a_name(objects: Objects, name: str) -> None:
    folder = name.rpartition("/")[0]
    names = [f"{folder}/{i:03}/{j}" for i in (1, 2, 10) for j in "ba"]
    for i, one in enumerate(names):
        objects.put_new(one, b"x" * i)
    objects.put_new(f"{folder}0/other", b"of another folder")
    listed = objects.list(f"{folder}/")
    assert [one.name for one in listed] == sorted(names)
    assert {one.name: one.size for one in listed} == {one: i for i, one in enumerate(names)}
    assert all(one.modified > 1_500_000_000 for one in listed)
    assert [one.name for one in objects.list(f"{folder}/", sorted(names)[2])] == sorted(names)[3:]
    assert [one.name for one in objects.list(f"{folder}/002/")] == [f"{folder}/002/a", f"{folder}/002/b"]


def test_removal_passes_over_what_is_not_there(objects: Objects, name: str) -> None:
    objects.put_new(name, b"x")
    objects.remove([f"{name}.none", name])
    objects.remove([name])
    objects.remove([])
    assert objects.list(f"{name.rpartition('/')[0]}/") == []
    objects.put_new(name, b"another")


def test_a_large_object_goes_in_parts(objects: Objects, name: str) -> None:
    content = b"".join(i.to_bytes(4, "big") for i in range((9 << 20) // 4))
    stream = BytesIO(b"before" + content)
    stream.seek(6)
    assert objects.put(name, stream) == len(content)
    assert objects.read(name, len(content) - 4, 4) == content[-4:]
    assert objects.get(name)[0] == content


@pytest.mark.parametrize("way", ["put_new", "replace"])
def test_of_puts_that_meet_one_is_applied(objects: Objects, name: str, way: str) -> None:
    tag = objects.put_new(name, b"0") if way == "replace" else None
    puts: dict[str, Callable[[int], Any]] = {
        "put_new": lambda i: objects.put_new(name, b"put %d" % i),
        "replace": lambda i: objects.replace(name, b"put %d" % i, tag),
    }

    def put(i: int) -> int | None:
        try:
            puts[way](i)
        except (ObjectTaken, ObjectChanged):
            return None
        return i

    with ThreadPoolExecutor(8) as pool:
        won = [i for i in pool.map(put, range(8)) if i is not None]
    assert len(won) == 1
    assert objects.get(name)[0] == b"put %d" % won[0]


@pytest.mark.parametrize("bad", ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "ä", "~lock", "a" * 513])
def test_what_is_no_name_never_reaches_the_store(objects: Objects, bad: str) -> None:
    for call in (
        lambda: objects.get(bad), lambda: objects.put_new(bad, b"x"), lambda: objects.replace(bad, b"x", None),
        lambda: objects.put(bad, BytesIO(b"x")), lambda: objects.remove([bad]), lambda: objects.read(bad, 0, 1),
    ):  # fmt: skip
        with pytest.raises(Invalid, match="is no name of an object"):
            call()


def test_calls_at_a_time_give_their_results_in_order(objects: Objects, name: str) -> None:
    objects.put_new(name, b"x")
    done: list[int] = []

    def call(i: int) -> int:
        if i == 3:
            objects.get(f"{name}.none")
        done.append(i)
        return i

    assert objects.together([lambda i=i: call(i) for i in (5, 0, 2)]) == [5, 0, 2]
    with pytest.raises(ObjectMissing):
        objects.together([lambda i=i: call(i) for i in (1, 3, 4)])
    assert sorted(done) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    "url", ["", "sheaf", "s3://", "s3:///x", "http://x/y", "file://host/x", "file:///", "s3://b/p?x=1", "s3://b/../c"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match=r"expected s3://bucket/prefix or file:///folder|is no name of an object"):
        open_objects(url)


def test_a_folder_outlives_its_opening(tmp_path: Path) -> None:
    url = (tmp_path / "new" / "place").as_uri()
    tag = open_objects(url).put_new("a/b", b"kept")
    assert open_objects(url).get("a/b") == (b"kept", tag)
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == ["a", "~coming"]
    assert list((tmp_path / "new" / "place" / "~coming").iterdir()) == []


@pytest.mark.parametrize("call", ["link", "replace"])
def test_a_name_that_a_folder_may_have_given_leaves_a_put_unsure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = Folder(tmp_path)
    tag = folder.put_new("a", b"first")

    def broken(*given: Any, **named: Any) -> None:
        raise OSError(errno.EIO, "the server did not answer")

    monkeypatch.setattr(*((os, "link") if call == "link" else (Path, "replace")), broken)
    with pytest.raises(Unsure, match="perhaps put"):
        folder.put_new("b", b"second") if call == "link" else folder.replace("a", b"second", tag)


def test_a_folder_that_is_not_read_is_no_empty_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.put_new("leases/a", b"lease")
    assert [one.name for one in folder.list("leases/")] == ["leases/a"]
    assert folder.list("none/") == []

    def broken(*given: Any) -> None:
        raise OSError(errno.EIO, "not read")

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StoreUnavailable):
        folder.list("leases/")
