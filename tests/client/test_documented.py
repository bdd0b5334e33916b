"""The table of integrations speaks of what is pinned and of tests that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_has_the_versions_that_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {one for name in ("dev", "peers") for one in project["optional-dependencies"][name]}
    rows = re.findall(r"^\| .*tests/.* \|$", (ROOT / "docs" / "integrations.md").read_text(), re.MULTILINE)
    assert len(rows) == 8
    for row in rows:
        _, _, _, version, suite, passed, file, _ = (cell.strip() for cell in row.split("|"))
        assert version.replace(" ", "==") in pinned
        assert re.fullmatch(r"(\d+) of \1", passed)
        assert (ROOT / file).is_file()
        if found := re.match(r"langchain-tests [\d.]+", suite):
            assert found[0].replace(" ", "==") in pinned
    extras = {one for name, extra in project["optional-dependencies"].items() if name != "dev" for one in extra}
    named = {"langchain-core", "haystack-ai", "llama-index-core", "mcp"}
    assert {one for one in pinned if one.partition("==")[0] in named} <= extras


def test_the_generator_of_clients_is_the_one_that_is_locked() -> None:
    lock = (ROOT / "scripts" / "peers" / "generator.lock").read_text()
    (version,) = re.findall(r"^openapi-python-client==(\S+)", lock, re.MULTILINE)
    assert f"With openapi-python-client {version} and this" in (ROOT / "docs" / "integrations.md").read_text()
    assert f"echo openapi-python-client=={version})" in (ROOT / "scripts" / "lock.sh").read_text()
