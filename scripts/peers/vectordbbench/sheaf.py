"""Sheaf in VectorDBBench 2.0.0: this folder is `vectordb_bench/backend/clients/sheaf` there, with a member of its `DB`.

Its interface: `init` in each process, `insert_embeddings` by batches, `optimize` between, `search_embedding`. Cosine
and inner product; filters by `id >=` and by label. Needs Sheaf's client (`pip install --no-deps SHEAF_FOLDER`, httpx).
"""

from contextlib import contextmanager

import numpy as np
from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType, VectorDB
from vectordb_bench.backend.filter import Filter, FilterOp

from app.client import Document
from app.client import Sheaf as Server
from app.errors import NotIndexed, SheafError


class SheafConfig(DBConfig):
    """Where it serves."""

    url: str = "http://127.0.0.1:8000"

    def to_dict(self) -> dict:
        return {"url": self.url}


class SheafCaseConfig(BaseModel, DBCaseConfig):
    """candidates: that get an exact score; None: as many as Sheaf takes by itself."""

    metric_type: MetricType | None = None
    candidates: int | None = None

    def index_param(self) -> dict:
        if self.metric_type not in (None, MetricType.COSINE, MetricType.IP):
            raise ValueError(f"Sheaf has no metric {self.metric_type}: expected COSINE or IP")
        return {"similarity": "inner_product" if self.metric_type == MetricType.IP else "cosine"}

    def search_param(self) -> dict:
        return {} if self.candidates is None else {"candidates": self.candidates}


class Sheaf(VectorDB):
    """A collection of callers' dense vectors."""

    supported_filter_types = [FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual]  # noqa: RUF012
    name = "Sheaf"

    def __init__(
        self,
        dim,
        db_config,
        db_case_config=None,
        collection_name="vdbbench",
        drop_old=False,
        with_scalar_labels=False,
        **_,
    ):
        self._url, self._name, self._labels = db_config["url"], collection_name, with_scalar_labels
        self._case = db_case_config or SheafCaseConfig()
        self._filter, self._collection = None, None
        with Server(self._url, timeout_s=3_600) as server:
            there = {one["name"] for one in server.collections()}
            if drop_old and collection_name in there:
                server.collection(collection_name).drop()
            if drop_old or collection_name not in there:
                server.create(
                    collection_name, model=None, kind="dense", dim=dim, keep_vectors=False, lexical=None,
                    **self._case.index_param(),
                )  # fmt: skip

    @contextmanager
    def init(self):
        """A connection of this process."""
        with Server(self._url, timeout_s=3_600) as server:
            self._collection = server.collection(self._name)
            try:
                yield
            finally:
                self._collection = None

    def insert_embeddings(self, embeddings, metadata, labels_data=None, tenant_labels_data=None, **_):
        """How many were written, and the error that ended it."""
        labels = labels_data if self._labels and labels_data is not None else [None] * len(metadata)
        documents = [
            Document(str(id), "", "", {"id": id} if label is None else {"id": id, "label": label}, np.asarray(vector))
            for id, vector, label in zip(metadata, embeddings, labels, strict=True)
        ]
        try:
            return self._collection.write(documents).written, None
        except SheafError as error:
            return 0, error

    def optimize(self, data_size=None):
        """Waits until all of it is in an index."""
        last = next(self._collection.documents(include=("metadata", "vectors"), page=1), None)
        while last is not None:
            try:
                # A document that stands already, so that nothing is written but what waits is indexed.
                self._collection.write([last], indexed=True)
                return
            except NotIndexed:
                continue

    def prepare_filter(self, filters: Filter):
        match filters.type:
            case FilterOp.NonFilter:
                self._filter = None
            case FilterOp.NumGE:
                self._filter = {"id": {"gte": filters.int_value}}
            case FilterOp.StrEqual:
                self._filter = {"label": {"eq": filters.label_value}}
            case _:
                raise ValueError(f"Sheaf's client has no filter {filters.type}")

    def search_embedding(self, query, k=100, payload_profile=None, tenant=None):
        """Ids, the nearest first."""
        found = self._collection.search(
            vectors=np.asarray(query, np.float32), k=k, filter=self._filter, include=(), **self._case.search_param()
        )
        return [int(hit.id) for hit in found]
