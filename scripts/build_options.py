"""The options of a bulk build that describe records and collections, and how their values are typed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from app.api.schemas.collections import TurnsChoice
from app.api.schemas.measures import LEAST_LINKS
from app.api.schemas.similarities import SimilarityChoice
from app.errors import Invalid, RequestError
from app.metadata.declared import FieldType, read_declared
from app.settings import DEFAULT
from app.sources.fields import TYPES
from app.types import Kind, Precision, SimilarityName
from app.vector_index.neighbours import LINKS, MOST_LINKS


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Options about records: rows of tables, objects of JSON."""
    table = parser.add_argument_group(
        "tables and records",
        "Without these, id, text and title are taken from fields that are called so (or _id, content, body, name, ...) "
        "and all others are metadata. Where there is no id, one is made of the content, or of the file's path and row.",
    )
    table.add_argument("--id-field", "--id-column", metavar="FIELD")
    table.add_argument(
        "--text-field", "--text-column", metavar="FIELD", action="append", default=[], help="several are joined"
    )
    table.add_argument("--title-field", "--title-column", metavar="FIELD")
    table.add_argument("--vector-field", metavar="FIELD", help="one vector, or a list of token vectors")
    table.add_argument(
        "--select",
        "--metadata-columns",
        metavar="FIELD[:TYPE],...",
        help=f"the fields of the metadata; of text cells a TYPE, {', '.join(TYPES)} (default: all others)",
    )
    table.add_argument(
        "--rename", metavar="FIELD=NAME", action="append", default=[], help="all other options say the new name"
    )
    table.add_argument(
        "--header", metavar="FIELD,...", default="", help="the names of all columns, where the first line has none"
    )
    table.add_argument(
        "--delimiter", metavar="CHARACTER", default=",", help="between the cells of CSV (default: a comma)"
    )
    table.add_argument("--ids", type=Path, metavar="FILE", help="the ids of .npy and .fvecs, one a line")


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Options that describe a collection. Given for one that is there already, they must be true of it."""
    spec = parser.add_argument_group("a new collection")
    spec.add_argument("--model", help="the encoder, or `none` where the documents bring vectors (default: builtin)")
    spec.add_argument("--kind", choices=get_args(Kind), help="default: multi_vector")
    spec.add_argument(
        "--segments-per-second", type=float, metavar="N", help="of --kind sequence: hits then tell offsets in seconds"
    )
    spec.add_argument(
        "--dim", type=int, help="of the documents' own vectors, with --model none, or one that a head has"
    )
    spec.add_argument("--similarity", choices=get_args(SimilarityName), help="default: cosine")
    spec.add_argument(
        "--similarity-options",
        type=similarity_options,
        metavar="JSON",
        help="what euclidean, bilinear and causal take, as the API has it; @FILE reads it from a file",
    )
    spec.add_argument("--precision", choices=get_args(Precision), help="of the stored token vectors")
    spec.add_argument(
        "--token-pooling",
        type=pooling,
        metavar="N",
        help="store the token vectors of a document as an Nth of means, or `vectors=N`: as N",
    )
    spec.add_argument(
        "--sparse",
        metavar="MODEL",
        help="sparse vectors too: by this encoder, or `none` where documents bring them",
    )
    spec.add_argument("--values", type=int, metavar="DIM", help="documents carry vectors of so many numbers (`values`)")
    spec.add_argument(
        "--turns",
        type=turns,
        metavar="JSON",
        help='documents are conversations, read as the API has it: {}, or such as {"last": 3}',
    )
    spec.add_argument(
        "--neighbours",
        type=links,
        metavar="LINKS",
        help=f"of --kind dense: link each passage to so many of its nearest, {LEAST_LINKS} to {MOST_LINKS} (such as "
        f"{LINKS}), for searches by a scorer; 0 takes the links away",
    )
    spec.add_argument(
        "--no-keep-vectors", action="store_true", help="do not keep the documents' own vectors as they came"
    )
    spec.add_argument(
        "--fusion",
        type=fusion,
        metavar="SIDE=WEIGHT,...",
        help="what words, tokens and pooled weigh in a hybrid search, or reciprocal_rank (default: learned)",
    )
    spec.add_argument(
        "--schema",
        type=schema,
        metavar="FIELD=TYPE,...",
        help=f"the types of metadata fields ({', '.join(get_args(FieldType))}), or a JSON object of them",
    )


def links(given: str) -> int:
    """Of each passage, none or at least some.

    >>> links("32")
    32
    """
    if not given.isdecimal() or not (int(given) == 0 or LEAST_LINKS <= int(given) <= MOST_LINKS):
        raise argparse.ArgumentTypeError(f"expected 0, or {LEAST_LINKS} to {MOST_LINKS} links, got {given!r}")
    return int(given)


def similarity_options(given: str) -> dict[str, Any]:
    """A collection's ``similarity_options``, as JSON or in a file.

    >>> similarity_options('{"length": 2.5}')
    {'length': 2.5}
    """
    try:
        content = Path(given[1:]).read_bytes() if given.startswith("@") else given.encode()
        SimilarityChoice.of_body(content, "application/json", DEFAULT)
        found: dict[str, Any] = json.loads(content)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{given[1:]} cannot be read: {error.strerror}") from None
    except RequestError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    return found


def turns(given: str) -> dict[str, Any]:
    """A collection's ``turns``, as JSON.

    >>> turns('{"last": 3}')
    {'last': 3}
    """
    try:
        TurnsChoice.of_body(given.encode(), "application/json", DEFAULT)
    except RequestError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    found: dict[str, Any] = json.loads(given)
    return found


def pooling(given: str) -> int | dict[str, int]:
    """A collection's ``token_pooling``, as it is typed.

    >>> pooling("4"), pooling("vectors=8")
    (4, {'vectors': 8})
    """
    name, _, count = given.rpartition("=")
    if name not in ("", "vectors") or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number, or vectors= and a number, got {given!r}")
    return {name: int(count)} if name else int(count)


def fusion(given: str) -> str | dict[str, float]:
    """A collection's ``fusion``, as it is typed.

    >>> fusion("words=.4,pooled=.6")
    {'words': 0.4, 'pooled': 0.6}
    """
    if given == "reciprocal_rank":
        return given
    pairs = (one.partition("=") for one in given.split(","))
    try:
        return {side.strip(): float(weight) for side, _, weight in pairs if float(weight)}
    except ValueError:
        form = "SIDE=WEIGHT,..., such as words=.4,pooled=.6, or reciprocal_rank"
        raise argparse.ArgumentTypeError(f"expected {form}; got {given!r}") from None


def schema(given: str) -> dict[str, FieldType]:
    """A collection's ``schema``, as it is typed.

    >>> schema("published=date,author.name=string")
    {'published': 'date', 'author.name': 'string'}
    """
    try:
        if given.lstrip().startswith("{"):
            return read_declared(json.loads(given))
        return read_declared(dict(one.rpartition("=")[::2] for one in given.split(",")))
    except (Invalid, ValueError) as error:
        why = error.message if isinstance(error, Invalid) else str(error)
        raise argparse.ArgumentTypeError(f"expected FIELD=TYPE,..., or a JSON object: {why}") from None
