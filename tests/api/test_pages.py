"""The search page's files, and the headers that confine them."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import pytest

from app.api.routes.pages import FOLDER, page_router

NAMES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


def test_the_page_is_at_the_root(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_confined(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(f"/{name}").content == b""


@pytest.mark.parametrize("name", [name for name in NAMES if (FOLDER / name).stat().st_size > 1_000])
def test_a_file_is_packed_where_that_is_taken(client: httpx.Client, name: str) -> None:
    plain = client.get(f"/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", f"/{name}", headers={"Accept-Encoding": "gzip"}) as packed:
        sent = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert gzip.decompress(sent) == plain.content == (FOLDER / name).read_bytes()
    assert len(sent) < 0.6 * len(plain.content)
    # One validator for both, so a weak one.
    assert packed.headers["etag"] == plain.headers["etag"]
    assert plain.headers["etag"].startswith('W/"')
    piece = client.get(f"/{name}", headers={"Range": "bytes=0-9", "Accept-Encoding": "gzip"})
    assert piece.content == plain.content[:10]


@pytest.mark.parametrize(
    "path", ["/no.js", "/%2e%2e/__init__.py", "/..%2f__init__.py", "/static/index.html", "//etc/passwd", "/.hidden"]
)
def test_nothing_else_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).json()["code"] == "not_found"


def test_a_method_that_only_reads_is_needed(client: httpx.Client) -> None:
    refused = client.post("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_files_below_have_their_paths(tmp_path: Path) -> None:
    (tmp_path / "fonts").mkdir()
    for name in ("index.html", "a.js", "fonts/b.woff2"):
        (tmp_path / name).write_text("x")
    paths = [getattr(route, "path", None) for route in page_router(tmp_path).routes]
    assert paths == ["/a.js", "/fonts/b.woff2", "/index.html", "/"]
