"""Tuning a collection by judged queries: how its hybrid searches fuse, how wide they look, and how long passages are.

Each part is a choice among several ways with what the collection does now, by cross-validation over the queries
(``app.tuning.validation``). Fusion and width are measured on the collection itself. Another size of passages needs
texts cut and encoded anew, so some of the documents are written into collections of their own, one for each size, which
nobody sees and which are gone afterwards; they are searched exactly, so that sizes are compared and not indexes.

What a part gains is applied where it was asked for and its test carries it; a new size of passages never is, for it
needs another collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.encoders.turns import MAX_LAST, TurnsSpec
from app.errors import Conflict
from app.evaluation.compare import Searched, Setting, search_all
from app.evaluation.judged import Judged, read_set
from app.evaluation.measures import depth_of, measured, parsed
from app.indexing.restaging import rewidth
from app.indexing.sealing import Check
from app.ingest import write_documents
from app.measure.drawing import shuffled
from app.query.asked import Mode, Query
from app.store.folders import aside
from app.tuning.validation import FOLDS, LEAST, SEED, Choice, choose, together
from app.types import Document, Weights

Part: TypeAlias = Literal["fusion", "width", "passages", "turns"]
PARTS: Final[tuple[Part, ...]] = ("fusion", "width", "passages", "turns")
MOST_QUERIES: Final = 1_000
"""Of a larger set so many are drawn."""
WORDS: Final = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)
"""The weights of words that are tried."""
SHARES: Final = (0.25, 0.5, 0.75)
"""Of token vectors, in what words leave to them and to pooled vectors."""
WIDER: Final = (0.5, 2, 4)
SIZES: Final = (64, 128, 256, None)
"""Tokens of a passage; None is as many as the encoder reads."""
TURNS: Final = ((1, 1.0), (2, 1.0), (3, 1.0), (4, 0.5), (MAX_LAST, 1.0))
"""The latest turns that count, and the decay."""
AT_ONCE: Final = 64
"""Documents of a write."""

Tell: TypeAlias = Callable[[str, int, int], None]
"""Phase, done, total."""
Way: TypeAlias = Callable[[Query], Query]


@dataclass(frozen=True, slots=True)
class ByJudgements:
    """judgements: a set of the collection. measure: as ir_measures names it. parts: what is tuned. documents: that are
    cut anew at most, for each size of passages. apply: whether what is carried is set."""

    judgements: str
    measure: str = "nDCG@10"
    parts: tuple[Part, ...] = PARTS
    documents: int = 2_000
    apply: bool = False


@dataclass(frozen=True, slots=True)
class _Ways:
    """names: the current one first. values: (ways, queries). set: of each name, what applies it."""

    names: list[str]
    values: Any
    set: Mapping[str, Callable[[], None]]


def usable(collection: Collection, name: str) -> list[Judged]:
    """The texts of a set of which a document is relevant, at most ``MOST_QUERIES``, drawn by a seed. Raises NotFound,
    Conflict (too_few_queries)."""
    found = [one for one in read_set(collection, name) if one.text is not None and any(one.grades.values())]
    if len(found) < LEAST:
        raise Conflict(
            f"tuning takes at least {LEAST} queries by text with a relevant document; the set {name} has {len(found)}",
            code="too_few_queries",
        )
    places = np.sort(np.random.default_rng(SEED).permutation(len(found))[:MOST_QUERIES]).tolist()
    return [found[place] for place in places]


def tune_judged(
    collection: Collection,
    goal: ByJudgements,
    check: Check = lambda: None,
    tell: Tell = lambda phase, done, total: None,
) -> dict[str, Any]:
    """Measures, and applies what is carried where that was asked for. Gives the report. Raises NotFound, Conflict
    (too_few_queries, no_encoder), and what searching and writing raise."""
    judged = usable(collection, goal.judgements)
    made: dict[Part, _Ways] = {}
    skipped: dict[Part, str] = {}
    for part in goal.parts:
        why = hindrance(collection, part)
        if why is not None:
            skipped[part] = why
            continue
        made[part] = _TRIED[part](collection, judged, goal, check, tell)
    choices = dict(zip(made, together([choose(ways.names, ways.values) for ways in made.values()]), strict=True))
    applied: list[Part] = []
    for part, choice in choices.items():
        if goal.apply and choice.carried and choice.chosen in made[part].set:
            tell(f"applying {part}", 0, 0)
            made[part].set[choice.chosen]()
            applied.append(part)
    return {
        "judgements": goal.judgements,
        "measure": goal.measure,
        "queries": len(judged),
        "folds": FOLDS,
        "seed": SEED,
        "parts": {part: asdict(choice) for part, choice in choices.items()},
        "skipped": skipped,
        "applied": applied,
        "advice": _advice(choices, applied),
    }


def hindrance(collection: Collection, part: Part) -> str | None:
    """Why a part cannot be tuned; None where it can."""
    spec = collection.spec
    if spec.model is None:
        return "the collection has no encoder, and queries are texts"
    if part == "fusion" and mode_of(collection) != "hybrid":
        return "the collection has neither words nor a sparse encoder: nothing is fused"
    if part == "fusion" and spec.given_sparse:
        return "its sparse vectors are callers', and queries are texts"
    if part == "turns" and spec.turns is None:
        return "the collection has no conversations"
    if part == "passages" and spec.passages.split != "structure":
        return "the collection keeps a passage a document"
    if part == "passages" and spec.given_sparse:
        return "its sparse vectors are callers', of which other passages would need others"
    return None


def _advice(choices: Mapping[Part, Choice], applied: Sequence[Part]) -> list[str]:
    found = []
    for part, one in choices.items():
        gain = f"{one.gain.mean:+.4f} [{one.gain.low:+.4f}, {one.gain.high:+.4f}], p {one.p_corrected:.4f}"
        if one.verdict == "unchanged":
            found.append(f"{part}: what holds now is the best of {len(one.tried)}")
        elif one.verdict == "worse":
            found.append(f"{part}: choosing by some queries loses on the others ({gain}); nothing is changed")
        elif not one.carried:
            found.append(f"{part}: {one.chosen} is no better than chance explains ({gain}); nothing is changed")
        elif part in applied:
            found.append(f"{part}: {one.chosen} is set, which gains {gain}")
        elif part in ("passages", "turns"):
            found.append(f"{part}: {one.chosen} gains {gain}: create a collection so, and import the documents again")
        else:
            found.append(f"{part}: {one.chosen} gains {gain}; `apply` sets it")
    return found


def _fusion(collection: Collection, judged: Sequence[Judged], goal: ByJudgements, check: Check, tell: Tell) -> _Ways:
    pinned = collection.spec.fusion
    fusions: dict[str, Weights | Literal["reciprocal_rank"] | None] = {}
    if pinned is not None:
        fusions["weights that follow the queries"] = None
    if pinned != "reciprocal_rank":
        fusions["reciprocal ranks"] = "reciprocal_rank"
    for weights in _grid(collection):
        if weights != pinned:
            fusions[", ".join(f"{side} {weight:.4g}" for side, weight in weights.items())] = weights
    ways: dict[str, Way] = {"current": lambda query: query}
    for name, fusion in fusions.items():
        ways[name] = lambda query, weights=fusion or "learned": replace(query, weights=weights)  # type: ignore[misc]
    names, values = _measured(collection, judged, goal, ways, "hybrid", check, tell, "fusion")

    def setter(fusion: Weights | Literal["reciprocal_rank"] | None) -> Callable[[], None]:
        return lambda: collection.pin_fusion(fusion)

    return _Ways(names, values, {name: setter(fusion) for name, fusion in fusions.items()})


def _grid(collection: Collection) -> Iterator[Weights]:
    """Weights of all sides, 1 in all: of words each of ``WORDS``, and of two kinds of vectors each of ``SHARES``; a
    sparse side has as much as each kind of vectors in the mean."""
    sides = collection.spec.sides
    vectors = [side for side in sides if side in ("tokens", "pooled")]
    others = [side for side in sides if side != "words"]
    for words in WORDS if "words" in sides else (0.0,):
        left = (1 - words) / len(others)
        for share in SHARES if len(vectors) == 2 else (0.5,):
            weights = dict.fromkeys(sides, left)
            if "words" in sides:
                weights["words"] = words
            if len(vectors) == 2:
                weights |= {"tokens": 2 * left * share, "pooled": 2 * left * (1 - share)}
            yield {side: round(weight, 6) for side, weight in weights.items()}


def _width(collection: Collection, judged: Sequence[Judged], goal: ByJudgements, check: Check, tell: Tell) -> _Ways:
    now = collection.published.stage.width
    widths = {f"width {width}": width for width in sorted({max(10, round(now * by)) for by in WIDER}) if width != now}
    ways: dict[str, Way] = {"current": lambda query: query}
    for name, width in widths.items():
        ways[name] = lambda query, width=width: replace(query, candidates=width)  # type: ignore[misc]
    names, values = _measured(collection, judged, goal, ways, mode_of(collection), check, tell, "width")

    def setter(width: int) -> Callable[[], None]:
        def apply() -> None:
            record = collection.published.generation.stage
            report = dict((record and record.report) or {})
            rewidth(collection, width, report, reason=f"width {width}, by the judgements {goal.judgements}")

        return apply

    return _Ways(names, values, {name: setter(width) for name, width in widths.items()})


def _passages(collection: Collection, judged: Sequence[Judged], goal: ByJudgements, check: Check, tell: Tell) -> _Ways:
    documents = _drawn(collection, judged, goal.documents)
    encoder = collection.spec.model and collection.resources.encoders.get(collection.spec.model, collection.spec.kind)
    room = (encoder and encoder.room) or 0
    now = collection.spec.passages
    specs = {"current": now}
    for size in SIZES:
        if size != now.size and (size is None or not room or size < room) and not (now.size == room and size is None):
            overlap = min(now.overlap, (size or room or 256) // 4)
            specs[f"passages of {size or room or 'all'} tokens"] = PassageSpec(size=size, overlap=overlap)
    # A document that is not among them is judged in none of the sizes.
    return _elsewhere(
        collection, judged, documents, {name: (spec, None) for name, spec in specs.items()}, goal, check, tell
    )


def _turns(collection: Collection, judged: Sequence[Judged], goal: ByJudgements, check: Check, tell: Tell) -> _Ways:
    now = collection.spec.turns
    assert now is not None, "else it is hindered"
    specs = {"current": (collection.spec.passages, replace(now, map=None))}
    for last, decay in TURNS:
        if (last, decay) != (now.last, now.decay):
            name = "all turns" if last == MAX_LAST else f"the last {last} turns"
            name += "" if decay == 1 else f", decay {decay:g}"
            specs[name] = (collection.spec.passages, replace(now, last=last, decay=decay, map=None))
    documents = _drawn(collection, judged, goal.documents)
    return _elsewhere(collection, judged, documents, specs, goal, check, tell)


def _elsewhere(
    collection: Collection,
    judged: Sequence[Judged],
    documents: Sequence[Document],
    specs: Mapping[str, tuple[PassageSpec, TurnsSpec | None]],
    goal: ByJudgements,
    check: Check,
    tell: Tell,
) -> _Ways:
    """By collections of these documents that are made so, one after another."""
    among = {document.id for document in documents}
    own = [replace(one, grades={id: grade for id, grade in one.grades.items() if id in among}) for one in judged]
    names: list[str] = []
    rows: list[Any] = []
    for name, spec in specs.items():
        with _scratch(collection, spec, documents, check, _telling(tell, f"writing, {name}", len(documents))) as made:
            ways: dict[str, Way] = {name: lambda query: replace(query, exact=True)}
            _, values = _measured(made, own, goal, ways, mode_of(collection), check, tell, name)
        names.append(name)
        rows.append(values[0])
    return _Ways(names, np.array(rows), {})


def _telling(tell: Tell, phase: str, total: int) -> Callable[[int], None]:
    return lambda done: tell(phase, done, total)


def mode_of(collection: Collection) -> Mode:
    """Of a search that does not say."""
    spec = collection.spec
    return "semantic" if spec.lexical is None and spec.sparse_model is None else "hybrid"


def _measured(
    collection: Collection,
    judged: Sequence[Judged],
    goal: ByJudgements,
    ways: Mapping[str, Way],
    mode: Mode,
    check: Check,
    tell: Tell,
    phase: str,
) -> tuple[list[str], Any]:
    """The names of the ways and their values, (ways, queries)."""
    measures = parsed([goal.measure], "/measure")
    plain = Query(mode=mode, k=depth_of(measures), include=frozenset())
    turns = collection.spec.turns

    def asked(one: Judged) -> Query:
        if not one.turns or turns is None:
            return replace(plain, text=one.text)
        return replace(plain, text=turns.heard(one.turns), turns=one.turns)

    settings = [Setting(name, [way(asked(one)) for one in judged]) for name, way in ways.items()]
    searched: Searched = search_all(
        collection, judged, settings, check=check, tell=lambda done, total: tell(f"measuring {phase}", done, total)
    )
    grades = {one.id: dict(one.grades) for one in judged}
    values = []
    for name in ways:
        (by_query,) = measured(measures, grades, searched.found[name]).values()
        values.append([by_query[one.id] for one in judged])
    return list(ways), np.array(values)


def _drawn(collection: Collection, judged: Sequence[Judged], most: int) -> list[Document]:
    """Those that somebody judged, relevant ones first, and others to search them among."""
    wanted = dict.fromkeys(
        id for least in (1, 0) for one in judged for id, grade in one.grades.items() if grade >= least
    )
    found: dict[str, Document] = {}
    with collection.snapshot() as snapshot:
        seqs = snapshot.versions(list(wanted)[:most]).tolist()
        for start in range(0, len(seqs), AT_ONCE):
            for document in snapshot.documents(seqs[start : start + AT_ONCE]).values():
                found[document.id] = document
        # Not all are among those that are drawn first.
        for _, document in shuffled(snapshot, np.random.default_rng(SEED), most):
            if len(found) >= most:
                break
            found.setdefault(document.id, document)
    return [replace(one, vectors=None, splits=(), sparse=None) for one in found.values()]


@contextmanager
def _scratch(
    collection: Collection,
    spec_of: tuple[PassageSpec, TurnsSpec | None],
    documents: Sequence[Document],
    check: Check,
    tell: Callable[[int], None],
) -> Iterator[Collection]:
    """A collection like this one with other passages, or that reads turns in another way, of these documents, which is
    gone at the end of the block."""
    resources, spec = collection.resources, collection.spec
    with (
        aside(collection.files.parent) as folder,
        Catalogue(folder.path, resources.encoders, resources.settings) as catalogue,
    ):
        made = catalogue.create(
            "tuned",
            model=spec.model,
            kind=spec.kind,
            similarity=spec.similarity,
            options=spec.options,
            precision=spec.vectors.precision,
            token_pooling=spec.vectors.token_pooling,
            passages=spec_of[0],
            turns=spec_of[1],
            lexical=spec.lexical,
            sparse=spec.sparse,
            fusion=spec.fusion,
        )
        for start in range(0, len(documents), AT_ONCE):
            check()
            tell(start)
            write_documents(made, documents[start : start + AT_ONCE])
        yield made


_TRIED: Final = {"fusion": _fusion, "width": _width, "passages": _passages, "turns": _turns}
