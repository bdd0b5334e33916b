"""The published schema: complete, with examples that work, and a page that needs no network."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from app import __version__
from app.batch.arrays import FORMS
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[2]
SCHEMA = create_app(Settings()).openapi()
JSON, TAR, NDJSON = "application/json", "application/x-tar", "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
# Content that no example can be written of, or whose document has its id in the query.
FILES = {
    TAR,
    *FORMS,
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.file",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "application/pdf",
    "text/html",
    "text/markdown",
    "text/plain",
}
ROUTES = {
    "/health/live": {"get"},
    "/health/ready": {"get"},
    "/metrics": {"get"},
    "/v1/info": {"get"},
    "/v1/collections": {"get", "post"},
    "/v1/collections/{name}": {"get", "patch", "delete"},
    "/v1/collections/{name}/documents": {"get", "post"},
    "/v1/collections/{name}/documents/get": {"post"},
    "/v1/collections/{name}/documents/{id}": {"get", "put", "patch", "delete"},
    "/v1/collections/{name}/import": {"post"},
    "/v1/collections/{name}/export": {"get"},
    "/v1/collections/{name}/delete": {"post"},
    "/v1/collections/{name}/count": {"post"},
    "/v1/collections/{name}/fields": {"get"},
    "/v1/collections/{name}/history": {"get"},
    "/v1/search": {"post"},
    "/v1/search/batch": {"post"},
    "/v1/collections/{name}/search": {"post"},
    "/v1/collections/{name}/search/batch": {"post"},
    "/v1/collections/{name}/search/vectors": {"post"},
    "/v1/collections/{name}/rebuild": {"post"},
    "/v1/collections/{name}/queries/report": {"get"},
    "/v1/collections/{name}/queries": {"get", "delete"},
    "/v1/collections/{name}/recall": {"post"},
    "/v1/collections/{name}/map": {"get"},
    "/v1/collections/{name}/tune": {"post"},
    "/v1/collections/{name}/neighbours": {"post"},
    "/v1/collections/{name}/evaluate": {"post"},
    "/v1/collections/{name}/relevance": {"get", "put", "delete"},
    "/v1/collections/{name}/judgements": {"get"},
    "/v1/collections/{name}/judgements/{judgements}": {"get", "put", "delete"},
    "/v1/collections/{name}/judgements/{judgements}/grades": {"post"},
    "/v1/collections/{name}/judgements/{judgements}/pool": {"post"},
    "/v1/collections/{name}/snapshots": {"get", "post"},
    "/v1/collections/{name}/snapshots/{id}": {"get", "delete"},
    "/v1/collections/{name}/restore": {"post", "put"},
    "/v1/aliases": {"get"},
    "/v1/aliases/{alias}": {"get", "put", "delete"},
    "/v1/models": {"get"},
    "/v1/embeddings": {"post"},
    "/v1/rerank": {"post"},
    "/v2/rerank": {"post"},
    "/v1/tasks": {"get"},
    "/v1/tasks/{id}": {"get"},
    "/v1/tasks/{id}/cancel": {"post"},
}


def bodies() -> list[tuple[str, str, str, str, Any]]:
    """(method, path, content type, name of the example, example) for each example of each body."""
    found = []
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    found.append((method, path, media_type, name, example["value"]))
    return found


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set()


def test_every_route_is_there_and_no_other() -> None:
    assert {path: set(methods) for path, methods in SCHEMA["paths"].items()} == ROUTES


def test_operations_have_names_that_a_client_can_use() -> None:
    """A verb and what it is done to, as one would name a function: neither the path nor the method is in it."""
    names = [operation["operationId"] for methods in SCHEMA["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), name
        assert not {"v1", "name", "id", "post"} & set(name.split("_")), name
        assert len(name) <= 24


def test_generators_of_clients_can_write_everything_down() -> None:
    """Those that there are leave out a model with an object as a default, and take streams as binary."""
    fields = [
        field for model in SCHEMA["components"]["schemas"].values() for field in model.get("properties", {}).values()
    ]
    assert [field for field in fields if isinstance(field.get("default"), dict)] == []
    assert "lexical" in SCHEMA["components"]["schemas"]["CreateCollection"]["properties"]
    for path, method, media in (
        ("import", "post", "application/x-ndjson"),
        ("restore", "put", TAR),
    ):
        body = SCHEMA["paths"][f"/v1/collections/{{name}}/{path}"][method]["requestBody"]
        assert (body["content"][media]["schema"]["type"], body["content"][media]["schema"]["format"]) == (
            "string",
            "binary",
        )


def test_what_answers_nothing_promises_nothing() -> None:
    for path, operations in SCHEMA["paths"].items():
        for method, operation in operations.items():
            if "204" in operation["responses"]:
                assert set(operation["responses"]) == {"204", "default"}, (method, path)


def test_every_reference_leads_somewhere() -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in references(SCHEMA)}
    assert names == set(SCHEMA["components"]["schemas"])
    assert {"SearchRequest", "SearchAnswer", "DocumentBody", "ProblemAnswer"} <= names


def test_fields_are_described_by_what_stands_under_them() -> None:
    """In the class itself before the one that it comes from; of several lines too."""
    schemas = SCHEMA["components"]["schemas"]
    described = {name: schemas[name]["properties"] for name in ("SearchRequest", "PutDocument", "DocumentBody")}
    assert described["SearchRequest"]["k"]["description"] == "How many documents to return."
    assert described["SearchRequest"]["query"]["description"] == "Text, which the collection's encoder encodes."
    assert "reaches 10,000 documents" in described["SearchRequest"]["offset"]["description"]
    assert "path" in described["PutDocument"]["id"]["description"]
    assert "path" not in described["DocumentBody"]["id"]["description"]


def test_every_answer_and_every_body_has_a_schema() -> None:
    without_body = {
        "/v1/collections/{name}/rebuild",
        "/v1/collections/{name}/snapshots",
        "/v1/tasks/{id}/cancel",
    }
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert good, (method, path)
            contents = [content for answer in good for content in answer.get("content", {}).values()]
            assert all("schema" in content for content in contents), (method, path)
            given = {media for answer in good for media in answer.get("content", {})}
            sets = {"application/zip", "text/tab-separated-values"} if path.endswith("{judgements}") else set()
            arrays = set(FORMS) if path.endswith("/search/vectors") else set()
            assert given <= {JSON, TAR, NDJSON, PARQUET, "text/plain", *sets, *arrays}, path
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            if method in ("post", "put", "patch") and path not in without_body:
                for media, content in operation["requestBody"]["content"].items():
                    assert content["schema"], (method, path)
                    assert content.get("examples") or media in FILES, (method, path)


ONE = {"base64": "AACAPw==", "dtype": "float32", "shape": [1]}
HELD: list[tuple[str, str, Any, bool]] = [
    # (path in a collection of one dimension, model, body, whether it fits)
    ("search", "SearchRequest", {"vector": [1]}, True),
    ("search", "SearchRequest", {"vector": ONE}, True),
    ("search", "SearchRequest", {}, False),
    ("search", "SearchRequest", {"vector": [1], "query": "a"}, True),
    ("search", "SearchRequest", {"query": "a", "mode": "best"}, False),
    ("search", "SearchRequest", {"vector": [1], "query": "a", "weights": {"words": 2}}, False),
    ("search", "SearchRequest", {"vector": [1], "vectors": [[1]]}, False),
    ("search", "SearchRequest", {"query": " "}, False),
    ("search", "SearchRequest", {"vector": {**ONE, "shape": []}}, False),
    ("search", "SearchRequest", {"vector": {**ONE, "shape": [1, 1]}}, False),
    ("search", "SearchRequest", {"vectors": {**ONE, "shape": [1]}}, False),
    ("search", "SearchRequest", {"vector": {**ONE, "base64": "*ACAPw=="}}, False),
    ("documents", "WriteDocuments", {"documents": [{"id": "a", "vector": [1]}]}, True),
    ("documents", "WriteDocuments", {"documents": [{"id": "a", "title": "t", "vector": [1]}]}, True),
    ("documents", "WriteDocuments", {"documents": [{"id": "a"}]}, False),
    ("documents", "WriteDocuments", {"id": 7, "vector": [1]}, True),
    ("documents", "WriteDocuments", [{"id": "a", "vector": [1]}, {"vector": ONE}], True),
    ("documents", "WriteDocuments", [], False),
    ("documents", "WriteDocuments", {"id": 7.5, "vector": [1]}, False),
    ("documents", "WriteDocuments", {"id": True, "vector": [1]}, False),
    ("documents", "WriteDocuments", {"id": "a", "vector": [1], "documents": [{"id": "a", "vector": [1]}]}, False),
    ("delete", "DeleteDocuments", {"ids": [7]}, True),
    ("documents", "WriteDocuments", {"documents": [{"id": "a", "text": " ", "title": ""}]}, False),
    ("documents", "WriteDocuments", {"documents": [{"id": "a", "vector": [1], "vectors": [[1]]}]}, False),
    ("documents", "WriteDocuments", {"documents": [{"id": "a\n", "vector": [1]}]}, False),
    ("delete", "DeleteDocuments", {"ids": ["b"]}, True),
    ("delete", "DeleteDocuments", {}, False),
    ("delete", "DeleteDocuments", {"ids": ["b"], "filter": {"a": {"eq": 1}}}, False),
    ("count", "CountDocuments", {"filter": {"and": [{"not": {"a": {"in": [1, "x"]}}}]}}, True),
    ("count", "CountDocuments", {"filter": {"": {"eq": 1}}}, False),
    ("count", "CountDocuments", {"filter": {"a": {"gt": True}}}, False),
    ("count", "CountDocuments", {"filter": {"or": []}}, False),
]


@pytest.mark.parametrize(("path", "model", "body", "fits"), HELD, ids=[f"{one[0]} {one[2]}" for one in HELD])
def test_the_schema_is_as_tight_as_the_service(
    client: httpx.Client, create: Callable[..., str], path: str, model: str, body: Any, fits: bool
) -> None:
    schema = {"$ref": f"#/components/schemas/{model}", "components": SCHEMA["components"]}
    assert jsonschema_rs.validator_for(schema).is_valid(body) is fits
    address = create(encoder={"model": None, "kind": "dense", "dim": 1})
    assert (client.post(f"{address}/{path}", json=body).status_code == 200) is fits


@pytest.mark.parametrize(("model", "dim", "fits"), [(None, 3, True), (None, None, False), ("words", 3, True)])
def test_dimensions_are_of_callers_vectors(model: str | None, dim: int | None, fits: bool) -> None:
    # Of a model that has several a collection chooses one; which models do, no schema knows (test_distilled_route).
    schema = {"$ref": "#/components/schemas/EncoderChoice", "components": SCHEMA["components"]}
    body = {"model": model, **({} if dim is None else {"dim": dim})}
    assert jsonschema_rs.validator_for(schema).is_valid(body) is fits


@pytest.mark.parametrize("given", ['"1"', "*", 'W/"1", "2"', "1", '"1', '"a" "b"', "null", '"1",'])
def test_entity_tags_are_held_to_their_pattern(client: httpx.Client, collection: str, given: str) -> None:
    operation = SCHEMA["paths"]["/v1/collections/{name}/documents/{id}"]["delete"]
    (schema,) = [one["schema"] for one in operation["parameters"] if one["name"] == "If-Match"]
    answer = client.delete(f"{collection}/documents/absent", headers={"If-Match": given})
    assert (answer.status_code != 422) is bool(re.search(schema["pattern"], given))
    assert schema["type"] == "string"


def test_nothing_is_measured_in_an_empty_collection(client: httpx.Client, create: Callable[..., str]) -> None:
    answer = client.post(f"{create()}/recall", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "collection_empty")


@pytest.fixture(scope="module")
def module_of_examples(client: httpx.Client) -> str:
    """A collection that has what the examples ask for."""
    address = "/v1/collections/for-examples"
    client.post("/v1/collections", json={"name": "for-examples", "encoder": {"model": "words"}})
    return address


@pytest.mark.parametrize(
    ("method", "path", "media_type", "name", "example"), bodies(), ids=[f"{p} {n}" for _, p, _, n, _ in bodies()]
)
def test_every_example_works(
    client: httpx.Client,
    module_of_examples: str,
    finished: Callable[[str], Any],
    method: str,
    path: str,
    media_type: str,
    name: str,
    example: Any,
) -> None:
    metadata = {"module": "zipfile", "deprecated": False}
    document = {"text": "Class with methods to open ZIP files.", "metadata": metadata}
    client.put(f"{module_of_examples}/documents/zipfile.ZipFile", json=document)
    address = path.replace("/v1/collections/{name}", module_of_examples).replace("{id}", "zipfile.ZipFile")
    address = address.replace("{judgements}", "people")
    if path.endswith("/relevance"):
        # There are judgements to learn from then.
        words = [f"word{i}" for i in range(12)]
        client.post(f"{module_of_examples}/documents", json={"documents": [{"id": w, "text": w} for w in words]})
        judged = [{"id": word, "query": word, "grades": {word: 1}} for word in words]
        client.put(f"{module_of_examples}/judgements/people", json={"queries": judged})
    if path.endswith("/restore"):
        # The snapshot of the example is not there; one that is takes its place.
        task = client.post(f"{module_of_examples}/snapshots").json()
        assert finished(f"/v1/tasks/{task['id']}")["state"] == "succeeded"
        example = {**example, "snapshot": task["id"]}
        if "collection" in example:
            example["collection"] = module_of_examples.rpartition("/")[2]
            address = address.replace(example["collection"], "restored-example")
    if path.endswith("/tune") and "judgements" in example:
        queries = [{"id": str(i), "query": f"zip {i}", "grades": {"zipfile.ZipFile": 1}} for i in range(10)]
        client.put(f"{module_of_examples}/judgements/{example['judgements']}", json={"queries": queries})
    if path.endswith("/neighbours"):
        # Of a dense collection; the other one is multi_vector.
        encoder = {"model": None, "kind": "dense", "dim": 4}
        assert client.post("/v1/collections", json={"name": f"dense-{name}", "encoder": encoder}).status_code == 201
        address = f"/v1/collections/dense-{name}/neighbours"
    if "classes" in example and path.endswith("/evaluate"):
        # A class has two documents at least.
        client.put(f"{module_of_examples}/documents/zipfile.Path", json=document)
    if path.startswith("/v1/search"):
        mine = {"collections": [module_of_examples.rpartition("/")[2]]}
        searches = [{**one, **mine} for one in example.get("searches", [example])]
        example = {"searches": searches} if "searches" in example else searches[0]
    if path.startswith("/v1/aliases/"):
        address, example = "/v1/aliases/an-example", {"collection": module_of_examples.rpartition("/")[2]}
    headers = {"Content-Type": media_type}
    if media_type == "application/json":
        answer = client.request(method, address, json=example, headers=headers)
        # The built-in model is converted the first time that a folder needs it, and says when to come again.
        while answer.status_code == 503 and answer.json()["code"] == "encoder_loading":
            time.sleep(int(answer.headers["retry-after"]))
            answer = client.request(method, address, json=example, headers=headers)
    else:
        answer = client.request(method, address, content=example, headers=headers)
    assert answer.status_code in (200, 201, 202), answer.text
    if answer.status_code == 202:
        assert finished(answer.headers["location"])["state"] == "succeeded"
    if path.endswith("/search"):
        lists = [answer.json()["hits"], *(group["hits"] for group in answer.json().get("groups", ()))]
        assert "zipfile.ZipFile" in [hit["id"] for hits in lists for hit in hits]
    if path.endswith("/delete"):
        assert answer.json() == {"deleted": 1}
    if path.endswith("/count"):
        assert answer.json()["count"] >= 1


def test_the_page_needs_no_network(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(links) == 4
    for link in [*links, "/openapi.json"]:
        assert link.startswith("/")
        assert client.get(link).status_code == 200
    assert "//" not in page.text
    assert client.get("/openapi.json").json() == SCHEMA


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__ == SCHEMA["info"]["version"]
