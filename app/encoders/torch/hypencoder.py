"""Hypencoder checkpoints: a document becomes a vector, a query a small network that scores vectors.

Killingback, Zeng, Zamani: "Hypencoder: Hypernetworks for Information Retrieval", 2025 (arXiv 2502.05364), section 3.2.
The layout is that of the published checkpoints: ``config.json`` with ``query_encoder_kwargs`` (and their
``converter_kwargs``, the shape of the network) and ``passage_encoder_kwargs``, weights under ``query_encoder.`` and
``passage_encoder.``, of which a shared transformer stands once, and the tokenizer. Each weight and bias of the query's
network is made by a head of its own: attention of learned queries over the tokens' vectors, ReLU, layer norm, a linear
map, and a learned matrix added to it.

The checkpoints do not say what transformer they stand on but by its name, which nothing is fetched by: its
configuration is ``transformer/config.json`` in the folder, as transformers saves one, or else that of a BERT as wide
and deep as its weights, with heads of 64 numbers, as all of Google's have.

Other than in the published code, padding never enters a mean: of ``pooling_type`` mean, a document's vector is that of
its own tokens. Queries are read alone, so that their networks have no neighbours.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.encoders import model_folder
from app.encoders.batches import by_length, estimated, gather
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint, TokenPlaces
from app.encoders.torch.backbone import PADDED_TOKENS, PADDING
from app.errors import EncoderRefused, Invalid
from app.scoring.networks.network import ACTIVATIONS, Layer, Network, Norm, Residual
from app.types import F32, I64, Encoded, Kind

QUERY_TOKENS: Final = 64
"""Tokens of a query that are read, as in the published evaluations; of a document, as many as there are positions."""
WEIGHTS: Final = "model.safetensors"
_HEAD: Final = 64
_QUERY, _PASSAGE = "query_encoder.", "passage_encoder."
_TRANSFORMER: Final = "transformer."


class HypencoderEncoder:
    """Of one folder. Several threads may encode at once."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises EncoderRefused for a folder that holds none, or one without all of its weights."""
        model_folder.check_hypencoder(folder)
        self._folder, self._device = folder, device
        config = json.loads((folder / "config.json").read_text())
        state = _read(folder)
        self._pooling = _pooling(config, folder)
        self._shape = _Shape(_given(config, "query_encoder_kwargs", folder).get("converter_kwargs"), folder)
        self._heads = _heads(state, self._shape, folder, device)
        self._query = _transformer(state, _QUERY, _PASSAGE, folder, device)
        shared = bool(config.get("shared_encoder"))
        self._passage = self._query if shared else _transformer(state, _PASSAGE, None, folder, device)
        self._tokenizer = _tokenizer(folder)
        self._tokenizing = threading.Lock()
        self._positions = int(self._passage.config.max_position_embeddings)
        self._dim = int(self._passage.config.hidden_size)
        if self._dim != self._shape.widths[0]:
            raise EncoderRefused(
                f"{folder}: documents have {self._dim} dimensions, and networks of queries take {self._shape.widths[0]}"
            )
        details = {
            "configuration": model_folder.configuration_digest(folder),
            "tokenizer": model_folder.tokenizer_digest(folder),
            "pooling": self._pooling,
            "query_max_length": str(min(QUERY_TOKENS, self._positions)),
            "document_max_length": str(self._positions),
            "precision": "float32",
        }
        self._fingerprint = Fingerprint("hypencoder", model_folder.weights_digest(folder), details)
        # A first pass is made now, and a fault of the model is known.
        self.encode_networks(["a"])

    @property
    def kind(self) -> Kind:
        return "dense"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def backend(self) -> str:
        return f"torch, {self._device}"

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def room(self) -> int | None:
        with self._tokenizing:
            return max(1, self._positions - len(self._tokenizer("")["input_ids"]))

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        if not self._tokenizer.is_fast or not texts:
            return estimated(texts)
        with self._tokenizing:
            found = self._tokenizer(
                list(texts), add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
            )["offset_mapping"]
        return [np.array([start for start, _ in own], np.int64) for own in found]

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        """None: no token has a vector of its own."""
        return None

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._encode(texts, self._positions)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """The vectors that the texts would have as documents, for what is asked by vectors: networks score searches."""
        return self._encode(texts, min(QUERY_TOKENS, self._positions))

    def encode_networks(self, texts: Sequence[str]) -> list[Network]:
        """The network of each query. Raises EncoderRefused where its numbers are not finite."""
        return [self._network(text) for text in texts]

    def _encode(self, texts: Sequence[str], limit: int) -> Encoded:
        import torch

        ids, truncated = self._ids(texts, limit)
        pooled: list[F32] = [np.empty(0, np.float32)] * len(texts)
        for rows in by_length(np.array([len(own) for own in ids], np.int64), PADDED_TOKENS, PADDING):
            some = [ids[row] for row in rows]
            widest = max(map(len, some))
            padded = torch.tensor([[*own, *[0] * (widest - len(own))] for own in some], device=self._device)
            mask = torch.tensor([[1] * len(own) + [0] * (widest - len(own)) for own in some], device=self._device)
            with torch.inference_mode():
                states = self._passage(input_ids=padded, attention_mask=mask).last_hidden_state
                found = states[:, 0]
                if self._pooling == "mean":
                    found = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            for row, vector in zip(rows, found.float().cpu().numpy(), strict=True):
                pooled[row] = vector
        return gather(self._dim, pooled, None, np.array(truncated, bool))

    def _ids(self, texts: Sequence[str], limit: int) -> tuple[list[list[int]], list[bool]]:
        """The tokens of each text, cut, and whether they were."""
        if not texts:
            return [], []
        with self._tokenizing:
            whole = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
            cut = self._tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return cut, [len(one) > len(other) for one, other in zip(whole, cut, strict=True)]

    def _network(self, text: str) -> Network:
        import torch
        from torch.nn import functional

        ((ids,), _) = self._ids([text], min(QUERY_TOKENS, self._positions))
        layers: list[Layer] = []
        made: dict[str, list[F32]] = {"weight": [], "bias": []}
        with torch.inference_mode():
            asked = torch.tensor([ids], device=self._device)
            states = self._query(input_ids=asked, attention_mask=torch.ones_like(asked)).last_hidden_state[0]
            for head in self._heads:
                keys = functional.linear(states, *head["key"])
                values = functional.linear(states, *head["value"])
                # Divided by the root of how many rows there are, as the published code has it.
                attention = torch.softmax(head["queries"] @ keys.T / head["rows"] ** 0.5, dim=-1)
                found = functional.relu(attention @ values)
                found = functional.layer_norm(found, found.shape[-1:])
                found = functional.linear(found, *head["projection"]) + head["base"]
                made[head["makes"]].append(found.T.float().cpu().numpy())
        for number, weights in enumerate(made["weight"]):
            bias = made["bias"][number].ravel() if number < len(made["bias"]) else None
            layers.append(Layer(np.ascontiguousarray(weights), bias))
        network = Network(tuple(layers), self._shape.activation, self._shape.residual, self._shape.norm)
        try:
            network.check()
        except Invalid as error:
            raise EncoderRefused(f"{self._folder} makes a network that cannot be: {error.message}") from error
        return network


class _Shape:
    """Of the networks, as ``converter_kwargs`` say it. widths: numbers of a document, of each layer, and 1."""

    def __init__(self, given: Any, folder: Path) -> None:
        """Raises EncoderRefused."""
        given = given if isinstance(given, dict) else {}
        widths = given.get("vector_dimensions")
        good = isinstance(widths, list) and len(widths) >= 2 and all(type(one) is int and one > 0 for one in widths)
        if not good or widths[-1] != 1:
            raise EncoderRefused(
                f"{folder / 'config.json'}: expected converter_kwargs.vector_dimensions, the widths of a query's "
                f"network with 1 at the end, got {widths!r}"
            )
        self.widths: list[int] = widths
        self.activation = given.get("activation_type", "relu")
        if self.activation not in ACTIVATIONS:
            raise EncoderRefused(f"{folder}: expected an activation_type of {ACTIVATIONS}, got {self.activation!r}")
        inner: Residual = "all" if given.get("do_residual_on_last", False) in (True, None) else "inner"
        self.residual: Residual = inner if given.get("do_residual", True) else "none"
        norm: Norm = "before" if given.get("layer_norm_before_residual", True) else "after"
        self.norm: Norm = norm if given.get("do_layer_norm", True) else "none"


def _given(config: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    found = config.get(name)
    if not isinstance(found, dict):
        raise EncoderRefused(f"{folder / 'config.json'} has no {name}, which a Hypencoder has")
    return found


def _pooling(config: Mapping[str, Any], folder: Path) -> str:
    found = _given(config, "passage_encoder_kwargs", folder).get("pooling_type", "cls")
    if found not in ("cls", "mean"):
        raise EncoderRefused(f"{folder / 'config.json'}: expected a pooling_type of cls or mean, got {found!r}")
    return str(found)


def _read(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            state |= load_file(path)
        except SafetensorError as error:
            raise EncoderRefused(f"{path} is not a safetensors file: {error}") from error
    return {name: tensor.float() for name, tensor in state.items()}


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EncoderRefused(f"{folder} has no tokenizer that loads: {error}") from error


def _heads(state: Mapping[str, Any], shape: _Shape, folder: Path, device: str) -> list[dict[str, Any]]:
    """What makes each weight, then each bias: all layers but the last have one. Raises EncoderRefused."""
    layers = len(shape.widths) - 1
    sizes = [(shape.widths[i], shape.widths[i + 1]) for i in range(layers)]
    sizes += [(shape.widths[i + 1], 1) for i in range(layers - 1)]
    found = []
    for number, (size, rows) in enumerate(sizes):
        makes, own = ("weight", number) if number < layers else ("bias", number - layers)
        base = "hyper_base_matrices" if makes == "weight" else "hyper_base_vectors"

        def take(name: str, *expected: int) -> Any:
            tensor = state.get(f"{_QUERY}{name}")
            if tensor is None or tensor.numel() != np.prod(expected):
                got = None if tensor is None else tuple(tensor.shape)
                raise EncoderRefused(f"{folder}: expected {_QUERY}{name} of shape {expected}, got {got}")
            return tensor.reshape(expected).to(device)

        def linear(name: str, rows: int, columns: int) -> tuple[Any, Any]:
            return take(f"{name}.weight", rows, columns), take(f"{name}.bias", rows)

        key = state.get(f"{_QUERY}key_projections.{number}.weight")
        width = 0 if key is None or key.dim() != 2 else int(key.shape[1])
        found.append(
            {
                "makes": makes,
                "rows": rows,
                "queries": take(f"{makes}_query_embeddings.{own}", rows, size),
                "base": take(f"{base}.{own}", rows, size),
                "projection": linear(f"{makes}_hyper_projection.{own}", size, size),
                "key": linear(f"key_projections.{number}", size, width),
                "value": linear(f"value_projections.{number}", size, width),
            }
        )
    return found


def _transformer(state: Mapping[str, Any], own: str, other: str | None, folder: Path, device: str) -> Any:
    """other: where a shared one may stand instead. Raises EncoderRefused."""
    from transformers import AutoConfig, AutoModel, BertConfig

    weights: dict[str, Any] = {}
    for prefix in (own, other):
        at = f"{prefix}{_TRANSFORMER}"
        weights = weights or {name.removeprefix(at): one for name, one in state.items() if name.startswith(at)}
    if not weights:
        raise EncoderRefused(f"{folder} has no weights of a transformer below {own}{_TRANSFORMER}")
    if (folder / "transformer" / "config.json").exists():
        config = AutoConfig.from_pretrained(str(folder / "transformer"), local_files_only=True)
    else:
        config = BertConfig(**_of_bert(weights, folder))
    config._attn_implementation = "eager"
    model = AutoModel.from_config(config, trust_remote_code=False)
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise EncoderRefused(f"{folder}: the transformer's weights have other shapes: {error}") from error
    # A pooler feeds nothing here, and positions are numbers that every BERT has.
    wrong = [name for name in missing if not name.startswith("pooler.")]
    wrong += [name for name in unexpected if not name.startswith("pooler.") and not name.endswith("position_ids")]
    if wrong:
        raise EncoderRefused(f"{folder}: the transformer lacks or has beyond its architecture {', '.join(wrong[:5])}")
    return model.to(device).float().eval()


def _of_bert(weights: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Its configuration, by the shapes of its weights. Raises EncoderRefused."""
    names = {
        "words": "embeddings.word_embeddings.weight",
        "positions": "embeddings.position_embeddings.weight",
        "types": "embeddings.token_type_embeddings.weight",
        "inner": "encoder.layer.0.intermediate.dense.weight",
    }
    if not all(name in weights for name in names.values()):
        raise EncoderRefused(f"{folder}: its transformer is no BERT; put its configuration at transformer/config.json")
    words, positions, types, inner = (weights[name].shape for name in names.values())
    if words[1] % _HEAD:
        raise EncoderRefused(
            f"{folder}: a BERT of {words[1]} dimensions has no heads of {_HEAD}; put its configuration at "
            "transformer/config.json"
        )
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    return {
        "vocab_size": int(words[0]),
        "hidden_size": int(words[1]),
        "num_attention_heads": int(words[1]) // _HEAD,
        "num_hidden_layers": len(layers),
        "intermediate_size": int(inner[0]),
        "max_position_embeddings": int(positions[0]),
        "type_vocab_size": int(types[0]),
    }
