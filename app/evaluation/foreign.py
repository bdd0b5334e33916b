"""Sets of judged queries in the forms of others: TREC's topics and judgements, the queries and judgements of BEIR.

A file of TREC's judgements (qrels) has ids of queries and no texts, so it is read beside queries that are known. What
it does not judge is left out, as trec_eval leaves it out: nothing is measured by it. Grades below 0, with which some
tracks mark spam, are kept as 0: not relevant either way.
"""

from __future__ import annotations

import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from pydantic_core import PydanticCustomError

from app.errors import Invalid, Problem
from app.evaluation.judged import MAX_GRADE, Judged
from app.schema.ids import read_id
from app.sources.beir import QRELS, qrels_row
from app.sources.extras import foreign
from app.sources.protocol import Unreadable

TEXTS: Final = ("text/plain", "text/tab-separated-values")
ZIP: Final = "application/zip"
MOST_BYTES: Final = 64 * 2**20
"""Of a file in a ZIP, unpacked."""
MOST_PROBLEMS: Final = 100


def numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, from 1, without their ends."""
    for number, line in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            yield number, line.removesuffix(b"\r")


def refused(problems: Sequence[Problem]) -> Invalid:
    """The error of lines that cannot be. problems: at least one."""
    first = f"{problems[0].place}: {problems[0].message}"
    return Invalid(first if len(problems) == 1 else f"{len(problems):,} faults; the first: {first}", problems)


def are_topics(content: bytes) -> bool:
    """Whether lines are queries, `id<TAB>text`; judgements have three columns or four."""
    return next((line.count(b"\t") == 1 for _, line in numbered(content)), False)


def read_topics(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line, and its query as the API takes it. A header is left out. Raises Invalid.

    >>> list(read_topics(b"301\\tinternational crime\\n"))
    [(1, {'id': '301', 'query': 'international crime', 'grades': {}})]
    """
    for number, line in numbered(content):
        try:
            id, text = line.decode().split("\t")
        except ValueError as error:  # also what is not UTF-8
            raise refused([Problem("", "expected the query's id, a tab and its text, in UTF-8", number)]) from error
        header = number == 1 and id.casefold() in ("id", "qid", "query-id", "query_id", "topic")
        if not header:
            yield number, {"id": id, "query": text, "grades": {}}


def read_qrels(content: bytes, knows: Callable[[str], bool]) -> dict[str, dict[str, int]]:
    """Of each query the grades of documents, by ids. knows: whether a query is known. Raises Invalid with the faults of
    lines, the first ``MOST_PROBLEMS``."""
    found: dict[str, dict[str, int]] = {}
    problems: list[Problem] = []
    unknown: set[str] = set()
    for number, line in numbered(content):
        if len(problems) == MOST_PROBLEMS:
            break
        try:
            row = qrels_row(line, first=number == 1)
            if row is None:
                continue
            query, document, grade = row[0], read_id(row[1]), max(0, row[2])
        except PydanticCustomError as error:
            problems.append(Problem("", error.message(), number))
            continue
        except ValueError:
            problems.append(Problem("", f"expected {QRELS}", number))
            continue
        if grade > MAX_GRADE:
            problems.append(Problem("", f"a grade is at most {MAX_GRADE:,}; got {grade:,}", number))
        elif not knows(query):
            # Once for each of them, not for every document.
            if query not in unknown:
                said = f"nobody knows the query {query[:100]!r}: send the queries first, as lines or `id<TAB>text`"
                problems.append(Problem("", said, number))
            unknown.add(query)
        else:
            found.setdefault(query, {})[document] = grade
    if problems:
        raise refused(problems)
    if not found:
        raise Invalid.at("", f"expected judgements, one a line: {QRELS}")
    return found


def unpacked(content: bytes, split: str) -> tuple[bytes, bytes]:
    """``queries.jsonl`` and ``qrels/SPLIT.tsv`` of a BEIR folder, wherever it lies in a ZIP file. Raises
    Invalid."""
    try:
        with foreign("a ZIP file"), ZipFile(io.BytesIO(content)) as archive:
            names = [info for info in archive.infolist() if "__MACOSX" not in info.filename]
            return _member(archive, names, "queries.jsonl"), _member(archive, names, f"qrels/{split}.tsv")
    except Unreadable as error:
        raise Invalid.at("", error.message) from error


def _member(archive: ZipFile, infos: Iterable[ZipInfo], name: str) -> bytes:
    found = [info for info in infos if f"/{info.filename}".endswith(f"/{name}")]
    if len(found) != 1:
        raise Invalid.at("", f"expected a ZIP file with one {name}, of a BEIR folder; got {len(found)}")
    with archive.open(found[0]) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise Invalid.at("", f"{name} has more than {MOST_BYTES:,} bytes: send queries and judgements apart")
    return content


def topic_lines(judged: Sequence[Judged]) -> bytes:
    """`id<TAB>text` a line; white space of a text is one space. Raises Invalid for a query by vectors."""
    return b"".join(f"{one.id}\t{' '.join(_text(one).split())}\n".encode() for one in judged)


def qrels_lines(judged: Sequence[Judged]) -> bytes:
    """TREC's judgements. Raises Invalid for ids that the form cannot hold."""
    for one in judged:
        for id in (one.id, *one.grades):
            if len(id.split()) != 1 or id.strip() != id:
                raise Invalid.at("/format", f"qrels have no id with white space: {id[:100]!r}; `ndjson` has any")
    return b"".join(
        f"{one.id} 0 {document} {grade}\n".encode() for one in judged for document, grade in one.grades.items()
    )


def beir_zip(judged: Sequence[Judged], split: str) -> bytes:
    """The folder's ``queries.jsonl`` and ``qrels/SPLIT.tsv``. Raises Invalid for a query by vectors."""
    queries = "".join(json.dumps({"_id": one.id, "text": _text(one)}, ensure_ascii=False) + "\n" for one in judged)
    rows = [f"{one.id}\t{document}\t{grade}\n" for one in judged for document, grade in one.grades.items()]
    out = io.BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        # Of no time of its own, so that the same set is the same file.
        archive.writestr(ZipInfo("queries.jsonl"), queries.encode(), ZIP_DEFLATED)
        archive.writestr(
            ZipInfo(f"qrels/{split}.tsv"), "".join(["query-id\tcorpus-id\tscore\n", *rows]).encode(), ZIP_DEFLATED
        )
    return out.getvalue()


def _text(one: Judged) -> str:
    if one.turns:
        raise Invalid.at(
            "/format", f"the query {one.id[:100]!r} is a conversation, which the form has not; `ndjson` has"
        )
    if one.text is None:
        raise Invalid.at("/format", f"the query {one.id[:100]!r} is by vectors, which the form has not; `ndjson` has")
    return one.text
