"""The one typed settings class, and the only reader of the environment.

Each setting is an environment variable with the prefix ``SHEAF_``; a wrong value is refused at start. Settings are
frozen and passed in, never a global.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.keys import ApiKey
from app.types import MAX_K


class SavedModel(BaseModel):
    """A folder, or a hub id that the operator has allowed by writing it here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """A folder, or a hub id such as `lightonai/GTE-ModernColBERT-v1`."""
    revision: str | None = None
    """The hub's revision; ignored for a folder."""
    device: str = "auto"
    """`auto`: a GPU where torch can use one, else the CPU. Or a name of torch's, such as `cpu` or `cuda:1`."""


class LocalModel(SavedModel):
    """A sentence-transformers model that encodes texts."""

    type: Literal["sentence_transformer", "colbert"]
    """`sentence_transformer`: SentenceTransformer, dense or its token vectors. `colbert`: MultiVectorEncoder."""
    query_prefix: str | None = None
    """The beginning of each query; none given: as the model was saved. Other words are another encoder."""
    document_prefix: str | None = None
    """The beginning of each document, in the same way."""

    @property
    def prompts(self) -> dict[Literal["query", "document"], str | None]:
        return {"query": self.query_prefix, "document": self.document_prefix}


class CrossEncoderModel(SavedModel):
    """A sentence-transformers CrossEncoder: it reads a query and a text together, and reranks."""

    type: Literal["cross_encoder"]


class SparseEncoderModel(SavedModel):
    """A sentence-transformers SparseEncoder (SPLADE and its kin): it makes sparse vectors."""

    type: Literal["sparse_encoder"]


class HypencoderModel(SavedModel):
    """A Hypencoder's checkpoint: documents become vectors, queries networks that score them."""

    type: Literal["hypencoder"]


class DistilledModel(BaseModel):
    """A head that scripts/distil.py learned, over the pooled vectors of another encoder; gives dense vectors only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["distilled"]
    path: str
    """The folder that it was written to."""
    base: str = "builtin"
    """The name of the encoder that it was learned on."""


class RemoteModel(BaseModel):
    """A server with OpenAI's `/v1/embeddings`; gives dense vectors only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["remote"]
    url: str
    """The base URL, up to and with `/v1`."""
    model: str
    """The name that the server knows the model by."""
    dim: Annotated[int, Field(ge=1, le=16_384)]
    api_key: SecretStr | None = None
    batch: Annotated[int, Field(ge=1, le=2_048)] = 64
    """Texts in one request."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """For one request; a failed one is tried again with back-off."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    max_tokens: Annotated[int, Field(ge=16)] = 512
    """That it reads of a text: longer ones are split into passages of so many, by an estimate of theirs."""
    query_prefix: str = ""
    document_prefix: str = ""


class DeterministicModel(BaseModel):
    """Vectors from a hash of the words: for tests and for trying the API; knows nothing of meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["deterministic"]
    dim: Annotated[int, Field(ge=1, le=16_384)] = 64


ModelSettings = Annotated[
    LocalModel
    | CrossEncoderModel
    | SparseEncoderModel
    | HypencoderModel
    | DistilledModel
    | RemoteModel
    | DeterministicModel,
    Field(discriminator="type"),
]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


def _listed(given: object) -> object:
    """A list of words as the environment says it: JSON, or with commas between.

    >>> _listed('["a.example", "b"]'), _listed("a.example, b")
    (['a.example', 'b'], ['a.example', 'b'])
    """
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith(("[", "{")):
        try:
            return json.loads(given)
        except ValueError:
            raise PydanticCustomError("listed", "expected JSON, or words with commas between") from None
    return [word.strip() for word in given.split(",") if word.strip()]


Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]+|[0-9A-Fa-f:.]+)$")]
StoreUrl = Annotated[str, Field(pattern=r"^(s3://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*|file:///[^?#]+)/?$")]
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.\[\]:-]+$")]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what one request may hold, where the schema of its body must know it.

    Given to the schemas as their context; ``Settings`` says what each is."""

    k: int = MAX_K
    candidates: int = 100_000
    vectors: int = 65_536
    query_vectors: int = 4_096
    filter_depth: int = 32
    filter_conditions: int = 4_096


DEFAULT: Final = Limits()


def limits_of(context: object) -> Limits:
    """The limits that a schema was given, else the defaults."""
    return context if isinstance(context, Limits) else DEFAULT


class Settings(BaseSettings):
    """The operator's decisions. README.md lists every one; a test holds the list to this class.

    A variable that is empty is one that is not set: files of settings list them all, and compose passes on what is not
    set as empty.
    """

    model_config = SettingsConfigDict(env_prefix="SHEAF_", env_ignore_empty=True, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port to listen on; 0 takes a free one."""
    indexes: Path = Path("indexes")
    """The folder of the collections. One server a folder."""
    store: StoreUrl | None = None
    """The home of the collections, `s3://bucket/prefix` or `file:///folder`, of which `indexes` is a copy then: what is
    written is acknowledged once it is there. A bucket needs the extra `store`."""
    role: Literal["writer", "reader"] = "writer"
    """With a `store`: the one server that writes there, or one of many that follow and answer queries."""
    cache_bytes: Annotated[int, Field(ge=2**20)] | None = None
    """Of a reader: bytes of vectors and postings that lie in `indexes` at most, brought from the store as searches read
    them, the longest unread let go; unset: all of them, brought at once."""
    cluster: str | None = None
    """The address of a Ray cluster, `HOST:PORT` or `auto`, whose machines search the segments of a reader's
    collections; `python -m app --cluster` says the same. Needs the extra `cluster`."""
    shards: Annotated[int, Field(ge=1, le=256)] = 1
    """With a `cluster`: processes that hold segments, on each machine of it that lends processors."""
    shard_folder: Path = Path("~/.cache/sheaf/shards")
    """There: the folder on each machine where they keep their copies, which may be lost; `~` is the home of who runs
    Ray there."""
    shard_budget_ms: Annotated[int, Field(ge=1)] = 2_000
    """There: how long a shard is waited for before the other that holds a segment is asked too; a third of the search's
    time where that is less."""
    hosts: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Host names without a port, beside loopback's, that a Host header may carry (with commas between, or a JSON list):
    guards against DNS rebinding."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Origins whose pages may ask this server and read its answers, such as `https://app.example` (written alike)."""
    keys: tuple[ApiKey, ...] = ()
    """API keys (JSON list of entries that `python -m app.keys` makes); with one, every request needs one."""
    keys_file: Path | None = None
    """A JSON file with more such entries, read at start."""
    allow_anonymous: bool = False
    """Whether a server without keys may listen elsewhere than on loopback, where anyone who reaches it may do all."""
    rate: Annotated[float, Field(ge=0)] = 0.0
    """Requests a second of one key (without keys: of all); 0 is no limit."""
    api_key: SecretStr | None = None
    """The key that commands send to a server; the server itself does not read it."""
    models: dict[ModelName, ModelSettings] = {}
    """Encoders and cross encoders by name (JSON object), beside `builtin`; requests name these, never a path."""
    preload: str = "collections"
    """Encoders that are loaded before the server is ready: `collections` (the local ones of those that are there),
    `none`, or names with commas between them."""
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 64 * 2**20
    """The largest JSON body; imports stream and have a limit of their own."""
    max_import_bytes: Annotated[int, Field(ge=1_024)] = 64 * 2**30
    """The largest body of an import."""
    max_restore_bytes: Annotated[int, Field(ge=1_024)] = 256 * 2**30
    """The largest archive that is taken to restore a collection from; its files have the same bound."""
    max_documents: Annotated[int, Field(ge=1)] = 10_000
    """Documents in one write request, texts in one to an encoder or a reranker."""
    max_batch: Annotated[int, Field(ge=1)] = 256
    """Searches in one batch request."""
    max_queries: Annotated[int, Field(ge=1)] = 4_096
    """Queries in one request by arrays of vectors, without JSON."""
    max_k: Annotated[int, Field(ge=10, le=MAX_K)] = DEFAULT.k
    """Hits of one search; at least the 10 that a search asks for where it names no number."""
    max_candidates: Annotated[int, Field(ge=1, le=DEFAULT.candidates)] = DEFAULT.candidates
    """Candidates that a search may ask for."""
    max_vectors: Annotated[int, Field(ge=1)] = DEFAULT.vectors
    """Vectors of one document."""
    max_query_vectors: Annotated[int, Field(ge=1)] = DEFAULT.query_vectors
    """Vectors of one query; each costs a pass over every candidate."""
    max_passages: Annotated[int, Field(ge=1)] = 4_096
    """Passages that the text of one document is split into; a longer text is refused."""
    max_values: Annotated[int, Field(ge=1)] = 2**25
    """Numbers in the vectors of one write request, taken together."""
    max_filter_depth: Annotated[int, Field(ge=1, le=100)] = DEFAULT.filter_depth
    """Levels of a filter."""
    max_filter_conditions: Annotated[int, Field(ge=1)] = DEFAULT.filter_conditions
    """Conditions of a filter; a listed value counts as one."""
    max_answer_bytes: Annotated[int, Field(ge=1_024)] = 64 * 2**20
    """The largest answer with documents or vectors: a listing stops there, with its cursor; all else is answered 422.
    A single document is always answered."""
    max_buffered_bytes: Annotated[int, Field(ge=1_024)] = 2**30
    """Bytes of JSON bodies, of what parsing makes of them and of answers, of all requests together; beyond, they are
    answered 503."""
    max_queue: Annotated[int, Field(ge=0)] = 64
    """Requests of one kind that may wait for a thread, and imports that may upload; beyond, they are answered 503."""
    max_connections: Annotated[int, Field(ge=1)] = 2_000
    """Open connections; beyond, they are answered 503 and closed."""
    search_timeout_ms: Annotated[int, Field(ge=1)] = 30_000
    """The longest time of one search request, or one to an encoder or a reranker, waiting included; 504 then. A
    search's own timeout_ms may be less."""
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """For the head of a request to come, from the connection or from its first byte."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A body that brings less than 1,000 bytes in so long is given up."""
    idempotency_keys: Annotated[int, Field(ge=1)] = 10_000
    """Requests with an Idempotency-Key that a collection remembers, the latest ones."""
    idempotency_hours: Annotated[float, Field(gt=0)] = 24.0
    """How long it remembers them."""
    threads: Annotated[int, Field(ge=0, le=1_024)] = 0
    """Threads that search and encode; 0 means one a core of this process: as many as a container's quota gives it."""
    watchdog_s: Annotated[float, Field(ge=0)] = 60.0
    """A server whose event loop stands still for so long writes all stacks and ends; 0 never. Its restart is the
    operator's matter: docs/operations.md."""
    seal_documents: Annotated[int, Field(ge=1)] = 4_096
    """Documents in the tail of a collection at which it is sealed into an index."""
    seal_bytes: Annotated[int, Field(ge=1_024)] = 512 * 2**20
    """Bytes of vectors in the tail of a collection at which it is sealed; the tail is held in memory."""
    learn_documents: Annotated[int, Field(ge=0)] = 2_000
    """Documents in the segments of a multi-vector collection at which its first stage is learned from them; 0 never."""
    matrices: dict[ModelName, Path] = {}
    """Files of NumPy's (.npy), by the names that a new collection of similarity `bilinear` says."""
    log_queries: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Searched queries that each collection keeps on disk, the last ones, to be measured and tuned with; 0 keeps none,
    and removes what was kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the server logs; at `info`, one line a request without any of its content."""
    log_format: Literal["text", "json"] = "text"
    """How: lines to read, or one JSON object a line."""
    otlp_endpoint: str | None = None
    """The URL that traces are sent to by OTLP over HTTP, such as http://localhost:4318/v1/traces; none is kept without
    it. Needs the extra `otel`."""

    @field_validator("preload")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        unknown = [name for name in _names(value) if name not in ("builtin", *info.data.get("models", {}))]
        if unknown:
            raise ValueError(f"expected `collections`, `none`, or names of encoders; there is no {unknown[0]!r}")
        return value

    @field_validator("role")
    @classmethod
    def _of_a_store(cls, value: str, info: ValidationInfo) -> str:
        if value == "reader" and info.data.get("store") is None:
            raise ValueError("expected SHEAF_STORE too, which says what a reader follows")
        return value

    @field_validator("cluster")
    @classmethod
    def _of_a_reader(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("role") != "reader":
            raise ValueError("expected SHEAF_STORE and SHEAF_ROLE=reader too: a cluster searches what a reader follows")
        return value

    @property
    def preloaded(self) -> list[str]:
        """The encoders that are named to be loaded first."""
        return _names(self.preload)

    @property
    def limits(self) -> Limits:
        """The part of these that schemas of bodies need."""
        return Limits(
            k=self.max_k,
            candidates=self.max_candidates,
            vectors=self.max_vectors,
            query_vectors=self.max_query_vectors,
            filter_depth=self.max_filter_depth,
            filter_conditions=self.max_filter_conditions,
        )

    @property
    def converted(self) -> Path:
        """Where converted models are kept: among the collections, since the server writes nowhere else."""
        return self.indexes / ".models"

    @property
    def compiled(self) -> Path:
        """Where machine code made for this CPU is kept, for the same reason."""
        return self.indexes / ".compiled"


def _names(preload: str) -> list[str]:
    named = [] if preload in ("", "collections", "none") else preload.split(",")
    return [name.strip() for name in named]


def unknown_variables() -> list[str]:
    """Variables of the environment that look like settings and are none, such as a misspelt one."""
    known = {f"SHEAF_{field.upper()}" for field in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith("SHEAF_") and name not in known)


def refusals(error: ValidationError | SettingsError) -> list[str]:
    """The faults of the environment, a line a variable, without any of its values: they may be secrets."""
    if isinstance(error, SettingsError):
        # Its message names the field, its cause holds the value.
        field = "".join(re.findall(r'field "(\w+)"', str(error)))
        return [f"SHEAF_{field.upper()}: expected JSON"]
    return [
        f"SHEAF_{str(fault['loc'][0]).upper()}{''.join(f'[{part}]' for part in fault['loc'][1:])}: "
        + fault["msg"].replace("Input should be", "expected")
        for fault in error.errors(include_url=False, include_input=False)
    ]
