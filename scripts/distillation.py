"""Learns a head (app.encoders.heads) that imitates a teacher, by the three losses of Jasper and Stella.

Zhang, Li, Zeng, Wang: "Jasper and Stella: distillation of SOTA embedding models", 2024 (arXiv 2412.19048), section 3.3:
cosine of student and teacher (equation 1; through a linear layer that is thrown away where their widths differ), the
similarity matrix (equation 2) and the relative order of pairs (equation 3), added up with the paper's weights. The
matrix has a row for each query and a few passages in it; every prefix of the head is held to the last two, as the paper
holds its shorter vectors to them.

Where a teacher has no vectors (MaxSim), its scores are another quantity than an inner product, and only order within a
query counts: both are taken less their query's mean, and the teacher's are brought to the spread of the encoder's own.

A head begins as the principal axes of the passages, so that it is never worse than these before it learns; what it is
on others' documents says when to stop. One thread and fixed seeds: the same again on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from teachers import Lessons, unit

from app.encoders.prompts import Task
from app.scoring.networks.network import Layer, Network
from app.types import F32

Sides: TypeAlias = Literal["both", "query", "document", "each"]
"""Which of them learns: both by one network, one of them (the other has its principal axes), each by its own."""

COSINE: Final = 10.0
MATRIX: Final = 200.0
ORDER: Final = 20.0
MARGIN: Final = 0.015
"""Equation 3's."""
HIDDEN: Final = 2
"""Times the inputs: the width of a hidden layer, beside which the linear map stays."""
RATE: Final = 3e-4
QUERIES: Final = 64
"""Of a batch."""
PATIENCE: Final = 4
"""Rounds without a better loss on others' documents."""


@dataclass(frozen=True, slots=True)
class Learned:
    """networks: of each side. losses: on others' documents, before the first round and after each; best: the one that
    was kept, by its place."""

    networks: dict[Task, Network]
    losses: list[float]
    best: int


def principal(passages: F32, dim: int) -> F32:
    """(inputs, dim): the axes of the largest sums of squares, not centred: with all of them inner products stay.

    >>> principal(np.array([[0, 2], [1, 0], [0, 1]], np.float32), 1).ravel().tolist()
    [0.0, 1.0]
    """
    wide = passages.astype(np.float64)
    _, axes = np.linalg.eigh(wide.T @ wide)
    found = axes[:, ::-1][:, :dim]
    # A vector's sign is the library's choice: the largest number is made positive.
    largest = np.abs(found).argmax(axis=0)
    found = found * np.sign(found[largest, np.arange(found.shape[1])]) + 0.0
    return np.ascontiguousarray(found, np.float32)


def learned(
    lessons: Lessons,
    held: Lessons,
    dims: tuple[int, ...],
    sides: Sides = "both",
    layers: int = 1,
    rounds: int = 30,
    seed: int = 0,
    rate: float = RATE,
    tell: Callable[[int, float], None] = lambda done, loss: None,
) -> Learned:
    """held: of other documents. dims: descending, at most the inputs. layers: 1, a linear map, or 2."""
    import torch

    torch.manual_seed(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _Student(lessons, dims, sides, layers).taught(lessons, held, rounds, rate, tell)
    finally:
        torch.set_num_threads(threads)


class _Student:
    """The parameters of each side, and those that are thrown away."""

    def __init__(self, lessons: Lessons, dims: tuple[int, ...], sides: Sides, layers: int) -> None:
        import torch

        self.torch, self.dims = torch, dims
        inputs = lessons.passages.shape[1]
        axes = principal(lessons.passages, dims[0])

        def network(*, learns: bool) -> list[Any]:
            made = [torch.tensor(axes), torch.zeros(dims[0])]
            if layers == 2 and learns:
                width = HIDDEN * inputs
                made += [torch.randn(inputs, width) / inputs**0.5, torch.zeros(width), torch.zeros(width, dims[0])]
            return [torch.nn.Parameter(one) for one in made] if learns else made

        query = network(learns=sides != "document")
        document = query if sides == "both" else network(learns=sides != "query")
        self.sides: dict[Task, list[Any]] = {"query": query, "document": document}
        self.trained = [one for one in {id(one): one for one in (*query, *document)}.values() if one.requires_grad]
        self.up: Any = None
        if lessons.passage_vectors is not None:
            # The best linear map to begin with.
            own = unit(lessons.passages @ axes)
            up, *_ = np.linalg.lstsq(own.astype(np.float64), lessons.passage_vectors.astype(np.float64), rcond=None)
            self.up = torch.nn.Parameter(torch.tensor(up.astype(np.float32)))

    def taught(
        self, lessons: Lessons, held: Lessons, rounds: int, rate: float, tell: Callable[[int, float], None]
    ) -> Learned:
        torch = self.torch
        spread = 1.0 if self.up is not None else _spread(lessons)
        thrown = [] if self.up is None else [self.up]
        optimiser = torch.optim.Adam([*self.trained, *thrown], lr=rate)
        given, others = self._tensors(lessons, spread), self._tensors(held, spread)
        losses, kept, best = [self._held(others)], [one.detach().clone() for one in self.trained], 0
        steps = rounds * -(-len(lessons.which) // QUERIES)
        step = 0
        for done in range(1, rounds + 1):
            for rows in torch.randperm(len(lessons.which)).split(QUERIES):
                for group in optimiser.param_groups:
                    group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
                step += 1
                optimiser.zero_grad()
                self._loss(given, rows, torch.randperm(given["which"].shape[1])).backward()
                optimiser.step()
            losses.append(self._held(others))
            tell(done, losses[-1])
            if losses[-1] < losses[best]:
                kept, best = [one.detach().clone() for one in self.trained], done
            elif done - best >= PATIENCE:
                break
        with torch.no_grad():
            for one, value in zip(self.trained, kept, strict=True):
                one.copy_(value)
        query = _network(self.sides["query"])
        shared = self.sides["query"] is self.sides["document"]
        return Learned(
            {"query": query, "document": query if shared else _network(self.sides["document"])}, losses, best
        )

    def _tensors(self, lessons: Lessons, spread: float) -> dict[str, Any]:
        torch, scores = self.torch, lessons.scores
        if self.up is None:
            scores = (scores - scores.mean(axis=1, keepdims=True)) * np.float32(spread)
        found = {"queries": lessons.queries, "passages": lessons.passages, "which": lessons.which, "scores": scores}
        if lessons.query_vectors is not None and lessons.passage_vectors is not None:
            found |= {"query_vectors": lessons.query_vectors, "passage_vectors": lessons.passage_vectors}
        return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in found.items()}

    def _held(self, given: dict[str, Any]) -> float:
        """On all of it, pairs in the same order each time."""
        torch = self.torch
        with torch.no_grad():
            count, places = len(given["which"]), torch.arange(given["which"].shape[1]).roll(1)
            parts = torch.arange(count).split(QUERIES)
            return float(sum(self._loss(given, rows, places) * len(rows) for rows in parts) / count)

    def _loss(self, given: dict[str, Any], rows: Any, pairs: Any) -> Any:
        """pairs: of each place in a query's row, the other one that it is compared with."""
        torch = self.torch
        which, scores = given["which"][rows], given["scores"][rows]
        queries = self._run("query", given["queries"][rows])
        passages = self._run("document", given["passages"][which.reshape(-1)])
        loss = 0.0
        if self.up is not None:
            for own, target in (
                (queries, given["query_vectors"][rows]),
                (passages, given["passage_vectors"][which.reshape(-1)]),
            ):
                there = torch.nn.functional.normalize(own, dim=1) @ self.up
                loss = loss + 0.5 * COSINE * (1 - torch.nn.functional.cosine_similarity(there, target, dim=1)).mean()
        told = scores > scores[:, pairs]
        for dim in self.dims:
            one = torch.nn.functional.normalize(queries[:, :dim], dim=1)
            other = torch.nn.functional.normalize(passages[:, :dim], dim=1).reshape(*which.shape, dim)
            found = (one[:, None] * other).sum(dim=-1)
            if self.up is None:
                found = found - found.mean(dim=1, keepdim=True)
            loss = loss + MATRIX * torch.square(found - scores).mean()
            wrong = torch.relu(MARGIN - (found - found[:, pairs])) * told
            loss = loss + ORDER * wrong.sum() / told.sum().clamp(min=1)
        return loss

    def _run(self, side: Task, pooled: Any) -> Any:
        linear, bias, *more = self.sides[side]
        made = pooled @ linear + bias
        if more:
            into, between, out = more
            made = made + self.torch.nn.functional.relu(pooled @ into + between) @ out
        return made


def _spread(lessons: Lessons) -> float:
    """How much wider the encoder's own scores are spread within a query than the teacher's."""
    own = np.einsum("qd,qcd->qc", unit(lessons.queries), unit(lessons.passages)[lessons.which])
    centred = [scores - scores.mean(axis=1, keepdims=True) for scores in (own, lessons.scores)]
    return float(centred[0].std() / max(float(centred[1].std()), 1e-12))


def _network(parameters: list[Any]) -> Network:
    """As the head has it."""
    linear, bias, *more = (one.detach().numpy().copy() for one in parameters)
    if not more:
        return Network((Layer(linear, bias),), "relu")
    into, between, out = more
    # The linear map beside the hidden layer goes through it too: relu(x) - relu(-x) is x.
    same, zeros = np.eye(len(linear), dtype=np.float32), np.zeros(2 * len(linear), np.float32)
    first = Layer(np.concatenate([same, -same, into], axis=1), np.concatenate([zeros, between]))
    return Network((first, Layer(np.concatenate([linear, -linear, out]), bias)), "relu")
