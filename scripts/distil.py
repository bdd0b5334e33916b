"""Learns a head that makes one vector of an encoder imitate a teacher, on a collection's own texts, without labels.

    distil.py NAME --dim 384 128 64 --out heads/mine --teacher maxsim
    distil.py NAME --dim 128 --out heads/mine --teacher large other --judged BEIR_FOLDER

A teacher is another encoder of SHEAF_MODELS that makes dense vectors, several of them (their vectors one behind the
other), or `maxsim`: exact late interaction of the collection's own encoder. Queries are titles and sentences of the
documents. Of the documents 70 % teach, 15 % say when to stop, and 15 % measure: for queries of these, what share of the
ten that the teacher finds among them does a head find, and what do plain pooled vectors, cut to the same dimensions or
turned to their principal axes? `--judged` measures nDCG@10 on the judgements of a folder whose documents the collection
has, too.

A head that is not better than the better one of these is not recommended, and not written but with `--write-anyway`.
The folder is then an encoder for whoever configures it:

    SHEAF_MODELS='{"mine": {"type": "distilled", "path": "heads/mine", "base": "builtin"}}'

The collection must not be open in a server. Needs torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from distillation import Learned, Sides, learned, principal
from progress import Progress
from pydantic import ValidationError
from pydantic_settings import SettingsError
from teachers import (
    Lessons,
    Teacher,
    Texts,
    by_tokens,
    by_vectors,
    documents_of,
    lessons,
    pooled,
    texts_of,
    unit,
)

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.heads.head import FILE, Head
from app.encoders.protocol import Encoder, MatryoshkaEncoder
from app.encoders.registry import Encoders
from app.encoders.torch.installed import require
from app.errors import Invalid, SheafError
from app.evaluation.measures import measured, parsed
from app.evaluation.statistics import LEVEL, corrected, interval, p_value
from app.settings import Settings, refusals
from app.sources.beir import beir_qrels, beir_queries
from app.types import F32, F64, I64, MAX_DIM

MAXSIM: Final = "maxsim"
FOUND: Final = 10
"""Of a query, that are compared with the teacher's."""
LEAST: Final = 40
"""Documents: fewer cannot be parted in three."""
SHARES: Final = (0.70, 0.85)
MEASURED: Final = 500
"""Held-out queries, at most."""
MEASURE: Final = parsed(["nDCG@10"], "")


@dataclass(frozen=True, slots=True)
class Row:
    """One way to have a vector of so many numbers. values: of each query. than: its difference to the better plain way
    in the mean, and the chance of one as large, corrected; None of plain ways."""

    way: str
    dim: int
    held: F64
    judged: F64 | None
    held_than: tuple[float, float] | None = None
    judged_than: tuple[float, float] | None = None
    recommended: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Places of queries, and of passages, that teach, say when to stop, and measure."""

    queries: tuple[I64, I64, I64]
    passages: tuple[I64, I64, I64]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", metavar="NAME")
    parser.add_argument("--dim", type=int, nargs="+", required=True, metavar="N", help="of the vectors, each a prefix")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the head is written")
    parser.add_argument(
        "--teacher", nargs="+", default=[MAXSIM], metavar="TEACHER", help="encoders, or maxsim (the default)"
    )
    parser.add_argument(
        "--sides", choices=get_args(Sides), help="which learn (default: what held-out documents choose)"
    )
    parser.add_argument(
        "--layers", type=int, choices=(1, 2), default=1, help="a linear map, or one hidden layer beside"
    )
    parser.add_argument(
        "--judged", type=Path, metavar="BEIR_FOLDER", help="judged queries to measure with, not to learn"
    )
    parser.add_argument("--split", default="test", help="which judgements: qrels/SPLIT.tsv (default: test)")
    parser.add_argument("--documents", type=int, default=4_000, metavar="N", help="that are drawn (default: 4,000)")
    parser.add_argument("--queries", type=int, default=4_000, metavar="N", help="that teach (default: 4,000)")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="over these, at most (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-anyway", action="store_true", help="write a head that is not recommended")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--indexes", type=Path, metavar="DIR", help="the folder of the collections (SHEAF_INDEXES)")
    return parser


def parted(texts: Texts, most: int, seed: int) -> tuple[Texts, Parts]:
    """By documents; only those queries stay that are in a part. most: queries that teach."""
    random = np.random.default_rng(seed)
    count = len(texts.ids)
    part = np.searchsorted(np.array(SHARES) * count, random.permutation(count), side="right")
    queries = [random.permutation(np.flatnonzero(part[texts.asked] == one)) for one in range(3)]
    passages = [np.flatnonzero(part[texts.owners] == one) for one in range(3)]
    limits = (most, max(1, most // 5), MEASURED)
    teach, stop, measure = (own[:limit] for own, limit in zip(queries, limits, strict=True))
    if not (len(teach) and len(stop) and len(measure)):
        raise Invalid("too few documents have a title or a sentence to ask with")
    places = np.concatenate([teach, stop, measure])
    left = replace(texts, queries=[texts.queries[place] for place in places.tolist()], asked=texts.asked[places])
    first, second, third = np.split(np.arange(len(places)), np.cumsum([len(teach), len(stop)]))
    return left, Parts((first, second, third), (passages[0], passages[1], passages[2]))


def asked_of(texts: Texts, parts: Parts, which: int) -> list[I64]:
    """Of each query of a part, the passages of its document."""
    return [np.flatnonzero(texts.owners == texts.asked[query]) for query in parts.queries[which]]


def shares(scores: F32, truth: F32) -> F64:
    """(queries,): of the teacher's best, how much is among the best by other scores. Both (queries, passages)."""
    count = min(FOUND, scores.shape[1])
    best, wanted = (np.argsort(-own, axis=1, kind="stable")[:, :count] for own in (scores, truth))
    return np.array([len({*a}.intersection(b)) / count for a, b in zip(best.tolist(), wanted.tolist(), strict=True)])


def products(queries: F32, passages: F32, dim: int) -> F32:
    """(queries, passages): cosines of the first numbers."""
    found: F32 = unit(queries[:, :dim]) @ unit(passages[:, :dim]).T
    return found


@dataclass(frozen=True, slots=True, eq=False)
class JudgedTexts:
    """Judged queries and all passages, pooled. owners: (passages,), ids' places."""

    queries: F32
    passages: F32
    ids: list[str]
    owners: I64
    qrels: Mapping[str, Mapping[str, int]]

    def worth(self, scores: F32) -> F64:
        """(queries,): nDCG@10, a document by its best passage. scores: (queries, passages)."""
        firsts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        best = np.maximum.reduceat(scores, firsts, axis=1)
        run = {}
        for query, own in zip(self.qrels, best, strict=True):
            run[query] = [self.ids[place] for place in np.argsort(-own, kind="stable")[:FOUND].tolist()]
        by_query = measured(MEASURE, self.qrels, run)[str(MEASURE[0])]
        return np.array([by_query[query] for query in self.qrels])


def judged_of(collection: Collection, encoder: Encoder, folder: Path, split: str) -> JudgedTexts:
    """Raises Invalid where the collection lacks all that is judged, or a judged query has no text; SourceError."""
    qrels, queries = beir_qrels(folder, split), beir_queries(folder)
    documents = documents_of(collection)
    known = {one.id for one in documents}
    if not any(known.intersection(grades) for grades in qrels.values()):
        raise Invalid(f"{folder} judges no document that collection {collection.name} has: are they the same texts?")
    if missing := [query for query in qrels if query not in queries]:
        raise Invalid(f"{len(missing)} judged queries have no text, the first: {missing[0]!r}")
    texts = texts_of(collection, documents)
    with Progress("encode for the judgements", "passages", len(texts.passages)) as bar:
        passages = pooled(encoder.encode_documents, texts.passages, bar.update)
    asked = pooled(encoder.encode_queries, [queries[query] for query in qrels])
    return JudgedTexts(asked, passages, texts.ids, texts.owners, qrels)


def compared(
    head: Head, plain: Mapping[str, tuple[F32, F32]], truth: F32, judged: JudgedTexts | None, axes: F32
) -> list[Row]:
    """Each way at each of the head's dimensions. plain: pooled vectors of the held-out queries and passages."""
    queries, passages = plain["held"]
    ways: dict[str, Any] = {
        "pooled, cut": (lambda own: own, lambda own: own),
        "principal axes": (lambda own: own @ axes, lambda own: own @ axes),
        "head": (lambda own: head.of(own, "query"), lambda own: head.of(own, "document")),
    }
    rows = []
    for dim in head.dims:
        for way, (of_query, of_document) in ways.items():
            held = shares(products(of_query(queries), of_document(passages), dim), truth)
            worth = None
            if judged is not None:
                worth = judged.worth(products(of_query(judged.queries), of_document(judged.passages), dim))
            rows.append(Row(way, dim, held, worth))
    return decided(rows, head.dims)


def decided(rows: Sequence[Row], dims: Sequence[int]) -> list[Row]:
    """With the head's differences to the better plain way of each dimension, and whether it is recommended: better on
    held-out documents by more than chance, and on judged queries, where there are any, better in the mean."""
    found = []
    told: dict[str, list[tuple[float, float]]] = {"held": [], "judged": []}
    for dim in dims:
        here = [row for row in rows if row.dim == dim]
        own = next(row for row in here if row.way == "head")
        for measure, known in told.items():
            values = getattr(own, measure)
            if values is not None:
                best = max((getattr(row, measure) for row in here if row.way != "head"), key=lambda one: one.mean())
                known.append((float((values - best).mean()), p_value(values - best)))
    sure = {measure: corrected([p for _, p in known]) for measure, known in told.items()}
    for row in rows:
        if row.way != "head":
            found.append(row)
            continue
        place = dims.index(row.dim)
        held = (told["held"][place][0], sure["held"][place])
        judged = None if row.judged is None else (told["judged"][place][0], sure["judged"][place])
        good = held[0] > 0 and held[1] < LEVEL and (judged is None or judged[0] > 0)
        found.append(Row(row.way, row.dim, row.held, row.judged, held, judged, good))
    return found


def table(rows: Sequence[Row], teacher: str) -> str:
    """For people."""
    head = f"{'vectors':16} {'dim':>5}  {'of the ten of ' + teacher:40}"
    lines = [head + ("nDCG@10 on judged queries" if rows[0].judged is not None else "")]
    for row in rows:
        cells = [f"{row.way:16} {row.dim:5}  {_cell(row.held, row.held_than):40}"]
        if row.judged is not None:
            cells.append(_cell(row.judged, row.judged_than))
        lines.append("".join(cells).rstrip())
    return "\n".join(lines)


def _cell(values: F64, than: tuple[float, float] | None) -> str:
    found = interval(values)
    said = f"{found.mean:.4f} [{found.low:.3f}, {found.high:.3f}]"
    return said if than is None else f"{said} {than[0]:+.4f} p {than[1]:.3f}"


def conclusion(rows: Sequence[Row]) -> str:
    """In words."""
    own = [row for row in rows if row.way == "head"]
    good = [row.dim for row in own if row.recommended]
    if not good:
        return (
            "Not recommended: at no dimension is the head better than plain vectors of as many numbers. Stay with the "
            "encoder itself, or take another teacher"
        )
    rest = [row.dim for row in own if not row.recommended]
    said = f"Recommended with {_listed(good)} dimensions"
    return said + (f"; not with {_listed(rest)}, where plain vectors are as good" if rest else "")


def _listed(dims: Sequence[int]) -> str:
    return " and ".join(f"{dim:,}" for dim in dims)


def written(head: Head, folder: Path) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{FILE}.new"
    with new.open("wb") as file:
        file.write(head.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / FILE)


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Learns, measures, prints, and writes what is recommended. Raises SheafError."""
    require("learning a head")
    dims = tuple(sorted(set(args.dim), reverse=True))
    if dims[-1] < 1 or dims[0] > MAX_DIM:
        raise Invalid(f"expected dimensions from 1 to {MAX_DIM:,}, got {', '.join(map(str, args.dim))}")
    if MAXSIM in args.teacher and len(args.teacher) > 1:
        raise Invalid("maxsim teaches alone: it has no vectors to put beside those of encoders")
    encoders = Encoders(settings.models, settings.converted, settings.threads)
    try:
        with Catalogue(settings.indexes, encoders, settings) as catalogue:
            report = _distilled(args, catalogue.get(args.collection), encoders, dims)
    finally:
        encoders.close()
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def _distilled(
    args: argparse.Namespace, collection: Collection, encoders: Encoders, dims: tuple[int, ...]
) -> dict[str, Any]:
    name = collection.spec.model
    collection.encoder()
    assert name is not None, "a collection without an encoder was refused"
    if "dense" not in encoders.kinds(name):
        raise Invalid(f"the encoder {name!r} has no pooled vectors that a head could be learned over")
    base = encoders.get(name, "dense", patient=True)
    if isinstance(base, MatryoshkaEncoder):
        raise Invalid(f"the encoder {name!r} is a head itself: learn on a collection of the encoder below it")
    if dims[0] > base.dim:
        raise Invalid(f"a head gives at most the {base.dim:,} numbers that {name!r} has, got {dims[0]:,}")
    for one in args.teacher:
        kind = "multi_vector" if one == MAXSIM else "dense"
        if kind not in encoders.kinds(name if one == MAXSIM else one):
            raise Invalid(f"the teacher {one!r} needs an encoder of {kind} vectors")
    documents = documents_of(collection)
    if len(documents) < LEAST:
        raise Invalid(f"expected {LEAST} documents or more to learn from, the collection has {len(documents):,}")
    judged = None if args.judged is None else judged_of(collection, base, args.judged, args.split)
    drawn = np.sort(np.random.default_rng(args.seed).permutation(len(documents))[: max(LEAST, args.documents)])
    every = texts_of(collection, [documents[place] for place in drawn.tolist()], args.seed)
    texts, parts = parted(every, args.queries, args.seed)
    with Progress("encode", "passages", len(texts.passages)) as bar:
        passages = pooled(base.encode_documents, texts.passages, bar.update)
    queries = pooled(base.encode_queries, texts.queries)
    with Progress("ask the teacher for vectors", "passages", len(texts.passages)) as bar:
        if args.teacher == [MAXSIM]:
            teacher: Teacher = by_tokens(encoders, name, texts, bar.update)
        else:
            teacher = by_vectors(encoders, args.teacher, texts, {name: (queries, passages)}, bar.update)
    given = []
    for part, called in ((0, "teach"), (1, "ask the teacher when to stop")):
        asking = parts.queries[part]
        with Progress(called, "queries", len(asking)) as bar:
            own = asked_of(texts, parts, part)
            given.append(lessons(teacher, queries, passages, asking, parts.passages[part], own, args.seed, bar.update))
    teach, stop = given
    sides, result = _best(args, teach, stop, dims)
    about = {"names": args.teacher, "sides": sides, "layers": args.layers, "collection": collection.name}
    head = Head(base.fingerprint, base.dim, dims, result.networks, about)
    with Progress("ask the teacher to measure", "queries", len(parts.queries[2])) as bar:
        truth = []
        for done, query in enumerate(parts.queries[2].tolist(), 1):
            truth.append(teacher.scores(query, parts.passages[2]))
            bar.update(done)
    plain = {"held": (queries[parts.queries[2]], passages[parts.passages[2]])}
    rows = compared(head, plain, np.stack(truth), judged, principal(teach.passages, dims[0]))
    called = " + ".join(args.teacher)
    print(table(rows, called))
    before, after = result.losses[0], result.losses[result.best]
    print(f"learns: {sides}; loss on others' documents {before:.4f} before, {after:.4f} after")
    print(conclusion(rows))
    good = any(row.recommended for row in rows)
    if good or args.write_anyway:
        written(head, args.out)
        entry = json.dumps({"type": "distilled", "path": str(args.out.resolve()), "base": name})
        print(f'written to {args.out}: a model of SHEAF_MODELS, such as {{"{args.out.name}": {entry}}}')
    else:
        print("nothing was written (--write-anyway does all the same)")
    return _report(rows, about, result, good=good)


def _best(args: argparse.Namespace, teach: Lessons, stop: Lessons, dims: tuple[int, ...]) -> tuple[Sides, Learned]:
    """Of the ways that sides may learn, the one with the least loss on others' documents."""
    ways: tuple[Sides, ...] = (args.sides,) if args.sides else ("both",)
    if not args.sides and args.teacher == [MAXSIM]:
        ways = ("both", "query", "document", "each")
    found: dict[Sides, Learned] = {}
    for way in ways:
        with Progress(f"learn, {way}", "rounds", args.rounds) as bar:
            found[way] = learned(
                teach,
                stop,
                dims,
                way,
                args.layers,
                args.rounds,
                args.seed,
                tell=lambda done, loss: bar.update(done, note=f"loss {loss:.4f}"),
            )
    best = min(ways, key=lambda way: found[way].losses[found[way].best])
    return best, found[best]


def _report(rows: Sequence[Row], about: Mapping[str, Any], result: Learned, *, good: bool) -> dict[str, Any]:
    told = []
    for row in rows:
        one: dict[str, Any] = {"vectors": row.way, "dim": row.dim, "held": asdict(interval(row.held))}
        if row.judged is not None:
            one["nDCG@10"] = asdict(interval(row.judged))
        if row.held_than is not None:
            one |= {"held_than": row.held_than, "judged_than": row.judged_than, "recommended": row.recommended}
        told.append(one)
    return {"teacher": dict(about), "losses": result.losses, "best": result.best, "recommended": good, "rows": told}


def main() -> None:
    args = parser().parse_args()
    try:
        run(args, Settings() if args.indexes is None else Settings(indexes=args.indexes))
    except (ValidationError, SettingsError) as error:
        raise SystemExit("\n".join(refusals(error))) from error
    except (SheafError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
