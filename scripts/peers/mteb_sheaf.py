"""Sheaf as a model of mteb's: its retrieval and reranking tasks, indexed and searched by a running server.

    python scripts/peers/mteb_sheaf.py --url http://localhost:8000 --tasks SciFact NFCorpus --kind multi_vector

It runs where mteb is (`pip install mteb==2.26.24`, or requirements.lock here into a folder on the PYTHONPATH, 385
MB), with Sheaf's folder on the PYTHONPATH; `--local` runs a task that is made on the spot, without a download. From
Python: ``SheafSearch`` is an object that ``mteb.evaluate`` takes. Each split of a task is a collection `mteb-...`,
made anew, dropped at the end.
"""

import argparse
import contextlib
import re

from app.client import Document, Sheaf
from app.errors import NotFound

MODES = {"dense": "dense", "multi_vector": "semantic"}
"""By meaning alone, which is what mteb compares; `--mode hybrid` asks words too."""
AT_ONCE = 32
"""Searches of a request."""


class SheafSearch:
    """mteb's SearchProtocol. kind: dense, or multi_vector (late interaction). mode: of every search; None: by meaning.
    options: of each collection that it makes, as the API has them."""

    def __init__(self, url, model="builtin", kind="multi_vector", mode=None, key=None, **options):
        self.sheaf = Sheaf(url, key, timeout_s=600)
        self.model, self.kind, self.mode, self.options = model, kind, mode or MODES[kind], options
        self.collection = None

    @property
    def mteb_model_meta(self):
        from mteb.models import ModelMeta

        late = self.kind == "multi_vector"
        return ModelMeta(
            loader=None,
            name=f"sheaf/{self.model}-{self.kind}-{self.mode}",
            revision=self.sheaf.info()["version"],
            release_date=None,
            languages=None,
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=None,
            license="apache-2.0",
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=["API"],
            similarity_fn_name="MaxSim" if late else "cosine",
            use_instructions=False,
            training_datasets=None,
            model_type=["late-interaction" if late else "dense"],
        )

    def index(self, corpus, *, task_metadata, hf_split, hf_subset, encode_kwargs=None, num_proc=None, **_):
        """Writes the corpus of a split, which replaces the one before."""
        self.drop()
        name = re.sub(r"[^a-z0-9-]", "-", f"mteb-{task_metadata.name}-{hf_subset}-{hf_split}-{self.kind}".lower())[:64]
        with contextlib.suppress(NotFound):
            self.sheaf.collection(name).drop()
        self.collection = self.sheaf.create(name, model=self.model, kind=self.kind, **self.options)
        documents = (Document(row["id"], row.get("text") or "", row.get("title") or "") for row in corpus)
        told = (one for one in documents if one.text.strip() or one.title.strip())
        self.sheaf.follow(self.collection.import_lines(self._lines(told)))

    @staticmethod
    def _lines(documents):
        from app.client.operations import lines_of

        return lines_of(documents, None)

    def search(self, queries, *, top_k, top_ranked=None, **_):
        """{query: {document: score}}; of a reranking task its own documents alone. mteb orders by score: ties keep
        Sheaf's order, each a step below the one before."""
        rows, found = list(queries), {}
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            bodies = [
                {"query": row["text"], "k": min(top_k, 1_000), "mode": self.mode, "include": []}
                | ({} if top_ranked is None else {"ids": list(top_ranked[row["id"]]), "exact": True})
                for row in some
            ]
            for row, answer in zip(some, self.collection.search_batch(bodies), strict=True):
                found[row["id"]] = below([(hit.id, hit.score) for hit in answer])
        return found

    def drop(self):
        """The last collection."""
        if self.collection is not None:
            self.collection.drop()
            self.collection = None


def below(hits):
    """Scores that strictly descend, in the order of the hits.

    >>> below([("b", 1.0), ("a", 1.0), ("c", 0.5)])["a"] < 1.0
    True
    """
    scores, last = {}, float("inf")
    for name, score in hits:
        last = min(score, last - abs(last) * 1e-9 - 1e-12) if last < float("inf") else score
        scores[name] = last
    return scores


def local_task():
    """A retrieval task of nine documents and three queries, whose answers share words with them."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    texts = {
        "zip": "Reads and writes ZIP archives of compressed files.",
        "tar": "Reads and writes tar archives.",
        "smtp": "Sends email to a mail server.",
        "imap": "Reads email from a mailbox on a server.",
        "sin": "The sine of an angle in radians.",
        "gcd": "The greatest common divisor of integers.",
        "regex": "Matches regular expressions in texts.",
        "sleep": "Suspends a thread for some seconds.",
        "json": "Parses JSON documents.",
    }
    queries = {"q1": "how to open a compressed zip archive", "q2": "send an email", "q3": "regular expression match"}
    relevant = {"q1": {"zip": 2, "tar": 1}, "q2": {"smtp": 1}, "q3": {"regex": 1}}

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="SheafLocal",
            description="Nine documents.",
            reference=None,
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            dataset={"path": "local", "revision": "1"},
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation=None,
        )

        def load_data(self, **_):
            rows = [{"id": name, "title": "", "text": text} for name, text in texts.items()]
            asked = [{"id": name, "text": text} for name, text in queries.items()]
            split = RetrievalSplitData(
                corpus=Dataset.from_list(rows),
                queries=Dataset.from_list(asked),
                relevant_docs=relevant,
                top_ranked=None,
            )
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Local()


def main():
    import mteb

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", help="of the server, where it has keys")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--kind", choices=MODES, nargs="+", default=["multi_vector"], help="one after the other")
    parser.add_argument("--mode", choices=("semantic", "dense", "lexical", "hybrid"), help="default: by meaning alone")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--tasks", nargs="+", metavar="NAME", help="of mteb, which downloads them")
    which.add_argument("--local", action="store_true", help="a task of nine documents")
    args = parser.parse_args()
    tasks = [local_task()] if args.local else mteb.get_tasks(tasks=args.tasks)
    for kind in args.kind:
        model = SheafSearch(args.url, args.model, kind, args.mode, args.key)
        try:
            result = mteb.evaluate(model, tasks, cache=None, encode_kwargs={}, show_progress_bar=False)
        finally:
            model.drop()
            model.sheaf.close()
        for one in result.task_results:
            print(f"{one.task_name}, {model.kind}, {model.mode}: {one.get_score():.4f}")


if __name__ == "__main__":
    main()
