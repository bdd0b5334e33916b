"""Searches over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.schemas.searches import BatchAnswer, SearchAnswer


def test_an_answer_is_what_its_schema_says(client: httpx.Client, collection: str) -> None:
    answer = client.post(f"{collection}/search", json={"query": "cat mat", "k": 2})
    assert answer.headers["content-type"] == "application/json"
    read = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert read.hits[0].id == "cat"
    assert len(read.hits) == 2
    assert read.hits[0].score > read.hits[1].score
    assert read.exact is False
    assert {"encode_ms", "candidates_ms", "rescore_ms"} <= set(read.stages)
    assert read.took_ms >= read.stages["encode_ms"] >= 0


@pytest.mark.parametrize(
    ("include", "fields"),
    [
        (None, {"text", "metadata"}),
        ([], set()),
        (["text"], {"text"}),
        (["metadata", "metadata"], {"metadata"}),
        (["vectors", "text"], {"vectors", "text"}),
    ],
)
def test_hits_carry_what_was_asked_for(
    client: httpx.Client, collection: str, include: list[str] | None, fields: set[str]
) -> None:
    body: dict[str, Any] = {"query": "cat"} if include is None else {"query": "cat", "include": include}
    hit = client.post(f"{collection}/search", json=body).json()["hits"][0]
    assert set(hit) == {"id", "score", "title"} | fields
    if "metadata" in fields:
        assert hit["metadata"] == {"legs": 4, "tags": ["pet"]}
    if "vectors" in fields:
        assert len(hit["vectors"][0]) == 16


def test_exact_search_says_so_and_agrees(client: httpx.Client, collection: str) -> None:
    weights = {"words": 0.2, "tokens": 0.4, "pooled": 0.4}
    for mode in ({"mode": "semantic"}, {"mode": "dense"}, {"mode": "hybrid", "weights": weights}):
        body = {"query": "dog night", **mode}
        quick = client.post(f"{collection}/search", json={**body, "candidates": 3}).json()
        exact = client.post(f"{collection}/search", json={**body, "exact": True}).json()
        assert (quick["exact"], exact["exact"]) == (False, True)
        assert exact["hits"] == quick["hits"]
        assert exact["mode"] == mode["mode"]
        assert exact.get("weights") == mode.get("weights")


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ({"legs": {"eq": 2}}, {"hen"}),
        ({"legs": {"gte": 2}}, {"cat", "dog", "hen"}),
        ({"tags": {"eq": "pet"}}, {"cat"}),
        ({"loud": {"exists": False}}, {"cat", "hen"}),
        ({"not": {"or": [{"legs": {"eq": 2}}, {"loud": {"eq": True}}]}}, {"cat"}),
        ({"legs": {"eq": "2"}}, set()),
    ],
)
def test_filters(client: httpx.Client, collection: str, condition: Any, ids: set[str]) -> None:
    answer = client.post(f"{collection}/search", json={"query": "animal", "filter": condition}).json()
    assert {hit["id"] for hit in answer["hits"]} == ids


@pytest.mark.parametrize(
    ("body", "ids", "total"),
    [
        ({"mode": "browse"}, ["cat", "dog", "hen"], 3),
        ({"filter": {"legs": {"eq": 4}}}, ["cat", "dog"], 2),
        ({"ids": ["hen", "cat", "cow"]}, ["cat", "hen"], 2),
        ({"ids": ["hen", "cat"], "filter": {"legs": {"eq": 4}}, "mode": "browse"}, ["cat"], 1),
        ({"sort": [{"legs": "asc"}]}, ["hen", "cat", "dog"], 3),
        ({"sort": [{"loud": "asc"}, {"legs": "asc"}], "k": 2}, ["dog", "hen"], 3),
        ({"query": "cat dog", "mode": "lexical", "sort": [{"legs": "desc"}]}, ["cat", "dog"], 2),
        ({"query": "cat", "mode": "semantic", "sort": [{"legs": "asc"}], "ids": ["dog", "hen"]}, ["hen", "dog"], 2),
    ],
)
def test_documents_are_browsed_and_sorted(
    client: httpx.Client, collection: str, body: dict[str, Any], ids: list[str], total: int
) -> None:
    answer = client.post(f"{collection}/search", json=body)
    read = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert [hit.id for hit in read.hits] == ids
    assert answer.json()["total"] == {"count": total, "exact": True}
    assert read.mode == body.get("mode", "browse")
    (batched,) = client.post(f"{collection}/search/batch", json={"searches": [body]}).json()["results"]
    assert batched["hits"] == answer.json()["hits"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"k": 3}, ""),
        ({"mode": "semantic", "filter": {"legs": {"eq": 4}}}, "/mode"),
        ({"mode": "browse", "query": "cat"}, "/mode"),
        ({"filter": {"legs": {"eq": 4}}, "explain": True}, "/explain"),
        ({"filter": {"legs": {"eq": 4}}, "passages": 1}, "/passages"),
        ({"filter": {"legs": {"eq": 4}}, "highlights": {}}, "/highlights"),
        ({"sort": [{"legs": "up"}]}, "/sort/0/legs"),
        ({"query": "cat", "sort": []}, "/sort"),
        ({"query": "cat", "sort": None}, "/sort"),
        ({"ids": "cat"}, "/ids"),
        ({"ids": ["cat", ""]}, "/ids/1"),
        ({"ids": ["cat"] * 5_000}, "/ids"),
    ],
)
def test_what_is_wrong_with_browsing_is_told_at_its_place(
    client: httpx.Client, collection: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_pages_lead_from_one_to_the_next(client: httpx.Client, collection: str) -> None:
    body: dict[str, Any] = {"query": "animal night", "k": 1}
    whole = client.post(f"{collection}/search", json={**body, "k": 10}).json()
    assert "next" not in whole
    weights = {"weights": whole["weights"]}
    seen, cursor = [], None
    while len(seen) < 9:
        page = {**body, **weights} if cursor is None else {**body, "cursor": cursor}
        answer = client.post(f"{collection}/search", json=page).json()
        assert answer["total"] == {"count": 3, "exact": True}
        seen += answer["hits"]
        cursor = answer.get("next")
        if cursor is None:
            break
    assert seen == whole["hits"]
    second = client.post(f"{collection}/search", json={**body, **weights, "offset": 1}).json()
    assert second["hits"] == whole["hits"][1:2]
    beyond = client.post(f"{collection}/search", json={**body, "offset": 9_999}).json()
    assert (beyond["hits"], "next" in beyond) == ([], False)


@pytest.mark.parametrize(
    ("page", "pointer"),
    [
        ({"offset": -1}, "/offset"),
        ({"offset": 9_999, "k": 2}, "/offset"),
        ({"offset": 1, "cursor": "x"}, "/offset"),
        ({"cursor": "x"}, "/cursor"),
        ({"cursor": ""}, "/cursor"),
        ({"cursor": "x" * 1_001}, "/cursor"),
    ],
)
def test_a_page_that_there_is_not_is_refused(
    client: httpx.Client, collection: str, page: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{collection}/search", json={"query": "cat", **page})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_facets_count_what_matches(client: httpx.Client, collection: str) -> None:
    facets = {"legs": {"terms": 1}, "tags": {"ranges": [{"gt": 1}]}, "loud": {"terms": 5}, "day": {"dates": "month"}}
    for body, more in (
        ({"mode": "browse"}, {}),
        ({"query": "cat dog", "mode": "lexical"}, {"filter": {"legs": {"gt": 1}}}),
    ):
        answer = client.post(f"{collection}/search", json={**body, **more, "facets": facets, "k": 1})
        read = SearchAnswer.model_validate_json(answer.content, extra="forbid")
        assert read.facets is not None
        total = answer.json()["total"]["count"]
        assert answer.json()["facets"] == {
            "legs": {"counts": [{"value": 4, "count": 2}], "distinct": 2 if total == 3 else 1, "missing": 0},
            "tags": {"counts": [{"range": {"gt": 1}, "count": 0}], "distinct": 1, "missing": total},
            "loud": {"counts": [{"value": True, "count": 1}], "distinct": 1, "missing": total - 1},
            "day": {"counts": [], "distinct": 0, "missing": total},
        }
    wrong = client.post(f"{collection}/search", json={"query": "cat", "facets": {"legs": {"terms": 0}}})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/facets/legs/terms"


def test_hits_come_in_groups(client: httpx.Client, collection: str) -> None:
    """k counts groups, and so do the pages."""
    body = {"mode": "browse", "group_by": {"field": "legs", "size": 5}, "include": [], "k": 1}
    first = client.post(f"{collection}/search", json=body)
    read = SearchAnswer.model_validate_json(first.content, extra="forbid")
    assert (read.hits, read.total_groups) == ([], 2)
    assert read.total is not None
    second = client.post(f"{collection}/search", json={**body, "cursor": read.next}).json()
    assert "next" not in second
    groups = [*first.json()["groups"], *second["groups"]]
    assert sorted(group["value"] for group in groups) == [2, 4]
    assert sum(len(group["hits"]) for group in groups) == read.total.count
    assert all(hit.keys() <= {"id", "score", "title"} for group in groups for hit in group["hits"])
    alone = client.post(f"{collection}/search", json={"query": "cat", "group_by": {"field": "loud"}, "k": 3}).json()
    assert [group["value"] for group in alone["groups"] if "value" in group] == [True]
    assert alone["total_groups"] == read.total.count
    for wrong, pointer in (
        ({"group_by": {"field": "legs", "size": 0}}, "/group_by/size"),
        ({"group_by": {"field": "legs", "size": 100}, "k": 101}, "/group_by/size"),
        ({"group_by": "legs"}, "/group_by"),
    ):
        refused = client.post(f"{collection}/search", json={"query": "cat", **wrong})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == pointer


def test_a_batch_answers_in_order(client: httpx.Client, collection: str) -> None:
    searches = [
        {"query": "hen eggs", "k": 1, "mode": "lexical"},
        {"query": "dog barks", "exact": True, "mode": "semantic"},
    ]
    answer = client.post(f"{collection}/search/batch", json={"searches": searches})
    batch = BatchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert [result.hits[0].id for result in batch.results] == ["hen", "dog"]
    assert [result.exact for result in batch.results] == [True, True]
    for search, result in zip(searches, batch.results, strict=True):
        alone = client.post(f"{collection}/search", json=search).json()
        assert alone["hits"] == answer.json()["results"][batch.results.index(result)]["hits"]


def test_an_empty_collection_has_no_hits(client: httpx.Client, create: Callable[..., str]) -> None:
    assert client.post(f"{create()}/search", json={"query": "cat"}).json()["hits"] == []


def test_searches_are_answered_while_every_writer_is_busy(
    client: httpx.Client, collection: str, server: Any, create: Callable[..., str]
) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    import app.ingest as ingest

    started, release = Event(), Event()
    real = ingest.write_documents

    def stuck(*args: Any, **named: Any) -> Any:
        started.set()
        release.wait(60)
        return real(*args, **named)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(ingest, "write_documents", stuck)
        body = {"documents": [{"id": "new", "text": "a cow"}]}
        writes = [pool.submit(client.post, f"{collection}/documents", json=body) for _ in range(8)]
        try:
            assert started.wait(60)
            assert client.post(f"{collection}/search", json={"query": "cat"}).status_code == 200
            assert client.get(f"{collection}/documents/cat").status_code == 200
            assert client.get("/health/ready").status_code == 200
        finally:
            release.set()
        assert [write.result().status_code for write in writes] == [200] * 8


def test_hits_carry_their_best_passages(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(encoder={"model": "words"}, passages={"size": 12, "overlap": 0})
    described = client.get(address).json()
    assert described["splitting"] == {"split": "structure", "size": 12, "overlap": 0}
    text = "# Birds\n\nThe wren sings in the hedge all day long. 🐦\n\n## Night\n\nThe owl sees in the dark wood."
    documents = [{"id": "birds", "title": "Notes", "text": text}, {"id": "other", "text": "short"}]
    written = client.post(f"{address}/documents", json={"documents": documents})
    assert written.json() == {"written": 2, "ids": ["birds", "other"], "duplicates": [], "truncated": []}
    assert client.get(address).json()["passages"] == 3
    body = {"query": "owl dark", "mode": "semantic", "passages": 2, "include": []}
    first, second = client.post(f"{address}/search", json=body).json()["hits"]
    assert set(first) == {"id", "score", "title", "passages"}
    best, other = first["passages"]
    start = text.index("## Night")
    assert best == {
        "text": text[start:], "start": start, "stop": len(text), "headings": ["Birds"], "score": best["score"],
    }  # fmt: skip
    assert (other["start"], other["text"]) == (0, text[:start].rstrip())
    assert best["score"] > first["score"] > other["score"]
    assert [(one["start"], one["stop"]) for one in second["passages"]] == [(0, 5)]
    batch = client.post(f"{address}/search/batch", json={"searches": [body, {"query": "owl dark", "include": []}]})
    assert batch.json()["results"][0]["hits"] == [first, second]
    assert [set(hit) for hit in batch.json()["results"][1]["hits"]] == [{"id", "score", "title"}] * 2


def test_a_passage_says_its_pages(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(encoder={"model": "words"}, passages={"size": 12, "overlap": 0})
    text = "The wren sings in the hedge all day.\f\fThe owl sees in the dark wood at night."
    client.post(f"{address}/documents", json={"documents": [{"id": "a", "text": text}]})
    (hit,) = client.post(f"{address}/search", json={"query": "owl dark", "passages": 5}).json()["hits"]
    pages = [(one["pages"], one["text"]) for one in hit["passages"]]
    assert sorted(pages) == [([1, 1], "The wren sings in the hedge all day."), ([3, 3], text.partition("\f\f")[2])]


def test_a_document_with_its_own_vectors_has_one_passage(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(encoder={"model": None, "kind": "dense", "dim": 1})
    documents = [{"id": str(i), "text": "x" * 1_000, "vector": [1]} for i in range(3)]
    client.post(f"{address}/documents", json={"documents": documents})
    (hit, *_) = client.post(f"{address}/search", json={"vector": [1], "passages": 5}).json()["hits"]
    assert hit["passages"] == [{"text": "x" * 1_000, "start": 0, "stop": 1_000, "headings": [], "score": 1.0}]


def test_hits_show_the_words_of_the_query(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(encoder={"model": "words"})
    text = "<p>𝔘𝔫𝔦 &amp; the wren's nests</p> " + "and so on " * 50 + "the nest of a cafe\u0301"
    client.post(f"{address}/documents", json={"documents": [{"id": "a", "title": "Nesting <birds>", "text": text}]})
    body = {"query": "wrens nest", "mode": "lexical", "include": [], "highlights": {}}
    (hit,) = client.post(f"{address}/search", json=body).json()["hits"]
    assert set(hit) == {"id", "score", "title", "highlights"}
    title, shown = hit["highlights"]
    assert title == {
        "by": "words", "field": "title", "start": 0, "stop": 15, "spans": [{"start": 0, "stop": 7, "terms": ["nest"]}],
        "marked": "<mark>Nesting</mark> &lt;birds&gt;",
    }  # fmt: skip
    assert (shown["by"], shown["field"], shown["start"]) == ("words", "text", 0)
    assert [(text[one["start"] : one["stop"]], one["terms"]) for one in shown["spans"]] == [
        ("wren", ["wrens"]),
        ("nests", ["nest"]),
    ]
    marked = "&lt;p&gt;𝔘𝔫𝔦 &amp;amp; the <mark>wren</mark>&#x27;s <mark>nests</mark>&lt;/p&gt; and so"
    assert shown["marked"].startswith(marked)
    assert shown["stop"] <= 240
    body["highlights"] = {"marks": ["*", ""], "length": 16}
    (hit,) = client.post(f"{address}/search", json=body).json()["hits"]
    assert hit["highlights"][0]["marked"] == "*Nesting &lt;birds&gt;"
    assert all(one["stop"] - one["start"] <= 16 for one in hit["highlights"])


@pytest.mark.parametrize("mode", ["lexical", "semantic", "dense", "hybrid"])
def test_hits_have_the_score_that_was_asked_for(client: httpx.Client, collection: str, mode: str) -> None:
    weights = {"weights": {"words": 0.2, "tokens": 0.4, "pooled": 0.4}} if mode == "hybrid" else {}
    body: dict[str, Any] = {"query": "cat mat dog hen", "mode": mode, **weights}
    first, second, third = client.post(f"{collection}/search", json=body).json()["hits"]
    assert first["score"] > second["score"] > third["score"]
    for least, hits in ((third["score"], 3), (second["score"], 2), (first["score"] + 1, 0)):
        asked = {**body, "min_score": least, "facets": {"legs": {"terms": 5}}}
        answer = client.post(f"{collection}/search", json=asked).json()
        assert answer["hits"] == [first, second, third][:hits]
        assert answer["total"] == {"count": hits, "exact": True}
        assert sum(one["count"] for one in answer["facets"]["legs"]["counts"]) == hits
        (batched,) = client.post(f"{collection}/search/batch", json={"searches": [asked]}).json()["results"]
        assert batched["hits"] == answer["hits"]
        page = client.post(f"{collection}/search", json={**body, "min_score": least, "k": 1}).json()
        assert ("next" in page) == (hits > 1)


@pytest.mark.parametrize(
    "body",
    [
        {"query": "cat", "min_score": "1"},
        {"query": "cat", "min_score": None},
        {"query": "cat", "min_score": True},
        {"query": "cat", "min_score": [0]},
        {"mode": "browse", "min_score": 0},
        {"filter": {"legs": {"eq": 4}}, "min_score": 1.5},
    ],
)
def test_what_is_no_score_to_reach(client: httpx.Client, collection: str, body: dict[str, Any]) -> None:
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/min_score"
    huge, headers = '{"query": "cat", "min_score": 1e999}', {"content-type": "application/json"}
    assert client.post(f"{collection}/search", content=huge, headers=headers).status_code == 422


def test_fields_count_what_they_are_given(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(lexical={"fields": ["title", "text", "sku"], "field_weights": {"title": 4}})
    about = client.get(address).json()["lexical"]
    assert about["fields"] == ["title", "text", "sku"]
    assert about["field_weights"] == {"title": 4}
    documents = [
        {"id": "titled", "title": "wren", "text": "a bird of the north"},
        {"id": "told", "title": "bird", "text": "a wren and a wren"},
        {"id": "sold", "title": "bird", "text": "it sings of none", "metadata": {"sku": "wren"}},
    ]
    client.post(f"{address}/documents", json={"documents": documents}).raise_for_status()

    def order(**asked: Any) -> list[str]:
        body = {"query": "wren", "mode": "lexical", "explain": True, **asked}
        hits = client.post(f"{address}/search", json=body).json()["hits"]
        for hit in hits:
            assert sum(one["score"] for one in hit["explanation"]["terms"]) == pytest.approx(hit["score"], abs=1e-9)
        return [hit["id"] for hit in hits]

    assert order() == ["titled", "told", "sold"]
    assert order(field_weights={"title": 1}) == ["told", "titled", "sold"]
    assert order(field_weights={"title": 0, "sku": 9}) == ["sold", "told"]
    (batched,) = client.post(
        f"{address}/search/batch", json={"searches": [{"query": "wren", "mode": "hybrid", "field_weights": {"sku": 9}}]}
    ).json()["results"]
    assert len(batched["hits"]) == 3
    for weights, pointer in (
        ({}, "/field_weights"), ({"absent": 1}, "/field_weights/absent"), ({"title": -1}, "/field_weights/title"),
        ({"title": "2"}, "/field_weights/title"), ({"title": 1e9}, "/field_weights/title"),
        ({"title": 0, "text": 0, "sku": 0}, "/field_weights"), ([1], "/field_weights"), (None, "/field_weights"),
    ):  # fmt: skip
        answer = client.post(f"{address}/search", json={"query": "wren", "field_weights": weights})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    answer = client.post(f"{address}/search", json={"query": "wren", "mode": "semantic", "field_weights": {"title": 2}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/field_weights")


@pytest.mark.parametrize("weights", [{"absent": 1}, {"title": -1}, {"title": True}, {"title": 0, "text": 0}, [1], None])
def test_a_collection_whose_fields_cannot_be_weighed(client: httpx.Client, weights: Any) -> None:
    body = {"name": "never", "encoder": {"model": "words"}, "lexical": {"field_weights": weights}}
    answer = client.post("/v1/collections", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/lexical/field_weights")


@pytest.mark.parametrize("mode", ["lexical", "semantic", "dense", "hybrid"])
def test_hits_do_not_say_the_same(client: httpx.Client, create: Callable[..., str], mode: str) -> None:
    address = create()
    texts = {"a1": "wren nest wren nest", "a2": "wren nest wren nest", "b": "wren song", "c": "a wren at night alone"}
    documents = [{"id": name, "text": text} for name, text in texts.items()]
    client.post(f"{address}/documents", json={"documents": documents}).raise_for_status()
    weights = {"weights": {"words": 0.2, "tokens": 0.4, "pooled": 0.4}} if mode == "hybrid" else {}
    body: dict[str, Any] = {"query": "wren nest", "mode": mode, "include": [], **weights}
    plain = client.post(f"{address}/search", json=body).json()["hits"]
    assert [hit["id"] for hit in plain[:2]] == ["a1", "a2"]
    asked = {**body, "diversity": {"weight": 0.9}, "explain": True}
    answer = client.post(f"{address}/search", json=asked)
    hits = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid").hits
    assert (hits[0].id, hits[-1].id) == ("a1", "a2")
    assert {hit.id: hit.score for hit in hits} == {hit["id"]: hit["score"] for hit in plain}
    told = hits[-1].explanation
    assert told is not None
    assert told.diversity is not None
    assert (told.diversity.place, told.diversity.nearest) == (1, 0)
    assert told.diversity.similarity == pytest.approx(1, abs=1e-2)
    first, second = (client.post(f"{address}/search", json={**asked, "k": 2, "offset": at}).json() for at in (0, 2))
    assert [hit["id"] for hit in first["hits"] + second["hits"]] == [hit.id for hit in hits]
    (batched,) = client.post(f"{address}/search/batch", json={"searches": [asked]}).json()["results"]
    assert [hit["id"] for hit in batched["hits"]] == [hit.id for hit in hits]
    assert "diversify_ms" in batched["stages"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"diversity": {"weight": 1.1}}, "/diversity/weight"),
        ({"diversity": {"weight": "0.3"}}, "/diversity/weight"),
        ({"diversity": {"among": 1}}, "/diversity/among"),
        ({"diversity": {"among": 201}}, "/diversity/among"),
        ({"diversity": {"lambda": 0.3}}, "/diversity/lambda"),
        ({"diversity": True}, "/diversity"),
        ({"diversity": None}, "/diversity"),
        ({"diversity": {}, "sort": [{"legs": "asc"}]}, "/diversity"),
        ({"diversity": {}, "rerank": {"model": "words"}}, "/diversity"),
        ({"diversity": {}, "query": None}, "/query"),
    ],
)
def test_what_is_no_diversity(client: httpx.Client, collection: str, body: dict[str, Any], pointer: str) -> None:
    answer = client.post(f"{collection}/search", json={"query": "cat", **body})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    browsed = client.post(f"{collection}/search", json={"mode": "browse", "diversity": {}})
    assert (browsed.status_code, browsed.json()["errors"][0]["pointer"]) == (422, "/diversity")
