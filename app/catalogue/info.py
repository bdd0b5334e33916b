"""A collection as it is described to whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.collection.collection import Collection
from app.collection.reading import Measured
from app.collection.spec import ONE, PassageSpec
from app.encoders.turns import TurnsSpec
from app.errors import NotFound, StoreError
from app.indexing.fitting import described
from app.metadata.declared import FieldType
from app.scoring.similarities.measures import Options
from app.types import Few, Kind, Precision, Side, SimilarityName, Standing


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """model: None where callers bring their vectors."""

    model: str | None
    kind: Kind
    dim: int


@dataclass(frozen=True, slots=True)
class LexicalInfo:
    """How documents are found by words. language: null for words as they are. field_weights: of the fields that do not
    count 1. queries: hybrid searches that the
    collection has seen. rho: how much more than by meaning the best by words stood out in them; it decides what words
    weigh."""

    language: str | None
    fields: list[str]
    field_weights: dict[str, float]
    queries: int
    rho: float


@dataclass(frozen=True, slots=True)
class SparseInfo:
    """Sparse vectors. model: null where callers bring them."""

    model: str | None


@dataclass(frozen=True, slots=True)
class MapInfo:
    """From conversations to their summaries, as it was learned. documents: of which. held_out: the mean reciprocal rank
    of a conversation's own summary among all of these, by maps of other documents; unmapped: by its vector as it is."""

    documents: int
    held_out: float
    unmapped: float


@dataclass(frozen=True, slots=True)
class TurnsInfo:
    """How conversations are read. map: null while none is learned."""

    last: int
    decay: float
    roles: dict[str, float]
    summaries: bool
    map: MapInfo | None


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """Vectors that documents carry. dim: numbers of each."""

    dim: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as it stands. documents: what a search finds now; segments: of the generation; tail: documents not
    yet in it. lexical: null where words find nothing. sparse: null where there are no sparse vectors. first_stage: of
    the segments, and why so. recall: as last measured. bytes: on disk. read_only: why it takes no writes or no text
    from here. error: what is wrong with it. fusion: how a hybrid search makes one order that does not say itself: by
    the weights of scores, or by ranks; null: by weights that are learned. schema: the types of metadata
    fields that are declared; unfit: for each of these how many documents have another value there: they are kept, and
    what they have there is as if it were not. similarity_options: as they were given, of a matrix its rows and columns,
    or where it is asked for all of it, as a creation takes it, and ``of``: how many vectors it was learned from.
    Without a matrix causal is an inner product yet; ``not_learned`` says why where its documents are there.
    turns: null where there are no conversations. segments_per_second: of a sequence, by which hits tell their offsets
    in seconds. copy: of a collection whose home is an object store (`SHEAF_STORE`), how far this server is."""

    name: str
    encoder: EncoderInfo
    similarity: SimilarityName
    precision: Precision
    token_pooling: int | Few
    keep_vectors: bool
    splitting: PassageSpec
    documents: int
    passages: int
    bytes: int
    generation: int
    segments: int
    tail: int
    first_stage: dict[str, Any]
    read_only: str | None
    state: Literal["ready", "quarantined"]
    error: str | None
    lexical: LexicalInfo | None = None
    recall: Measured | None = None
    sparse: SparseInfo | None = None
    fusion: dict[Side, float] | Literal["reciprocal_rank"] | None = None
    schema: dict[str, FieldType] | None = None
    unfit: dict[str, int] | None = None
    similarity_options: dict[str, Any] | None = None
    turns: TurnsInfo | None = None
    segments_per_second: float | None = None
    values: ValueInfo | None = None
    copy: Standing | None = None


def info_of(
    name: str, collection: Collection, read_only: str | None, wrong: str | None, *, matrix: bool = False
) -> CollectionInfo:
    """Of an open collection. wrong: what keeps its background work from going on. matrix: with all of it."""
    spec, now = collection.spec, collection.published
    if collection.salvaged:
        wrong = "its indexes are damaged; a rebuild makes them anew"
    return CollectionInfo(
        name,
        EncoderInfo(spec.model, spec.kind, spec.dim),
        spec.similarity,
        spec.precision,
        spec.token_pooling,
        spec.keep_vectors,
        spec.passages,
        now.live,
        now.passages,
        collection.nbytes,
        now.generation.number,
        len(now.segments),
        now.tail.live,
        described(collection),
        read_only,
        "quarantined" if collection.salvaged else "ready",
        wrong,
        _lexical(collection),
        collection.recall,
        None if spec.sparse is None else SparseInfo(spec.sparse.model),
        dict(spec.fusion) if isinstance(spec.fusion, Mapping) else spec.fusion,
        dict(now.declared),
        _unfit(collection),
        _options(spec.options, collection.not_learned, matrix),
        _turns(spec.turns),
        spec.segments_per_second,
        None if spec.values is None else ValueInfo(spec.values.dim),
    )


def _turns(spec: TurnsSpec | None) -> TurnsInfo | None:
    if spec is None:
        return None
    own = spec.map
    learned = None if own is None else MapInfo(own.documents, own.held_out, own.unmapped)
    return TurnsInfo(spec.last, spec.decay, dict(spec.roles), spec.summaries, learned)


def _options(options: Options, not_learned: str | None, whole: bool) -> dict[str, Any] | None:
    """whole: with the numbers of a matrix."""
    names = ("length", "regularisation", "documents", "of")
    found = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.kernel is not None:
        found["kernel"] = asdict(options.kernel)
    if options.matrix is not None:
        shape = [options.matrix.rows, options.matrix.columns]
        found["matrix"] = {"base64": options.matrix.numbers, "dtype": "float32", "shape": shape} if whole else shape
    elif options.waits and not_learned is not None:
        found["not_learned"] = not_learned
    return found or None


def _unfit(collection: Collection) -> dict[str, int]:
    if collection.salvaged or not collection.published.declared:
        return {}
    with collection.snapshot() as snapshot:
        return snapshot.unfit()


def _lexical(collection: Collection) -> LexicalInfo | None:
    spec = collection.spec.lexical
    if spec is None:
        return None
    asked = collection.learned.asked
    return LexicalInfo(spec.language, list(spec.fields), dict(spec.field_weights), asked.queries, asked.rho)


def closed_to(collection: Collection, busy: Callable[[], str]) -> str | None:
    """Why it takes no writes, or no text, if so. busy: says who else may write it."""
    if (refused := collection.refusal()) is not None:
        return refused.message
    return collection.encoder_fault if collection.is_writer else f"another process writes it{busy()}"


def quarantined_info(name: str, error: StoreError) -> CollectionInfo:
    """Of a collection that cannot be opened, all that is known."""
    return CollectionInfo(
        name, EncoderInfo(None, "multi_vector", 0), "cosine", "float16", 1, True, ONE, 0, 0, 0, 0, 0, 0, {},
        error.message, "quarantined", error.message,
    )  # fmt: skip


def unknown_collection(name: str) -> NotFound:
    return NotFound(f"there is no collection {name!r}", code="collection_not_found")
