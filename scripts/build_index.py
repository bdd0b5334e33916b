"""Builds a collection from a source of documents, or brings it up to date.

    build_index.py handbook/ --collection handbook
    build_index.py python-docs --collection python-docs
    build_index.py corpus.ndjson.gz --collection papers --kind dense
    build_index.py films.csv --collection films --id-field key --text-field plot --select year:int,genre
    build_index.py handbook/ --collection handbook --source handbook --sync
    build_index.py collection.tsv --collection msmarco --format msmarco
    build_index.py corpus.ndjson.gz --collection papers --ray HOST:6379
    zcat dump.gz | build_index.py - --collection dump --on-error skip

A folder is read whole: Markdown, text, HTML, PDF and DOCX, a document a file, whose id is its path from the folder
(after the folder's name, where there are several sources); CSV, TSV, JSON, NDJSON, XLSX, Parquet, Arrow, HDF5, TREC,
.npy and .fvecs, a document a row, whose id is `path#` and its own id or its number. Hidden files, and links that leave
the folder, are passed over.

The collection is created where it is missing; a build that fails before anything is written leaves none. Documents are
upserted: run twice, nothing changes; interrupted, the same command goes on. A running server sees the result at once.
Where the server itself has the collection open, the documents are sent to it.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = "interrupted; the same command goes on from here"
if __name__ == "__main__":
    # Most of a start is imports, and whoever interrupts those wants no traceback.
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, f"{INTERRUPTED}\n".encode()), os._exit(130)))

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from build_options import add_fields, add_spec
from progress import Progress
from pydantic import ValidationError
from pydantic_settings import SettingsError
from python_docs import PythonDocs

from app.api.schemas.collections import TurnsChoice
from app.api.schemas.similarities import SimilarityChoice
from app.catalogue.catalogue import SERVER_LOCK, Catalogue
from app.client import Collection, Sheaf
from app.collection.spec import SparseSpec, ValueSpec
from app.compute.native import prepare
from app.encoders.registry import Encoders
from app.errors import Conflict, Invalid, NotFound, SheafError
from app.indexing.reindexing import link
from app.ingest import beyond_the_limit
from app.load import client
from app.load.bulk import Summary, fill, told
from app.load.cluster import Cluster
from app.load.marked import MARK, Marked, delete_gone, why_not
from app.load.preview import first
from app.search import loops
from app.settings import DEFAULT, Settings, refusals
from app.sources.choose import FORMATS, Reading, open_sources
from app.sources.fields import Fields, renames
from app.sources.files.content import known_charset
from app.sources.folder import Chosen
from app.sources.protocol import Source
from app.sources.table import selected
from app.store.lock import FileLock
from app.tasks.linking import reason_of
from app.types import Few, Kind


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="files and folders, also of BEIR; or one of them, - for standard input, or python-docs",
    )
    parser.add_argument("--collection", required=True, metavar="NAME")
    parser.add_argument("--format", choices=FORMATS, help="where the name of SOURCE does not tell")
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="what a bad line does (default: stop)"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--indexes", type=Path, metavar="DIR", help="the folder of the collections (SHEAF_INDEXES)")
    where.add_argument("--server", metavar="URL", help="send everything to this server instead")
    where.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="encode on this Ray cluster, HOST:PORT or auto (the one that this machine is of), or `local`: by "
        "processes of this machine; needs the extra cluster",
    )
    where.add_argument(
        "--ray-gpus",
        type=float,
        default=0.0,
        metavar="N",
        help="GPUs of each task of the cluster, such as .5 (default: none)",
    )
    add_spec(parser)
    files = parser.add_argument_group("folders and files")
    files.add_argument(
        "--include",
        metavar="PATTERN",
        action="append",
        default=[],
        help="read only files whose name fits, such as '*.md', or whose path does, such as 'notes/*'; may be repeated",
    )
    files.add_argument(
        "--exclude", metavar="PATTERN", action="append", default=[], help="files and folders to pass over, likewise"
    )
    files.add_argument("--charset", metavar="NAME", help="of texts that are not UTF-8 and do not tell, such as cp1252")
    add_fields(parser)
    source = parser.add_argument_group("what was there before")
    source.add_argument(
        "--source",
        dest="mark",
        metavar="NAME",
        help=f"mark each document with the name of this source, in its metadata ({MARK})",
    )
    source.add_argument(
        "--sync",
        action="store_true",
        help="delete documents with the mark of --source that the source has no more, what --include and --exclude "
        "leave out among them; nothing where a part of it could not be read, or where it is empty",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the first three documents, and write nothing")
    return parser


def reading(args: argparse.Namespace, kind: Kind | None, values: bool) -> Reading:
    """How the sources are to be read. Raises Invalid."""
    if len(args.delimiter.replace("\\t", "\t")) != 1 or args.delimiter in ('"', "\n", "\r"):
        raise Invalid(f"--delimiter: expected one character, got {args.delimiter!r}")
    names = None if args.select is None else selected([name for name in args.select.split(",") if name])
    fields = Fields(
        args.id_field,
        tuple(args.text_field),
        args.title_field,
        args.vector_field,
        names,
        renames(args.rename, "--rename"),
        kind,
        values=values,
    )
    return Reading(
        fields,
        tuple(name for name in args.header.split(",") if name),
        args.delimiter.replace("\\t", "\t"),
        Chosen(tuple(args.include), tuple(args.exclude)),
        None if args.charset is None else known_charset(args.charset),
        args.ids,
    )


def source_of(args: argparse.Namespace, kind: Kind | None, values: bool) -> Source:
    """The source to read. values: whether documents carry some. Raises Invalid, NotFound."""
    if args.source == ["python-docs"] and args.format is None:
        source: Source = PythonDocs()
    else:
        source = open_sources(args.source, args.format, reading(args, kind, values))
    return source if args.mark is None else Marked(source, args.mark)


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """The command line's description of the collection, by the names of CollectionSpec."""
    names = (
        "model",
        "kind",
        "dim",
        "similarity",
        "similarity_options",
        "precision",
        "token_pooling",
        "fusion",
        "schema",
        "segments_per_second",
    )
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if given.get("model") == "none":
        given["model"] = None
    if args.no_keep_vectors:
        given["keep_vectors"] = False
    if args.sparse is not None:
        given["sparse"] = {"model": None if args.sparse == "none" else args.sparse}
    if args.turns is not None:
        given["turns"] = args.turns
    if args.values is not None:
        given["values"] = {"dim": args.values}
    return given


def require_same(name: str, has: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises Conflict where the collection that is there is not what the command line says."""
    if isinstance(has.get("fusion"), Mapping):
        # Sides that weigh nothing may be left out.
        has = {**has, "fusion": {side: weight for side, weight in has["fusion"].items() if weight}}
    has = {**has, "similarity_options": has.get("similarity_options") or {}}
    own = {key: value for key, value in wanted.get("similarity_options", {}).items() if key not in ("matrix", "sample")}
    if own:
        # Of a matrix only its size is told.
        has["similarity_options"] = {key: has["similarity_options"].get(key) for key in own}
    wanted = {key: value for key, value in wanted.items() if key != "similarity_options"}
    wanted |= {"similarity_options": own} if own else {}
    if wanted.get("turns") and has.get("turns"):
        has = {**has, "turns": {key: has["turns"][key] for key in wanted["turns"]}}
    elif "turns" in wanted and has.get("turns"):
        has = {**has, "turns": {}}
    differ = [f"{key} is {has[key]}, not {value}" for key, value in wanted.items() if has[key] != value]
    if differ:
        raise Conflict(f"collection {name} is there already, and its {'; its '.join(differ)}")


def build(
    catalogue: Catalogue,
    name: str,
    source: Source,
    wanted: dict[str, Any],
    on_error: Any,
    cluster: Cluster | None = None,
) -> Summary:
    """The collection with everything of the source in it, by this process; cluster: encodes. Raises Conflict
    (collection_busy)."""
    created = False
    wanted = dict(wanted)
    if "sparse" in wanted:
        wanted["sparse"] = SparseSpec(**wanted["sparse"])
    if "turns" in wanted:
        wanted["turns"] = TurnsChoice(**wanted["turns"]).spec
    if "values" in wanted:
        wanted["values"] = ValueSpec(**wanted["values"])
    if isinstance(wanted.get("token_pooling"), dict):
        wanted["token_pooling"] = Few(**wanted["token_pooling"])
    try:
        collection = catalogue.get(name)
        has = {key: getattr(collection.spec, key) for key in wanted if key not in ("schema", "similarity_options")}
        has |= {"schema": dict(collection.published.declared), "similarity_options": asdict(collection.spec.options)}
        require_same(name, has, wanted)
    except NotFound:
        declared = wanted.pop("schema", {})
        chosen = {"model": "builtin", "kind": "multi_vector", **wanted}
        if "similarity_options" in chosen:
            content = json.dumps(chosen.pop("similarity_options"))
            made = SimilarityChoice.of_body(content.encode(), "application/json", DEFAULT)
            chosen["options"] = made.options(catalogue.resources.settings.matrices)
        collection = catalogue.create(name, declared=declared, **chosen)
        created = True
    try:
        with Progress(name, _unit(source), source.total) as bar:
            return fill(
                collection,
                source,
                on_error=on_error,
                bad_line=lambda place, error: bar.say(f"{place}: {error.message}"),
                progress=lambda summary: bar.update(source.done, source.total, _note(source, summary)),
                cluster=cluster,
            )
    except BaseException:
        if created and collection.published.live == 0:
            with suppress(SheafError):
                catalogue.delete(name)
        raise


def require_linkable(name: str, kind: str, links: int | None) -> None:
    """Raises Invalid where links are asked for and a collection of this kind has none."""
    if links is not None and kind != "dense":
        raise Invalid(f"--neighbours links the documents of a dense collection; {name} is {kind}")


def linked(catalogue: Catalogue, name: str, links: int) -> None:
    """What was built, by this process."""
    collection = catalogue.get(name)
    if collection.published.stage.neighbours == links:
        return
    with Progress(f"{name}: linking", "passages", None) as bar:
        link(collection, links, reason=reason_of(links), progress=lambda done, total: bar.update(done, total, ""))


def send(
    url: str, key: str | None, name: str, source: Source, wanted: dict[str, Any], on_error: Any, links: int | None
) -> Summary:
    """The same through a server. links: that are asked for afterwards."""
    with Sheaf(url, key, timeout_s=client.TIMEOUT_S) as sheaf:
        collection, created = sheaf.collection(name), False
        try:
            there = collection.describe()
        except NotFound:
            require_linkable(name, wanted.get("kind", "multi_vector"), links)
            there = sheaf.create(name, **wanted).describe()
            created = True
        require_linkable(name, there["encoder"]["kind"], links)
        require_same(name, {**there, **there["encoder"]}, wanted)
        try:
            return _send(collection, there["encoder"]["kind"], source, on_error)
        except Invalid:
            # Of the source or of a task that has ended: nothing of it goes on there.
            if created and collection.count() == 0:
                collection.drop()
            raise


def _send(collection: Collection, kind: Kind, source: Source, on_error: Any) -> Summary:
    name = collection.name
    with Progress(f"{name}: sending", _unit(source), source.total) as bar:
        task, summary, places = client.send(
            collection,
            kind,
            source,
            on_error,
            lambda place, error: bar.say(f"{place}: {error.message}"),
            lambda summary: bar.update(source.done, source.total, _note(source, summary)),
        )
    with Progress(f"{name}: task {task.id}", "lines", None) as bar:
        try:
            task = collection.sheaf.follow(
                task,
                progress=lambda task: bar.update(task.done, task.total, task.phase),
                bad_line=lambda line, message: bar.say(f"{places[line - 1]}: {message}" if line else message),
            )
        except KeyboardInterrupt:
            bar.say(f"the server has all of it and goes on (task {task.id})")
            raise
        for warning in task.raw["warnings"]:
            bar.say(warning)
    summary.bad += task.raw["errors_total"]
    summary.written = summary.read - summary.bad
    return summary


def _unit(source: Source) -> str:
    return "B" if source.unit == "bytes" else "documents"


def _note(source: Source, summary: Summary) -> str:
    """Counts that the bar does not keep by itself."""
    read = f"{summary.read:,} documents" if source.unit == "bytes" else ""
    return ", ".join(filter(None, (read, summary.phase)))


def report(name: str, summary: Summary, *, sent: bool = False) -> None:
    """The last lines. sent: to a server, which does not tell how many stood there already."""
    done = f"{summary.written:,} {'applied by the server' if sent else 'written'}"
    counts = done if sent else f"{done}, {summary.unchanged:,} unchanged"
    print(f"collection {name}: {counts}, {summary.bad:,} faults, {summary.skipped:,} without title and text")
    if summary.left_out:
        print(f"left out: {told(summary.left_out)}")
    if summary.repeated:
        print(f"ids that came again: {summary.repeated:,}; of each the last document stands")
    if summary.truncated:
        print(beyond_the_limit(summary.truncated, summary.truncated_ids))


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Builds here, or through the server where it must. Raises SheafError."""
    if args.sync and args.mark is None:
        raise Invalid("--sync deletes only what carries the name of this source: give it one (--source NAME)")
    if args.server is not None and args.ray is not None:
        raise Invalid("--ray encodes for a build here: a server (--server) encodes for itself")
    if args.dry_run:
        preview(args)
        return
    wanted, name = asked(args), args.collection
    url = args.server
    if url is None:
        encoders = Encoders(settings.models, settings.converted, settings.threads)
        with Catalogue(settings.indexes, encoders, settings) as catalogue:
            kind, values = _known(catalogue, name, wanted)
            require_linkable(name, kind, args.neighbours)
            source = source_of(args, kind, values)
            try:
                with nullcontext() if args.ray is None else Cluster(args.ray, gpus=args.ray_gpus) as cluster:
                    summary = build(catalogue, name, source, wanted, args.on_error, cluster)
                report(name, summary)
                if args.sync:
                    sync(source, summary, partial(delete_gone, catalogue.get(name)))
                if args.neighbours is not None:
                    linked(catalogue, name, args.neighbours)
                if summary.written:
                    # Here, where nobody waits for an answer, rather than with a server's first search.
                    prepare(loops())
                return
            except Conflict as error:
                url = FileLock(settings.indexes / SERVER_LOCK).note()
                if error.code != "collection_busy" or not url:
                    raise
                if args.ray is not None:
                    raise Conflict(
                        f"{error.message}: a server encodes for itself, so stop it, or build without --ray"
                    ) from error
                print(f"the server at {url} has collection {name} open: sending to it", file=sys.stderr)
    source = source_of(args, wanted.get("kind"), "values" in wanted)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    summary = send(url, key, name, source, wanted, args.on_error, args.neighbours)
    report(name, summary, sent=True)
    with Sheaf(url, key, timeout_s=client.TIMEOUT_S) as sheaf:
        if args.sync:
            sync(source, summary, partial(client.delete_gone, sheaf.collection(name)))
        if args.neighbours is not None:
            task = sheaf.collection(name).link_neighbours(args.neighbours)
            with Progress(f"{name}: linking, task {task.id}", "passages", None) as bar:
                sheaf.follow(task, progress=lambda task: bar.update(task.done, task.total, task.phase))


def sync(source: Source, summary: Summary, delete: Callable[[Marked], int]) -> None:
    """Deletes what the source has no more, and says how much, or why nothing."""
    assert isinstance(source, Marked)
    if why := why_not(source, summary):
        print(f"deleted: nothing, for of the source there were {why}")
    else:
        print(f"deleted: {delete(source):,} documents of source {source.mark!r} that it has no more")


def preview(args: argparse.Namespace) -> None:
    """Shows the first documents. Raises Invalid, NotFound."""
    wanted = asked(args)
    for said in first(source_of(args, wanted.get("kind"), "values" in wanted)):
        print(said)
    print("nothing is written (--dry-run)")


def _known(catalogue: Catalogue, name: str, wanted: dict[str, Any]) -> tuple[Kind, bool]:
    """The kind of the collection, and whether its documents carry values."""
    try:
        spec = catalogue.get(name).spec
        return spec.kind, spec.values is not None
    except NotFound:
        return wanted.get("kind", "multi_vector"), "values" in wanted


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        settings = Settings() if args.indexes is None else Settings(indexes=args.indexes)
        run(args, settings)
    except (ValidationError, SettingsError) as error:
        print(*refusals(error), sep="\n", file=sys.stderr)
        return 2
    except (SheafError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
