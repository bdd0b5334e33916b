"""The running Python's documentation: real, complete, each thing once, the same at every reading."""

import re
import sys

import pytest
from commands import ROOT

from app.types import Document

sys.path.insert(0, str(ROOT / "scripts"))
from python_docs import PythonDocs


def read() -> list[Document]:
    return [entry.found for entry in PythonDocs().entries() if isinstance(entry.found, Document)]


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {document.id: document for document in read()}


def test_every_entry_is_a_document_and_counted() -> None:
    source = PythonDocs()
    assert source.total is None
    entries = list(source.entries())
    assert source.done == source.total == len(entries) > 5_000
    assert [entry for entry in entries if not isinstance(entry.found, Document)] == []
    assert [entry.line for entry in entries] == list(range(1, len(entries) + 1))
    # Modules that cannot be imported are told; none of these is missing anywhere.
    assert not source.failed.keys() & {"os", "zipfile", "smtplib", "argparse", "json", "asyncio"}


def test_two_readings_are_equal(documents: dict[str, Document]) -> None:
    again = read()
    assert again == list(documents.values())
    assert [document.id for document in again] == sorted(documents)


@pytest.mark.parametrize(
    ("id", "kind", "module", "in_text"),
    [
        ("zipfile", "module", "zipfile", "Read and write ZIP files"),
        ("smtplib", "module", "smtplib", "SMTP"),
        ("argparse", "module", "argparse", "Command-line parsing library"),
        ("argparse.ArgumentParser", "class", "argparse", "prog=None"),
        ("zipfile.ZipFile.extractall", "method", "zipfile", "extractall(self, path=None, members=None, pwd=None)"),
        ("zipfile.BadZipFile", None, "zipfile", None),
        ("os.path.join", "function", "os.path", "join(a, *p)"),
        ("os.getcwd", "function", "os", "current working directory"),
        ("builtins.open", "function", "builtins", "Open file and return a stream"),
        ("builtins.str.split", "method", "builtins", "split(self, /, sep=None, maxsplit=-1)"),
        ("builtins.KeyError", "exception", "builtins", "Mapping key not found"),
        ("socket.socket.connect", "method", "socket", "connect"),
        ("argparse.ArgumentParser.add_argument", "method", "argparse", None),
        ("pathlib.PurePath.suffix", "property", "pathlib", "last suffix"),
        ("typing.Union", "data", "typing", "Union type"),
        ("asyncio.run", "function", "asyncio", "coroutine"),
    ],
)
def test_what_is_where(
    documents: dict[str, Document], id: str, kind: str | None, module: str, in_text: str | None
) -> None:
    if kind is None:  # has no docstring, so it is not documented
        assert id not in documents
        return
    document = documents[id]
    assert document.title == id.removeprefix("builtins.")
    assert (document.metadata["kind"], document.metadata["module"]) == (kind, module)
    assert document.metadata["package"] == module.partition(".")[0]
    if in_text is not None:
        assert in_text in document.text


def test_a_member_names_its_class_and_only_a_member(documents: dict[str, Document]) -> None:
    assert documents["zipfile.ZipFile.extractall"].metadata["class"] == "ZipFile"
    assert "class" not in documents["zipfile.ZipFile"].metadata


def test_one_home_each(documents: dict[str, Document]) -> None:
    # Re-exported, defined elsewhere, or inherited: documented under its public name alone.
    for absent in (
        "asyncio.runners.run",  # asyncio.run
        "io.open",  # open
        "posixpath.join",  # os.path.join
        "posix.getcwd",  # os.getcwd
        "socket.error",  # OSError
        "builtins.IOError",  # OSError
        "builtins.bool.bit_length",  # int.bit_length
        "io.BytesIO.fileno",  # io.IOBase.fileno
        "json.decoder.JSONDecoder",  # json.JSONDecoder
    ):
        assert absent not in documents


def test_nothing_private_nothing_empty_nothing_of_this_machine_alone(documents: dict[str, Document]) -> None:
    for document in documents.values():
        assert document.text.strip(), document.id
        assert not any(part.startswith("_") for part in document.id.split(".")), document.id
        assert re.search(r"0x[0-9a-f]{6,}", document.text.partition("\n")[0]) is None, document.id
        assert document.metadata["package"] not in ("antigravity", "this", "idlelib", "test", "turtledemo")


def test_nothing_of_the_environment_gets_in(monkeypatch: pytest.MonkeyPatch, documents: dict[str, Document]) -> None:
    # A default argument of cgi.FieldStorage, where there is one, is the environment itself.
    monkeypatch.setenv("SHEAF_TEST_SECRET", "hunter2-hunter2")
    again = read()
    assert not [document.id for document in again if "hunter2-hunter2" in document.text]
    assert again == list(documents.values())
    assert not [document.id for document in again if sys.prefix in document.text or sys.base_prefix in document.text]


def test_deprecated_is_said_where_python_says_it(documents: dict[str, Document]) -> None:
    assert documents["abc.abstractproperty"].metadata["deprecated"] is True
    assert documents["zipfile.ZipFile"].metadata["deprecated"] is False
    assert 0.001 < sum(d.metadata["deprecated"] is True for d in documents.values()) / len(documents) < 0.2
