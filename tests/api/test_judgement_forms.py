"""Sets of judged queries in the forms of others: what comes in goes out, and faults are told by their lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from zipfile import ZipFile

import httpx
import pytest

QUERIES: list[dict[str, Any]] = [
    {"id": "301", "query": "international organized crime", "grades": {"FBIS-1": 2, "FT-7": 0}},
    {"id": "q é", "query": "hubble\u2028telescope", "grades": {"a b": 1}},
]
PLAIN = QUERIES[:1]
LINES = "".join(json.dumps(one) + "\n" for one in QUERIES)
TOPICS = "301\tinternational organized crime\n302\tpolio\r\n"
QRELS = "301 0 FBIS-1 2\n301 0 FT-7 -2\n"
BEIR = "query-id\tcorpus-id\tscore\n301\tFBIS-1\t2\n301\tFT-7\t0\n"
TEXT, TABS, NDJSON, ZIP = "text/plain", "text/tab-separated-values", "application/x-ndjson", "application/zip"


def put(client: httpx.Client, address: str, content: str | bytes, media: str, **params: str) -> httpx.Response:
    return client.put(address, content=content, headers={"content-type": media}, params=params)


def packed(**files: str) -> bytes:
    """Names with `__` for a slash."""
    out = io.BytesIO()
    with ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return out.getvalue()


@pytest.fixture
def people(create: Callable[..., str]) -> str:
    return f"{create()}/judgements/people"


def test_a_set_goes_out_in_each_form_and_comes_back_the_same(client: httpx.Client, people: str) -> None:
    assert put(client, people, LINES, NDJSON).status_code == 201
    assert client.get(people).json() == {"queries": QUERIES}
    written = client.get(people, params={"format": "ndjson"})
    assert [json.loads(line) for line in written.text.split("\n") if line] == QUERIES
    assert put(client, f"{people}-2", written.content, NDJSON).status_code == 201
    assert client.get(f"{people}-2").json() == {"queries": QUERIES}
    zipped = client.get(people, params={"format": "beir", "split": "dev"})
    assert zipped.headers["content-disposition"] == 'attachment; filename="people.zip"'
    assert put(client, f"{people}-3", zipped.content, ZIP, split="dev").status_code == 201
    assert client.get(f"{people}-3").json() == {"queries": QUERIES}
    client.put(people, json={"queries": PLAIN})
    topics, qrels = (client.get(people, params={"format": form}).text for form in ("queries", "qrels"))
    assert topics == "301\tinternational organized crime\n"
    assert qrels == "301 0 FBIS-1 2\n301 0 FT-7 0\n"


@pytest.mark.parametrize(("media", "judgements"), [(TEXT, QRELS), (TABS, BEIR), (TABS, QRELS), (TEXT, BEIR)])
def test_trec_brings_queries_and_then_judgements(
    client: httpx.Client, people: str, media: str, judgements: str
) -> None:
    made = put(client, people, TOPICS, media)
    assert (made.status_code, made.json()["queries"], made.json()["grades"]) == (201, 2, 0)
    judged = put(client, people, judgements, media)
    assert (judged.status_code, judged.json()["queries"], judged.json()["relevant"]) == (200, 1, 1)
    # What nobody judged is left out, and spam is not relevant.
    assert client.get(people).json() == {"queries": PLAIN}


def test_beir_comes_as_its_two_files_or_as_a_folder_in_a_zip(client: httpx.Client, people: str) -> None:
    queries = '\ufeff{"_id": "301", "text": "international organized crime", "metadata": {"_id": 1}}\n\n'
    queries += '{"_id": "9", "text": "of another split"}\n'
    assert put(client, people, queries, NDJSON).status_code == 201
    assert put(client, people, BEIR, TABS).status_code == 200
    assert client.get(people).json() == {"queries": PLAIN}
    folder = packed(scifact__queries_dot_jsonl=queries, scifact__qrels__test_dot_tsv=BEIR, scifact__corpus_dot_jsonl="")
    assert put(client, f"{people}-zip", folder, ZIP).status_code == 201
    assert client.get(f"{people}-zip").json() == {"queries": PLAIN}


@pytest.mark.parametrize(
    ("media", "content", "places"),
    [
        (NDJSON, f'{LINES}{{"id": "x", "query": "y"}}\n{{\n{LINES}', [(3, "/grades"), (4, ""), (5, "/id"), (6, "/id")]),
        (NDJSON, '{"_id": "x", "text": " "}', [(1, "/query")]),
        (NDJSON, "\n[1]", [(2, "")]),
        (NDJSON, '{"id": "v", "vector": [1, 2], "grades": {}}', [(1, "/vector")]),
        (NDJSON, " \n", [(None, "")]),
        (TEXT, "301\tone\n302 two\n", [(2, "")]),
        (TEXT, "301\tone\n301\ttwo\n", [(2, "/id")]),
        (TEXT, "301 0 a 1\n301 0 b\n301 0 c .5\n3 0 d 1001\n9 0 e 1\n9 0 f 1\n", [(2, ""), (3, ""), (4, ""), (5, "")]),
        (TABS, "query-id\tcorpus-id\tscore\n301\t\t1\n", [(2, "")]),
        (TEXT, b"301 0 \xff 1", [(1, "")]),
        (TEXT, "", [(None, "")]),
        (ZIP, b"PK no", [(None, "")]),
        (ZIP, packed(queries_dot_jsonl="{}"), [(None, "")]),
        (ZIP, packed(queries_dot_jsonl=LINES, qrels__test_dot_tsv="301\ta\tb\n5\ta\t1\n"), [(2, "")]),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_faults_are_told_by_their_lines_and_nothing_is_kept(
    client: httpx.Client, people: str, media: str, content: str | bytes, places: list[tuple[int | None, str]]
) -> None:
    before = {"queries": [{"id": "301", "query": "kept", "grades": {}}]}
    client.put(people, json=before)
    answer = put(client, people, content, media)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    assert [(one.get("line"), one["pointer"]) for one in answer.json()["errors"]] == places
    assert client.get(people).json() == before


def test_other_types_and_forms_are_refused(client: httpx.Client, people: str) -> None:
    assert put(client, people, LINES, "text/csv").status_code == 415
    assert client.get(people).status_code == 404
    client.put(people, json={"queries": QUERIES})
    for form, status in (("qrels", 422), ("queries", 200), ("csv", 422)):
        answer = client.get(people, params={"format": form})
        assert answer.status_code == status
        assert status == 200 or answer.json()["errors"][0]["pointer"] == "/format"
    client.put(people, json={"queries": [{"id": "v", "vectors": [[0.0] * 15 + [1.0]], "grades": {"a": 1}}]})
    for form, status in (("beir", 422), ("queries", 422), ("qrels", 200), ("ndjson", 200)):
        assert client.get(people, params={"format": form}).status_code == status
