"""Operate: what it tells of collections, tasks and snapshots is what the API says; files are sent, and faults told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect
from web_pages import ANIMALS, Server, Visit, Visits, make_broken, state_of

from app.keys import hash_of, make_key

pytestmark = pytest.mark.browser
BOSS, READER = make_key(), make_key()
SMALL: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
HOSTILE = "<img src=x onerror='window.ran=1'>"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("zoo")
    make_broken(folder)
    keys: list[dict[str, Any]] = [
        {"name": "boss", "sha256": hash_of(BOSS), "scopes": ["admin"]},
        {"name": "reader", "sha256": hash_of(READER), "scopes": ["read"]},
    ]
    server = Server(folder, BOSS, SHEAF_KEYS=json.dumps(keys))
    server.create("animals", ANIMALS)
    server.create("birds", [])
    assert server.client.put("/v1/aliases/beasts", json={"collection": "animals"}).status_code in (200, 201)
    assert server.client.post("/v1/collections/animals/recall", json={}).status_code == 200
    yield server
    server.end()


def opened(visited: Visit, key: str = BOSS, **state: str) -> Page:
    visited.expected = (*visited.expected, "401 (Unauthorized)")
    page = visited.go(view="operate", **state)
    page.get_by_label("This server asks for a key").fill(key)
    page.get_by_role("button", name="Use it").click()
    return page


def chosen(page: Page, path: Path, content: str) -> None:
    path.write_text(content)
    page.get_by_label("File", exact=True).set_input_files(path)
    expect(page.locator(".preview b")).to_have_text(path.name)


def test_the_table_is_what_the_api_says_and_its_links_lead_on_and_back(zoo: Server, visit: Visits) -> None:
    visited = visit(zoo)
    page = opened(visited)
    rows = page.get_by_role("region", name="Collections").locator("tbody tr")
    expect(rows).to_have_count(3)
    for row, one in zip(rows.all(), zoo.client.get("/v1/collections").json()["collections"], strict=True):
        expect(row.get_by_role("link")).to_have_text(one["name"])
        if one["state"] == "quarantined":
            expect(row.locator("td").first).to_have_text(f"quarantined {one['error']}")
            expect(row.locator("td").nth(1)).to_have_text("—")
            continue
        cells = [str(one["documents"]), f"{one['bytes'] / 1000:.0f} kB", str(one["generation"])]
        parts = f"{one['segments']} + {one['tail']} new" if one["tail"] else str(one["segments"])
        stage = one["first_stage"]
        told = f"{' + '.join(stage['sources'])}, {stage['encoding']} {stage['dim']:,}, {stage['candidates']} candidates"
        recall = f"{one['recall']['recall']:.3f} at {one['recall']['k']}" if one["recall"] else "—"
        expect(row.locator("td")).to_have_text(["ready", *cells, parts, told, recall])
    expect(rows.first).to_contain_text("also beasts")
    # By keys into one, and back.
    rows.first.get_by_role("link").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="animals")).to_be_focused()
    assert state_of(page) == {"view": "operate", "c": "animals"}
    facts = page.locator(".facts")
    for said in ("beasts", "words, a vector a token, 64 dimensions", "cosine, 8bit", "as last measured"):
        expect(facts).to_contain_text(said)
    page.go_back()
    expect(rows).to_have_count(3)
    # An alias opens what it stands for; what is not there is said so.
    page.goto(f"{zoo.url}/?view=operate&c=beasts")
    expect(page.get_by_role("heading", name="animals")).to_be_visible()
    visited.expected = (*visited.expected, "404 (Not Found)")
    page.goto(f"{zoo.url}/?view=operate&c=absent")
    expect(page.get_by_role("alert").filter(has_text="collection_not_found")).to_be_visible()
    page.get_by_role("link", name="All collections").click()
    expect(rows).to_have_count(3)
    expect(page.locator("#problem")).to_be_empty()


def test_how_a_collection_came_to_what_it_is(zoo: Server, visit: Visits) -> None:
    past = "/v1/collections/{}/history"
    zoo.create("grown", ANIMALS)
    assert zoo.client.get(past.format("grown")).json() == {"generations": []}
    page = opened(visit(zoo), c="grown")
    expect(page.locator(".facts")).to_contain_text("6 in 6 passages")
    expect(page.get_by_role("region", name="History")).to_have_count(0)
    task = zoo.client.post("/v1/collections/grown/rebuild").headers["location"]
    page.reload()
    expect(page.locator(".tasks > li").first).to_contain_text("succeeded")
    assert zoo.client.get(task).json()["state"] == "succeeded"
    found = zoo.client.get(past.format("grown")).json()["generations"]
    one = found[0]
    page.reload()
    grown = page.get_by_role("region", name="History")
    expect(grown.get_by_role("img", name="Documents by generation, at most 6")).to_be_visible()
    expect(grown.locator("rect")).to_have_count(len(found))
    expect(grown.locator("dt").last).to_have_text(f"Generation {one['generation']}")
    stage = f"{' + '.join(one['sources'])}, {one['encoding']}"
    expect(grown.locator("dd").last).to_contain_text(f"{one['reason']}, 6 documents: {stage}")
    zoo.client.delete("/v1/collections/grown")


def test_a_file_is_shown_before_it_is_sent_and_its_faults_are_told_by_line(
    zoo: Server, visit: Visits, tmp_path: Path
) -> None:
    page = opened(visit(zoo), c="birds")
    lines = [json.dumps({"id": str(i), "text": f"bird {i} {HOSTILE}"}) for i in range(7)]
    lines[2] = '{"id": "x", "txt": "misnamed"}'
    chosen(page, tmp_path / "birds.ndjson", "\n".join(lines))
    preview = page.locator(".preview")
    expect(preview.locator("li")).to_have_text(lines[:5])
    expect(preview).to_contain_text("application/x-ndjson")
    assert zoo.client.get("/v1/collections/birds").json()["documents"] == 0
    page.get_by_role("button", name="Send").click()
    task = page.locator(".tasks > li").first
    expect(task).to_contain_text("failed")
    (fault,) = zoo.client.get("/v1/tasks").json()["tasks"][0]["errors"]
    assert fault["line"] == 3
    expect(task.locator("details li")).to_have_text(f"birds.ndjson, line 3: {fault['message']} invalid")
    expect(page.locator(".file").first).to_have_text("birds.ndjson")
    # Without that line the others are applied, and the facts tell of them.
    chosen(page, tmp_path / "birds.ndjson", "\n".join(lines))
    page.get_by_label("At a faulty line").select_option("skip")
    page.get_by_role("button", name="Send").click()
    expect(task).to_contain_text("succeeded")
    expect(page.locator(".facts")).to_contain_text("6 in 6 passages")
    assert state_of(page)["task"] == zoo.client.get("/v1/tasks").json()["tasks"][0]["id"]
    page.reload()
    expect(page.locator(".tasks > li").first.locator("details li")).to_contain_text("line 3: /txt: unknown field")
    # The server keeps the name.
    expect(page.locator(".tasks > li").first.locator(".file")).to_have_text("birds.ndjson")
    assert page.evaluate("window.ran") is None


def test_a_file_that_is_a_document_asks_for_its_id_and_a_refusal_is_told(
    zoo: Server, visit: Visits, tmp_path: Path
) -> None:
    visited = visit(zoo)
    visited.expected = ("415 (Unsupported Media Type)",)
    page = opened(visited, c="birds")
    chosen(page, tmp_path / "wren.md", "# The wren\n\nIt sings.\n")
    page.get_by_label("Id of the document").fill("wren")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".tasks > li", has_text="wren.md")).to_contain_text("succeeded")
    assert zoo.client.get("/v1/collections/birds/documents/wren").json()["title"] == "The wren"
    chosen(page, tmp_path / "what.ever", "a\0b")
    expect(page.locator(".preview")).to_contain_text("No text")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert").filter(has_text="expected the content type")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_running_tasks_are_followed_and_cancelled_only_while_they_are_shown(zoo: Server, visit: Visits) -> None:
    zoo.client.post("/v1/collections/animals/rebuild")
    visited = visit(zoo)
    page = opened(visited, c="animals")
    task = page.locator(".tasks > li", has_text="rebuild").first
    expect(task).to_contain_text("succeeded")
    id = next(one["id"] for one in zoo.client.get("/v1/tasks").json()["tasks"] if one["kind"] == "rebuild")

    def running(route: Route) -> None:
        """What the server says, but that the task goes on."""
        answer = route.fetch()
        body = answer.json()
        for one in body.get("tasks", [body]):
            if one["id"] == id:
                one |= {"state": "running", "phase": "encoding", "done": asked(), "total": 9, "finished": None}
        route.fulfill(response=answer, json=body)

    def asked() -> int:
        return sum(urlsplit(url).path == f"/v1/tasks/{id}" for url in visited.requests)

    page.route("**/v1/tasks?*", running)
    page.route(f"**/v1/tasks/{id}", running)
    page.clock.install()
    page.reload()
    expect(task).to_contain_text("running")
    assert asked() == 0
    for polls in (1, 2):
        page.clock.run_for(2_000)
        expect(task).to_contain_text(f"encoding {polls} of 9")
        expect(task.get_by_role("progressbar")).to_have_js_property("value", polls)
    # Nobody looks: nothing is asked.
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_label("Left", exact=True)).to_be_attached()
    page.clock.run_for(20_000)
    assert asked() == 2
    page.go_back()
    expect(task).to_contain_text("running")
    page.clock.run_for(2_000)
    expect(task).to_contain_text("encoding 3 of 9")
    # It had ended, as the answer to the cancelling says; so it is followed no more.
    task.get_by_role("button", name="Cancel the rebuild of animals").click()
    expect(task).to_contain_text("succeeded")
    expect(task.get_by_role("progressbar")).to_be_hidden()
    page.clock.run_for(20_000)
    assert asked() == 3


def test_a_task_that_goes_with_its_collection_is_shown_no_more(zoo: Server, visit: Visits) -> None:
    zoo.create("passing", [])
    task = zoo.client.post("/v1/collections/passing/rebuild").json()
    visited = visit(zoo)
    visited.expected = ("404 (Not Found)",)
    page = visited.page

    def running(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        for one in body["tasks"]:
            one |= {"state": "running", "finished": None} if one["id"] == task["id"] else {}
        route.fulfill(response=answer, json=body)

    page.clock.install()
    opened(visited)
    shown = page.locator(".tasks > li", has_text="rebuild of passing")
    expect(shown).to_contain_text("succeeded")
    page.route("**/v1/tasks?*", running)
    page.reload()
    expect(shown).to_contain_text("running")
    assert zoo.client.delete("/v1/collections/passing").status_code == 204
    page.clock.run_for(2_000)
    expect(shown).to_have_count(0)
    expect(page.locator("#problem")).to_be_empty()


def test_snapshots_are_made_fetched_and_deleted_after_a_question(zoo: Server, visit: Visits) -> None:
    page = opened(visit(zoo), c="animals")
    shown = page.get_by_role("region", name="Snapshots")
    expect(shown).to_contain_text("None.")
    page.get_by_role("button", name="Take a snapshot").click()
    row = page.locator(".snapshots > li").filter(has=page.locator("time"))
    expect(row).to_have_count(1)
    (saved,) = zoo.client.get("/v1/collections/animals/snapshots").json()["snapshots"]
    expect(row).to_contain_text(f"{saved['documents']} documents, generation {saved['generation']}")
    with page.expect_download() as fetched:
        row.get_by_role("button", name="Download").click()
    assert fetched.value.suggested_filename == f"animals-{saved['id']}.tar"
    assert fetched.value.path().stat().st_size == saved["size"]
    row.get_by_role("button", name="Delete the snapshot").click()
    expect(row.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row.get_by_role("button", name="Delete the snapshot")).to_be_focused()
    page.keyboard.press("Enter")
    row.get_by_role("button", name="Delete", exact=True).click()
    expect(shown).to_contain_text("None.")
    assert zoo.client.get("/v1/collections/animals/snapshots").json()["snapshots"] == []


def test_what_a_key_may_not_do_is_not_shown(zoo: Server, visit: Visits) -> None:
    visited = visit(zoo)
    page = opened(visited, READER, c="animals")
    expect(page.locator(".facts")).to_be_visible()
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    assert page.locator("#operate").locator("button:visible, input").count() == 0
    assert not [url for url in visited.requests if url.endswith("animals/snapshots")]


@pytest.mark.parametrize("options", [SMALL, {"color_scheme": "dark"}, {}], ids=["phone", "dark", "light"])
def test_it_fits_and_is_accessible(zoo: Server, visit: Visits, options: dict[str, Any], tmp_path: Path) -> None:
    zoo.client.post("/v1/collections/birds/import", content=b"{", headers={"content-type": "application/x-ndjson"})
    page = opened(visit(zoo, **options))
    expect(page.get_by_role("region", name="Collections")).to_be_visible()
    for one in ("", "birds", "broken"):
        if one:
            page.goto(f"{zoo.url}/?view=operate&c={one}")
            expect(page.locator(".facts")).to_be_visible()
        if one == "birds":
            chosen(page, tmp_path / f"{'w' * 90}.txt", "w" * 2_000)
            page.locator("summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
