"""What is decided of a similarity at the creation of a collection, and the network that a search has in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator, WithJsonSchema

from app.catalogue.similarities import options_of
from app.documents import VECTORS_SCHEMA, Strict, VectorField, VectorsField, read_vectors
from app.scoring.networks.network import MAX_LAYERS, Activation, Layer, Network, Norm, Residual
from app.scoring.similarities.kernels import MOST, Kernel, KernelType
from app.scoring.similarities.measures import LENGTHS, MAX_DOCUMENTS, Options
from app.types import F32

_MATRIX: Final[dict[str, Any]] = {
    "anyOf": [{"type": "string", "description": "A matrix that the operator configured."}, *VECTORS_SCHEMA["anyOf"]]
}
MatrixField = Annotated[
    F32 | str | None,
    PlainValidator(lambda value: value if isinstance(value, str) else read_vectors(value)),
    WithJsonSchema(_MATRIX),
]


class KernelChoice(Strict):
    """A kernel of distances."""

    type: KernelType
    """`power`: -x^p. `log`: -log(1 + b x^p)."""
    p: float = Field(default=1.0, gt=0, le=2)
    b: float = Field(default=1.0, gt=0, le=MOST)
    """Of `log`."""


class SimilarityChoice(Strict):
    """What a similarity takes beside its name."""

    length: float | None = Field(default=None, ge=LENGTHS[0], le=LENGTHS[1])
    """Of `euclidean`, 1 by default: how long vectors usually are. No score hangs on it; with it codes of few bits and
    the first stage are as good as they can be."""
    matrix: MatrixField = None
    """Of `bilinear`, required: M of <q, M d>, a row for each dimension of queries and a column for each of documents;
    numbers, base64, or the name of a matrix that the operator configured."""
    sample: VectorsField = None
    """Of `causal`: vectors like those of documents, whose inverse covariance is M."""
    documents: int | None = Field(default=None, ge=2, le=MAX_DOCUMENTS)
    """Of `causal`, in the place of a sample: M is learned when so many documents are there, from these. Before it is an
    inner product."""
    regularisation: float | None = Field(default=None, ge=0, le=1e6)
    """Of `causal`, 0.01 by default: what is added to every variance, beside their mean."""

    kernel: KernelChoice | None = None
    """Of `cosine` and `euclidean`, in a multi-vector collection: each vector of a query adds this kernel of its
    distance to the nearest one of a document, in the place of their inner product. Near matches count for more then."""

    def options(self, matrices: Mapping[str, Path]) -> Options:
        """matrices: by name. Raises Invalid, with pointers into the body of a creation."""
        return options_of(
            matrices,
            length=self.length,
            matrix=self.matrix,
            sample=self.sample,
            documents=self.documents,
            regularisation=self.regularisation,
            kernel=None if self.kernel is None else Kernel(**self.kernel.model_dump()),
        )


Weights = Annotated[F32, PlainValidator(read_vectors), WithJsonSchema(VECTORS_SCHEMA)]


class ScorerLayer(Strict):
    """A layer: x W + b."""

    weights: Weights
    """A row for each input, a column for each output: as base64 with its shape, or lists of numbers."""
    bias: VectorField = None
    """A number for each output; left out it is 0."""


class Scorer(Strict):
    """A small network (Hypencoder, arXiv 2502.05364): the vector of each document goes through it, as the collection
    keeps it (of length 1 under cosine), and the one number that comes out is the score."""

    layers: list[ScorerLayer] = Field(min_length=1, max_length=MAX_LAYERS)
    activation: Activation = "relu"
    """Of every layer but the last, which has none. `leaky_relu` has a slope of 0.01 below 0, `gelu` is by the error
    function."""
    residual: Residual = "none"
    """To the outputs of which hidden layers their inputs are added: of `all`, or of all but the last hidden one
    (`inner`). They are as many then."""
    norm: Norm = "none"
    """Whether the outputs of a hidden layer are normalised to mean 0 and variance 1: `before` its inputs are added, or
    `after`."""

    def network(self) -> Network:
        """Not checked yet."""
        layers = (Layer(one.weights, None if one.bias is None else one.bias.ravel()) for one in self.layers)
        return Network(tuple(layers), self.activation, self.residual, self.norm)
