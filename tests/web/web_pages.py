"""A server with documents to search, and a page that remembers what went wrong in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import prestarted
import pytest
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "app" / "web" / "static"
PHONE: dict[str, Any] = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
HOSTILE: dict[str, Any] = {
    "id": "\"><img src=x onerror='window.ran=1'>",
    "title": "hostile <img src=x onerror=\"window.ran='title'\">",
    "text": "<script>window.ran = 'text'</script> <svg onload=\"window.ran='svg'\"> &lt;b&gt; javascript:alert(1)",
    "metadata": {"link": "<a href=\"javascript:window.ran='link'\">click</a>"},
}
ANIMALS: list[dict[str, Any]] = [
    {"id": "cat", "title": "Cat", "text": "a cat sleeps on the mat", "metadata": {"legs": 4, "tags": ["pet", "soft"]}},
    {"id": "dog", "title": "Dog", "text": "a dog sleeps at night", "metadata": {"legs": 4, "loud": True}},
    {"id": "hen", "title": "", "text": "a hen lays eggs", "metadata": {"legs": 2, "serial": 2**53 + 1}},
    {"id": "owl", "title": "Owl", "text": "\n  owl(night)\n\n    hunts mice\n" + "and hunts on " * 60 + "until dawn"},
    {"id": "w" * 500, "title": "W" * 300, "text": "wide " + "w" * 900, "metadata": {"k" * 90: "v" * 900}},
    HOSTILE,
]
PLANTS = [{"id": "oak", "text": "the oak drops acorns"}, {"id": "fir", "text": "the fir keeps its needles"}]


def make_broken(folder: Path) -> None:
    """A collection of a server's folder, `broken`, that no server can open."""
    broken = folder / "indexes" / "broken"
    broken.mkdir(parents=True)
    (broken / "collection.sqlite").write_bytes(b"no database")


class Server:
    """``python -m app`` over a folder, with the deterministic encoder as `words`."""

    def __init__(self, folder: Path, key: str | None = None, **environment: str) -> None:
        """key: what the test's own client sends. environment: more settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        settings = {
            "SHEAF_PORT": "0",
            "SHEAF_INDEXES": str(folder / "indexes"),
            "SHEAF_MODELS": '{"words": {"type": "deterministic", "dim": 64}}',
            **environment,
        }
        self._log = folder / "log"
        with self._log.open("w") as log:
            self.process = prestarted.Popen(
                [sys.executable, "-m", "app"],
                cwd=ROOT,
                env={**kept, **settings},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Sheaf is ready at "):
            self.end()
            pytest.fail(f"the server did not start:\n{self._log.read_text()}")
        self.url = line.split()[-1]
        headers = {} if key is None else {"X-API-Key": key}
        self.client = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)

    def create(self, name: str, documents: list[dict[str, Any]], **encoder: Any) -> None:
        answer = self.client.post("/v1/collections", json={"name": name, "encoder": {"model": "words", **encoder}})
        assert answer.status_code == 201, answer.text
        if documents:
            answer = self.client.post(f"/v1/collections/{name}/documents", json={"documents": documents})
            assert answer.status_code == 200, answer.text

    def search(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/v1/collections/{name}/search", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def end(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
        self.process.terminate()
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@dataclass
class Visit:
    """A page, and what it did. errors: what the console showed. expected: how errors end that a test brings about, of
    which there may be any number, at any time until the page is closed.
    """

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    @property
    def unexpected(self) -> list[str]:
        return [error for error in self.errors if not error.endswith(self.expected)]

    def go(self, **state: str) -> Page:
        """To the page with this state in its URL."""
        self.page.goto(f"{self.url}/?{urlencode(state)}")
        return self.page


def state_of(page: Page) -> dict[str, str]:
    """What its address says."""
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


Visits = Callable[..., Visit]
