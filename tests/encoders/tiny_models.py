"""Tiny models made on the spot and saved in every layout that Sheaf opens or refuses.

Weights come from fixed seeds, so they know nothing of meaning; what is tested on them is the path from text to vectors.
"""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    RobertaConfig,
    RobertaModel,
)

WIDTH, LIMIT, PROJECTED = 32, 40, 16
WORDS = ["the", "cat", "dog", "sat", "on", "a", "mat", "query", "passage", "read", "zip", "file"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]


class TinyModels:
    """Makes folders of models under one root; a name is made once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        folder = self.root / name
        if not folder.exists():
            folder.mkdir()
            make(folder)
        return folder

    def copy(self, folder: Path, name: str) -> Path:
        """One of the caller's own: tests of several files share the root."""
        return Path(shutil.copytree(folder, Path(mkdtemp(dir=self.root)) / name))

    def plain(self, seed: int = 0) -> Path:
        """A transformer and its tokenizer, as transformers saves them."""

        def make(folder: Path) -> None:
            letters = list(string.ascii_lowercase + string.digits)
            vocab = [*SPECIAL, *WORDS, *letters, *(f"##{x}" for x in letters), *string.punctuation]
            (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)))
            tokenizer = BertTokenizer.from_pretrained(str(folder), model_max_length=LIMIT)
            torch.manual_seed(seed)
            config = BertConfig(
                vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=64, max_position_embeddings=64, initializer_range=0.5,
            )  # fmt: skip
            BertModel(config).eval().save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        return self._once(f"plain-{seed}", make)

    def sentence(self, name: str = "sentence", *after: Any, seed: int = 0, pooling: Any = None, **model: Any) -> Path:
        """A SentenceTransformer; `after` are the modules behind the pooling, mean by default."""

        def make(folder: Path) -> None:
            transformer = Transformer(str(self.plain(seed)), max_seq_length=LIMIT)
            SentenceTransformer(
                modules=[transformer, pooling or Pooling(WIDTH, "mean"), *after], device="cpu", **model
            ).save(str(folder), create_model_card=False)

        return self._once(name, make)

    def long(self, name: str, positions: int, *, roberta: bool = False) -> Path:
        """A SentenceTransformer with so many rows of positions, and 100 tokens in its settings, as older ones have."""

        def make(folder: Path) -> None:
            base = folder.parent / f"{name}-base"
            shutil.copytree(self.plain(), base)
            torch.manual_seed(3)
            vocab = len((base / "vocab.txt").read_text().splitlines())
            sizes = {
                "vocab_size": vocab, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 64, "max_position_embeddings": positions, "initializer_range": 0.5,
            }  # fmt: skip
            if roberta:
                # Its padding is the token 1, behind which positions begin.
                RobertaModel(RobertaConfig(**sizes, pad_token_id=1)).eval().save_pretrained(base)
            else:
                BertModel(BertConfig(**sizes)).eval().save_pretrained(base)
            modules = [Transformer(str(base)), Pooling(WIDTH, "mean"), Normalize()]
            SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": 100, "do_lower_case": False})

        return self._once(name, make)

    def colbert(self, name: str = "colbert", **mask: Any) -> Path:
        """MultiVectorEncoder's own layout, with prompts, expansion to 12 tokens and skipped punctuation."""

        def make(folder: Path) -> None:
            transformer = Transformer(
                str(self.plain()), document_length=LIMIT, query_expansion={"strategy": "fixed", "length": 12}
            )
            modules = [transformer, projection(), MultiVectorMask(list(string.punctuation), **mask)]
            modules.append(Normalize(module_input_name="token_embeddings"))
            prompts = {"query": "query ", "document": "passage "}
            MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu").save(
                str(folder), create_model_card=False
            )

        return self._once(name, make)

    def pylate(self, name: str = "pylate", *, model_type: str | None = "ColBERT", dense: bool = True) -> Path:
        """PyLate's layout: a dense module of its own class, the settings at the top level."""

        def make(folder: Path) -> None:
            shutil.copytree(self.plain(), folder, dirs_exist_ok=True)
            modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
            if dense:
                modules.append({"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"})
                (folder / "1_Dense").mkdir()
                config = {
                    "in_features": WIDTH, "out_features": PROJECTED, "bias": False,
                    "activation_function": "torch.nn.modules.linear.Identity",
                }  # fmt: skip
                write_json(folder / "1_Dense" / "config.json", config)
                save_file({"linear.weight": projection().linear.weight.data}, folder / "1_Dense" / "model.safetensors")
            write_json(folder / "modules.json", modules)
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": LIMIT, "do_lower_case": False})
            settings = {
                "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim",
                "query_prefix": "[unused0] ", "document_prefix": "[unused1] ", "query_length": 10,
                "document_length": LIMIT, "attend_to_expansion_tokens": False,
                "skiplist_words": list(string.punctuation),
            }  # fmt: skip
            if model_type is not None:
                settings["model_type"] = model_type
            write_json(folder / "config_sentence_transformers.json", settings)

        return self._once(name, make)

    def stanford(self, name: str = "stanford", *, linear: bool = True) -> Path:
        """Stanford's layout: the projection among the weights, the settings in artifact.metadata."""

        def make(folder: Path) -> None:
            shutil.copytree(self.plain(), folder, dirs_exist_ok=True)
            weights = {f"bert.{k}": v for k, v in load_file(folder / "model.safetensors").items()}
            if linear:
                weights["linear.weight"] = projection().linear.weight.data
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            config = json.loads((folder / "config.json").read_text())
            write_json(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
            metadata = {
                "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 14, "doc_maxlen": LIMIT,
                "attend_to_mask_tokens": False, "mask_punctuation": True,
            }  # fmt: skip
            write_json(folder / "artifact.metadata", metadata)

        return self._once(name, make)

    def classifier(self, name: str = "classifier", *, labels: int = 1, layers: int = 2) -> Path:
        """A transformer that classifies, as transformers saves it: the layout of older cross encoders."""

        def make(folder: Path) -> None:
            shutil.copytree(self.plain(), folder, dirs_exist_ok=True)
            torch.manual_seed(5)
            config = BertConfig.from_pretrained(
                folder, num_labels=labels, num_hidden_layers=layers, initializer_range=0.2,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            )  # fmt: skip
            BertForSequenceClassification(config).eval().save_pretrained(folder)

        return self._once(name, make)

    def cross(self, name: str = "cross", *, labels: int = 1) -> Path:
        """A CrossEncoder in its own layout."""

        def make(folder: Path) -> None:
            base = self.classifier(f"{name}-base", labels=labels)
            CrossEncoder(str(base), device="cpu", local_files_only=True).save(str(folder), create_model_card=False)

        return self._once(name, make)

    def splade(self, name: str = "splade", *, static: bool = False, most: int | None = None) -> Path:
        """A SparseEncoder. static: queries go through a table of weights alone. most: indices of a vector, at most."""

        def make(folder: Path) -> None:
            base = folder.parent / f"{name}-base"
            shutil.copytree(self.plain(), base)
            torch.manual_seed(5)
            config = BertConfig(
                vocab_size=len((base / "vocab.txt").read_text().splitlines()), hidden_size=WIDTH, num_hidden_layers=1,
                num_attention_heads=2, intermediate_size=64, max_position_embeddings=64, initializer_range=0.5,
            )  # fmt: skip
            BertForMaskedLM(config).eval().save_pretrained(base)
            read = [Transformer(str(base), transformer_task="fill-mask", max_seq_length=LIMIT), SpladePooling("max")]
            modules: list[Any] = read
            if static:
                table = SparseStaticEmbedding(read[0].tokenizer, torch.rand(config.vocab_size))
                modules = [Router.for_query_document([table], read)]
            SparseEncoder(modules=modules, device="cpu", max_active_dims=most).save(
                str(folder), create_model_card=False
            )

        return self._once(name, make)

    def preferring(self, word: str) -> Path:
        """A CrossEncoder that has learned to prefer texts with one of the words, whatever is asked."""

        def make(folder: Path) -> None:
            base = self.classifier(f"{folder.name}-base", layers=1)
            model = CrossEncoder(str(base), device="cpu", local_files_only=True).train()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
            random = np.random.default_rng(0)
            for _ in range(80):
                texts = [random.choice(WORDS, random.integers(3, 15)).tolist() for _ in range(16)]
                for text in texts[::2]:
                    text[random.integers(len(text))] = word
                asked = random.choice(WORDS, (16, 2))
                pairs = [[" ".join(query), " ".join(text)] for query, text in zip(asked, texts, strict=True)]
                target = torch.tensor([float(word in text) for text in texts])
                scores = model(model.preprocess(pairs))["scores"].squeeze(-1)
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(scores, target).backward()
                optimizer.step()
            model.eval().save(str(folder), create_model_card=False)

        return self._once(f"preferring-{word}", make)


def projection(out: int = PROJECTED) -> Dense:
    """A token-level projection with weights by a fixed seed."""
    torch.manual_seed(7)
    return Dense(WIDTH, out, bias=False, activation_function=None, module_input_name="token_embeddings")


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
