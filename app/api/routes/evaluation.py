"""Judged queries of a collection, and measuring ways to search by them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from app.api.answers import accepted, encoded, reply, vectors_of
from app.api.edge.access import Caller
from app.api.edge.access import require as require_key
from app.api.edge.bodies import NDJSON, READ, Route, examples
from app.api.edge.openapi import gives, gives_nothing, gives_set, takes_lines
from app.api.edge.routing import Name, decoded, require_name
from app.api.routes.searches import fitting, heard, to_query
from app.api.schemas.documents import TurnAnswer
from app.api.schemas.evaluation import (
    EvaluateRequest,
    GradesField,
    JudgedAnswer,
    JudgedQuery,
    JudgementsAnswer,
    JudgementsField,
    PoolQuery,
    PoolRequest,
    SetAnswer,
    SetsAnswer,
    SettingField,
)
from app.api.schemas.judged import read_judged
from app.api.schemas.searches import LikeField, SearchRequest
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Serving, run
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.documents import TurnField, turns_of
from app.errors import Conflict, Damaged, Invalid, NotAllowed, NotFound, StoreError
from app.evaluation.classes import MAX_HITS, of_classes
from app.evaluation.compare import DamagedElsewhere, Evaluation, Setting, Tell, compare, require
from app.evaluation.foreign import TEXTS, ZIP, beir_zip, qrels_lines, topic_lines
from app.evaluation.judged import (
    SET_NAME,
    Grade,
    Judged,
    add_grades,
    delete_set,
    has_set,
    read_set,
    sets,
    write_set,
)
from app.evaluation.known_items import known_items
from app.evaluation.measures import Measure, depth_of, parsed
from app.evaluation.pooling import Pool, pool
from app.evaluation.searched import drawn
from app.keys import ApiKey
from app.schema.ids import is_id
from app.tasks.records import Task
from app.tasks.tasks import Running

router = APIRouter(tags=["evaluation"], route_class=Route)

AT_ONCE: Final = 500
"""Searches up to which a request waits for its report."""

_ASKED = {"id": "q1", "query": "read a zip archive", "grades": {"zipfile.ZipFile": 2, "tarfile.open": 1}}
_THUMB = {"query": "q1", "text": "read a zip archive", "document": "zipfile.ZipFile", "grade": 1}
_LINES = json.dumps(_ASKED) + "\n"
_FILES = {TEXTS[0]: "q1 0 zipfile.ZipFile 2\n", TEXTS[1]: "q1\tread a zip archive\n", ZIP: None}
_MODES = [{"name": mode, "search": {"mode": mode}} for mode in ("hybrid", "lexical")]


async def _set(judgements: Annotated[str, Path(description="The set's name.", examples=["people"])]) -> str:
    if not SET_NAME.fullmatch(found := decoded(judgements, "/judgements")):
        said = f"there is no set of judgements {found[:100]!r}; a name matches {SET_NAME.pattern}"
        raise NotFound(said, code="judgements_not_found")
    return found


SetName: TypeAlias = Annotated[str, Depends(_set)]
Form: TypeAlias = Literal["json", "ndjson", "qrels", "queries", "beir"]
Split: TypeAlias = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Of a ZIP: which judgements, `qrels/SPLIT.tsv`.")
]
FORMS: Final[dict[Form, tuple[str, str]]] = {
    "json": ("application/json", ".json"),
    "ndjson": (NDJSON[0], ".ndjson"),
    "qrels": (TEXTS[0], ".qrels"),
    "queries": (TEXTS[1], ".tsv"),
    "beir": (ZIP, ".zip"),
}
"""The content type of each form of a set, and the suffix of its name."""
_WRITTEN: Final[dict[Form, Callable[[Sequence[Judged]], bytes]]] = {"qrels": qrels_lines, "queries": topic_lines}


@router.get("/v1/collections/{name}/judgements", responses=gives(SetsAnswer))
async def list_judgements(service: Serving, name: Name) -> Response:
    """The sets of judged queries that a collection keeps."""

    def work(collection: Collection) -> bytes:
        return encoded(SetsAnswer(judgements=[SetAnswer.model_validate(one) for one in sets(collection)]))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.get("/v1/collections/{name}/judgements/{judgements}", responses=gives_set(JudgementsAnswer))
async def get_judgements(
    service: Serving,
    name: Name,
    judgements: SetName,
    format: Annotated[
        Form,
        Query(description="`qrels` and `queries`: TREC's judgements, and `id<TAB>text`. `beir`: both, in a ZIP."),
    ] = "json",
    split: Split = "test",
) -> Response:
    """A set as it can be written again."""

    def work(collection: Collection) -> bytes:
        found = read_set(collection, judgements)
        if format in _WRITTEN:
            return _WRITTEN[format](found)
        if format == "beir":
            return beir_zip(found, split)
        answers = [_answer(one, collection) for one in found]
        if format == "ndjson":
            return b"".join(encoded(one) + b"\n" for one in answers)
        return encoded(JudgementsAnswer(queries=answers))

    content = await run(service.lanes.read, service.on, name, work)
    media, suffix = FORMS[format]
    headers = {} if format == "json" else {"Content-Disposition": f'attachment; filename="{judgements}{suffix}"'}
    return Response(content, 200, headers, media)


@router.put(
    "/v1/collections/{name}/judgements/{judgements}",
    responses={
        **gives(SetAnswer, description="In the place of the set that was there."),
        201: {"model": SetAnswer, "description": "New."},
    },
    openapi_extra=takes_lines(_LINES, _FILES, "One query a line."),
)
async def set_judgements(
    service: Serving,
    name: Name,
    judgements: SetName,
    body: Annotated[JudgementsField, READ, examples(one={"queries": [_ASKED]})],
    split: Split = "test",
) -> Response:
    """Keep judged queries with the collection: durable, part of its snapshots.

    As JSON; as NDJSON, a query with its grades a line, or a line of BEIR's `queries.jsonl`; as text, queries as
    `id<TAB>text`, or judgements (qrels) of TREC or BEIR, of queries that the set has: it keeps those that are judged.
    As a ZIP a BEIR folder, of which `queries.jsonl` and `qrels/SPLIT.tsv` are read.
    """

    def work(collection: Collection) -> tuple[bytes, bool]:
        if body.sent is None:
            judged = _judged(body.queries, collection)
        else:
            known = read_set(collection, judgements) if has_set(collection, judgements) else []
            judged = read_judged(
                *body.sent,
                split,
                {one.id: one for one in known},
                lambda one: _of(one, one.grades, collection, ""),
                service.settings.limits,
            )
        info, new = write_set(collection, judgements, judged)
        return encoded(SetAnswer.model_validate(info)), new

    content, new = await run(service.lanes.write, service.on, name, work)
    return reply(content, 201 if new else 200)


@router.delete("/v1/collections/{name}/judgements/{judgements}", status_code=204, responses=gives_nothing())
async def delete_judgements(service: Serving, name: Name, judgements: SetName) -> Response:
    """Forget a set."""
    await run(service.lanes.write, service.on, name, lambda collection: delete_set(collection, judgements))
    return Response(status_code=204)


@router.post("/v1/collections/{name}/judgements/{judgements}/grades", responses=gives(SetAnswer))
async def add_judgements(
    service: Serving,
    name: Name,
    judgements: SetName,
    body: Annotated[
        GradesField,
        READ,
        examples(
            thumb={"grades": [_THUMB]},
            taken_back={"grades": [{**_THUMB, "grade": None}]},
        ),
    ],
) -> Response:
    """Add judgements one by one, as clicks or thumbs come. A set that is not there is made."""

    def work(collection: Collection) -> bytes:
        grades = [Grade(one.query, one.document, one.grade, one.text) for one in body.grades]
        return encoded(SetAnswer.model_validate(add_grades(collection, judgements, grades)))

    return reply(await run(service.lanes.write, service.on, name, work))


@router.post("/v1/collections/{name}/judgements/{judgements}/pool", responses=gives(Pool))
async def pool_hits(
    service: Serving,
    caller: Caller,
    name: Name,
    judgements: SetName,
    body: Annotated[
        PoolRequest,
        READ,
        examples(two={"queries": [{"id": "q2", "query": "send an email"}], "settings": _MODES, "most": 20}),
    ],
) -> Response:
    """What to judge next: the first hits of several ways to search that the set has no grade of. Nothing is kept."""

    def work(collection: Collection) -> bytes:
        judged = _to_pool(body, judgements, collection)
        if (searches := len(judged) * len(body.settings)) > AT_ONCE:
            raise Invalid.at("/settings", f"expected at most {AT_ONCE} searches, got {searches:,}: take fewer queries")
        settings = _settings(body.settings, judged, collection, body.depth, service.catalogue)
        with _elsewhere(service.catalogue):
            return encoded(pool(collection, judged, settings, body.most))

    _require(caller, body.settings)
    if body.logged is not None and not caller.may("write"):
        raise NotAllowed(f"the key {caller.name} has not the scope write, to see what people searched", scope="write")
    return reply(await run(service.lanes.measure, service.on, name, work))


@router.post(
    "/v1/collections/{name}/evaluate",
    responses={**gives(Evaluation), 202: {"model": TaskAnswer, "description": "Accepted; follow it."}},
)
async def evaluate_searches(
    service: Serving,
    caller: Caller,
    name: Name,
    body: Annotated[
        EvaluateRequest,
        READ,
        examples(
            modes={"queries": [_ASKED], "settings": _MODES, "measures": ["nDCG@10"]},
            drawn={"known_items": {"piece": "sentence", "count": 20}, "settings": _MODES},
            classes={"classes": {"field": "module", "count": 50}, "measures": ["NN", "FT", "ST", "E", "DCG", "AP"]},
        ),
    ],
) -> Response:
    """Measure ways to search by judged queries: each mean with its 95 % interval, each difference with its own and a
    test of whether it may be chance. More than 500 searches are a task, whose result is the report: it is written into
    the collection and holds up its snapshots, so the key needs the scope `write` too."""
    _require(caller, body.settings)

    def count(collection: Collection) -> int:
        if body.known_items is not None:
            asked = body.known_items.count
        elif body.classes is not None:
            asked = min(body.classes.count, sum(view.live for view in collection.published.views))
        else:
            asked = len(_asked(body, collection).queries)
        return asked * len(body.settings)

    if body.background or await run(service.lanes.read, service.on, name, count) > AT_ONCE:
        if not caller.may("write"):
            raise NotAllowed(
                f"the key {caller.name} has not the scope write, which a task needs: ask for at most {AT_ONCE} "
                "searches (queries times settings), and not for `background`",
                scope="write",
            )

        def submit(collection: Collection) -> Task:
            collection.require_writer()
            # What is wrong with it is told now, not by the task.
            measures, asked = parsed(body.measures, "/measures"), _asked(body, collection)
            _depth(body, asked, measures)
            with _elsewhere(service.catalogue):
                require(collection, _settings(body.settings, asked.queries, collection, 1, service.catalogue))
            return service.catalogue.tasks(name).submit("evaluate", _resolved(body.given, service.catalogue))

        return accepted(await run(service.lanes.write, service.on, name, submit))

    def work(collection: Collection) -> bytes:
        return encoded(_evaluated(body, collection, service.catalogue))

    return reply(await run(service.lanes.measure, service.on, name, work))


def run_evaluate(collection: Collection, running: Running, catalogue: Callable[[], Catalogue] | None = None) -> None:
    """The task's handler. params: the request as it was given, aliases resolved. catalogue: of the server, whose other
    collections a setting may name."""
    context = collection.resources.settings.limits
    body = EvaluateRequest.model_validate_json(json.dumps(running.task.params), context=context)

    def tell(done: int, total: int) -> None:
        # Every query would be a transaction.
        if done % 16 == 0 or done == total:
            running.update(phase="searching", done=done, total=total)

    found = _evaluated(body, collection, None if catalogue is None else catalogue(), running.check, tell)
    running.update(result=json.loads(encoded(found)))


def _evaluated(
    body: EvaluateRequest,
    collection: Collection,
    catalogue: Catalogue | None,
    check: Callable[[], None] = lambda: None,
    tell: Tell = lambda done, total: None,
) -> Evaluation:
    asked, measures = _asked(body, collection), parsed(body.measures, "/measures")
    judged, depth = asked.queries, _depth(body, asked, measures)
    settings = _settings(body.settings, judged, collection, depth, catalogue)
    with _elsewhere(catalogue):
        return compare(
            collection,
            judged,
            settings,
            measures,
            depth,
            drawn=asked.drawn,
            per_query=body.per_query,
            check=check,
            tell=tell,
        )


def _depth(body: EvaluateRequest, asked: _Queries, measures: Sequence[Measure]) -> int:
    """Hits of each search. Raises Invalid where class labels ask for more than are held in memory."""
    if asked.documents is None:
        return depth_of(measures, max((_relevant(one) for one in asked.queries), default=0))
    depth = depth_of(measures, asked.relevant, asked.documents, asked.documents)
    if (hits := depth * len(asked.queries) * len(body.settings)) > MAX_HITS:
        raise Invalid.at(
            "/classes/count",
            f"expected at most {MAX_HITS:,} hits in all, got {hits:,}: {depth:,} of each of {len(asked.queries):,} "
            f"documents in {len(body.settings)} ways; draw fewer documents, or leave out measures without a rank",
        )
    return depth


def _relevant(judged: Judged) -> int:
    return sum(grade > 0 for grade in judged.grades.values())


def _require(caller: ApiKey, settings: Sequence[SettingField]) -> None:
    """Raises NotAllowed where the key does not reach a setting's collection, before it tells whether that is there."""
    for setting in settings:
        if setting.collection is not None:
            require_key(caller, setting.collection)
            require_name(setting.collection)


def _resolved(given: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """The request with collections in the place of aliases, which may be pointed elsewhere before its task runs."""
    settings = [
        {**one, "collection": catalogue.aliases.resolve(one["collection"])} if "collection" in one else one
        for one in given.get("settings", ())
    ]
    return {**given, "settings": settings} if settings else dict(given)


@contextmanager
def _elsewhere(catalogue: Catalogue | None) -> Iterator[None]:
    """Damage of another collection takes that one out of service, and not the one that was asked."""
    try:
        yield
    except DamagedElsewhere as error:
        if catalogue is not None:
            catalogue.quarantine(error.collection, error.error)
        raise


def _other(name: str, collection: Collection, catalogue: Catalogue | None) -> Collection | None:
    """The collection of a setting; None where it is the one that is asked anyhow. Raises NotFound, StoreError."""
    if catalogue is None:
        raise Conflict(f"the collection {name} is looked for by a server alone")
    try:
        found = catalogue.get(name)
    except Damaged as error:
        # As an error of this collection it would take it out of service.
        raise StoreError(error.message, code=error.code) from error
    return None if found is collection else found


@dataclass(frozen=True, slots=True)
class _Queries:
    """drawn: what was drawn, where nobody judged. relevant, documents: of class labels, as ``Labelled`` has them."""

    queries: list[Judged]
    drawn: str | None = None
    relevant: int = 0
    documents: int | None = None


def _asked(body: EvaluateRequest, collection: Collection) -> _Queries:
    """Those that can be searched."""
    if body.known_items is not None:
        piece, count = body.known_items.piece, body.known_items.count
        return _Queries(known_items(collection, piece, count), piece)
    if body.classes is not None:
        labelled = of_classes(collection, body.classes.field, body.classes.count)
        return _Queries(labelled.queries, "classes", labelled.most, labelled.documents)
    if body.queries is not None:
        return _Queries(_judged(body.queries, collection))
    assert body.judgements is not None, "a request has one source of queries"
    return _Queries(read_set(collection, body.judgements))


def _to_pool(body: PoolRequest, name: str, collection: Collection) -> list[Judged]:
    """Each query with the grades that the set has of it."""
    if body.queries is None and body.logged is None:
        return read_set(collection, name)
    known = {one.id: one.grades for one in read_set(collection, name)} if has_set(collection, name) else {}
    if body.queries is not None:
        return [
            _of(one, known.get(one.id, {}), collection, f"/queries/{place}") for place, one in enumerate(body.queries)
        ]
    texts = drawn(collection.queries.all(), body.draw)
    # An id has so many bytes and no control characters; what else was asked is no question that somebody judges.
    short = [text for text in texts if is_id(text)][: body.logged]
    if not short:
        raise Conflict("no such text is kept of those that were searched (SHEAF_LOG_QUERIES)", code="collection_empty")
    return [Judged(text, known.get(text, {}), text) for text in short]


def _judged(queries: Sequence[JudgedQuery], collection: Collection) -> list[Judged]:
    return [_of(one, one.grades, collection, f"/queries/{place}") for place, one in enumerate(queries)]


def _of(one: JudgedQuery | PoolQuery, grades: Mapping[str, int], collection: Collection, at: str) -> Judged:
    """Raises Invalid for vectors or turns that do not fit the collection."""
    heard(one, collection.spec, at)
    return Judged(one.id, grades, one.query, fitting(one, collection.spec, at), turns=turns_of(one.turns))


def _settings(
    fields: Sequence[SettingField],
    judged: Sequence[Judged],
    collection: Collection,
    depth: int,
    catalogue: Catalogue | None,
) -> list[Setting]:
    """Raises Invalid for a setting that does not suit the queries or its collection, NotFound."""
    found = []
    for place, setting in enumerate(fields):
        at, way = f"/settings/{place}/search", setting.search
        given = {field: getattr(way, field) for field in way.model_fields_set}
        other = None if setting.collection is None else _other(setting.collection, collection, catalogue)
        spec = (other or collection).spec
        queries = []
        for one in judged:
            if one.text is None and one.document is None and way.mode not in (None, "semantic", "dense"):
                raise Invalid.at(f"{at}/mode", f"the query {one.id!r} is by vectors alone: semantic or dense asks them")
            if way.mode == "browse":
                raise Invalid.at(f"{at}/mode", "browse is of a search without a query")
            vectors: dict[str, Any] = {"vector" if spec.kind == "dense" else "vectors": one.vectors}
            like = None if one.document is None else LikeField(positive=[one.document])
            turns = [TurnField.model_construct(role=turn.role, text=turn.text) for turn in one.turns] or None
            asked = SearchRequest.model_construct(
                **given, query=one.text, turns=turns, **vectors, like=like, k=depth, include=[]
            )
            queries.append(to_query(asked, spec, at))
        found.append(Setting(setting.name, queries, other))
    return found


def _answer(one: Judged, collection: Collection) -> JudgedAnswer:
    if one.turns:
        turns = [TurnAnswer(role=turn.role, text=turn.text) for turn in one.turns]
        return JudgedAnswer(id=one.id, grades=dict(one.grades), turns=turns)
    asked = {"query": one.text} if one.text is not None else vectors_of(one.vectors, (collection.spec.kind, "numbers"))
    return JudgedAnswer(id=one.id, grades=dict(one.grades), **asked)
