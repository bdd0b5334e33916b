"""A client that openapi-python-client generates from the API's description: every operation, and those that stream work
against a live server."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from beside import ROOT, installed
from running import Running

GIVEN = "docs/integrations.md"
"""Where what is given to the generator stands."""


def config() -> str:
    """As the documentation has it."""
    text = (ROOT / GIVEN).read_text()
    found = text.index("content_type_overrides:")
    return text[found : text.index("```", found)]


def described(server: Running) -> httpx.Response:
    return httpx.get(f"{server.url}/openapi.json", trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def generated(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package that it makes."""
    folder = tmp_path_factory.mktemp("generated")
    packages = installed("generator.lock", folder)
    # Its own formatter would find nothing to do that hangs on us, and takes seconds.
    (folder / "config.yaml").write_text(config() + "post_hooks: []\n")
    (folder / "openapi.json").write_bytes(described(server).content)
    line = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
    done = subprocess.run(
        [*line, "--config", "config.yaml", "--meta", "none", "--output-path", "sheaf_generated"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder / "sheaf_generated"
    sys.path.remove(str(folder))


Call = Callable[..., Any]


@pytest.fixture
def call(generated: Path, server: Running) -> Iterator[Call]:
    """An operation by its id, as it is generated, with what its answer was read as."""
    made = importlib.import_module("sheaf_generated")
    client = made.Client(base_url=server.url, httpx_args={"trust_env": False}, timeout=httpx.Timeout(60))

    def of(operation: str, *path: str, status: int = 200, **given: Any) -> Any:
        (file,) = (generated / "api").rglob(f"{operation}.py")
        module = importlib.import_module(f"sheaf_generated.api.{file.parent.name}.{operation}")
        answer = module.sync_detailed(*path, client=client, **given)
        assert answer.status_code == status, answer.content
        return answer.parsed

    with client:
        yield of


def models() -> ModuleType:
    return importlib.import_module("sheaf_generated.models")


def file_of(content: bytes) -> Any:
    return importlib.import_module("sheaf_generated.types").File(payload=io.BytesIO(content))


@pytest.mark.slow
def test_every_operation_is_generated(generated: Path, server: Running) -> None:
    paths = described(server).json()["paths"]
    operations = {one["operationId"] for methods in paths.values() for one in methods.values()}
    assert operations == {path.stem for path in (generated / "api").rglob("*.py")} - {"__init__"}


@pytest.mark.slow
def test_what_streams_goes_in_and_comes_out(call: Call) -> None:
    """Import, snapshot, download, restoring of an archive; a patch beside them."""
    encoder = models().EncoderChoice(model="words")
    call("create_collection", status=201, body=models().CreateCollection(name="generated", encoder=encoder))
    animals = {"cat": "a cat sleeps on the mat", "owl": "an owl sees at night"}
    lines = [json.dumps({"id": name, "text": text, "metadata": {"legs": 4}}) for name, text in animals.items()]

    def followed(task: Any) -> Any:
        while task.finished is None:
            task = call("get_task", task.id)
        assert task.state == "succeeded", task.errors
        return task

    followed(call("import_documents", "generated", status=202, body=file_of("\n".join(lines).encode())))
    changed = models().PatchDocument.from_dict({"text": "an owl sees by day", "metadata": {"legs": 2}})
    assert call("patch_document", "generated", "owl", body=changed).text == "an owl sees by day"
    saved = followed(call("take_snapshot", "generated", status=202))
    archive = call("download_snapshot", "generated", saved.id).payload.read()
    restored = call("restore_archive", "restored", status=201, body=file_of(archive))
    assert (restored.name, restored.documents) == ("restored", 2)
    answer = call("search_documents", "restored", body={"query": "owl by day", "filter": {"legs": 2}})
    assert [(hit.id, hit.text) for hit in answer.hits] == [("owl", "an owl sees by day")]
    exported = call("export_collection", "restored")
    assert [json.loads(line)["id"] for line in exported.splitlines()] == ["cat", "owl"]
    refused = call("search_documents", "restored", status=422, body={"query": "owl", "k": 0})
    assert [(one.pointer, refused.code) for one in refused.errors] == [("/k", "invalid")]
