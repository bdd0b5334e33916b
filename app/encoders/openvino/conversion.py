"""From a loaded torch model to the files that serve it without torch.

Kept are the transformer as OpenVINO's own files, the tokenizer exactly as transformers had it in memory (its
files alone would not tell: transformers changes them by other settings), and what the model gave in torch for a few
texts. With these every later start compares itself, on its own CPU, before it answers anything.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.encoders import model_folder
from app.encoders.openvino.runtime import NotConverted, openvino
from app.encoders.prompts import Task
from app.encoders.torch.backbone import Backbone
from app.encoders.torch.sentence_transformer import SentenceTransformerEncoder

FORMAT: Final = "2"
"""Of the files below. Another number, and every model is converted anew."""
MODEL, TOKENIZER, PROBE = "model.xml", "tokenizer.json", "probe.safetensors"
TEXTS: Final = (
    "The cat sat on the mat.",
    "",
    "a",
    "Zip archives: naïve 日本語 \u200d 🙂 don't-stop [SEP] x_1 = f(2.5e-3)!",
    "In this study the binding of calcium to troponin C was measured in 1,024 samples. " * 4,
)
"""The texts that a model is compared on: short, empty, of many scripts, of a paragraph."""
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def key(folder: Path, given: Mapping[Task, str | None] | None = None) -> dict[str, str]:
    """The dependencies of a converted model; ``version_`` parts are of the libraries that make and read it.

    given: the operator's prompts, which the texts that a start compares itself on begin with.
    """
    libraries = ("openvino", "transformers", "sentence-transformers", "tokenizers")
    return {
        "weights": model_folder.weights_digest(folder),
        "configuration": model_folder.configuration_digest(folder),
        "tokenizer": model_folder.tokenizer_digest(folder),
        **{f"{task}_prompt": said for task, said in (given or {}).items() if said is not None},
        "version_format": FORMAT,
        **{f"version_{name}": version(name) for name in libraries},
    }


def unsupported(backbone: Backbone) -> str | None:
    """Why a pipeline is more than transformer, mean over the tokens and normalisation; None where it is not."""
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    first, *others = list(backbone.model)
    if not isinstance(first, Transformer) or not getattr(first.tokenizer, "is_fast", False):
        return "its first module is no transformer with a fast tokenizer"
    if not others or not isinstance(others[0], Pooling) or others[0].pooling_mode != "mean":
        return "its pooling is not the mean over the tokens"
    if not others[0].include_prompt and any(backbone.prompts.values()):
        return "its pooling leaves the prompt out"
    if any(not isinstance(m, Normalize) or m.module_output_name != "sentence_embedding" for m in others[1:]):
        return "it has modules after its pooling"
    if backbone.model.truncate_dim is not None or first.query_expansion is not None:
        return "it cuts vectors or expands queries"
    sides = (first.tokenizer.padding_side, first.tokenizer.truncation_side)
    if sides != ("right", "right"):
        return "its tokenizer pads or cuts on the left"
    return None


def convert(backbone: Backbone, folder: Path) -> dict[str, Any]:
    """Writes MODEL, TOKENIZER and PROBE into ``folder``; returns what else is needed to serve them.

    Raises NotConverted with the reason where the model is of another kind or OpenVINO cannot take it.
    """
    reason = unsupported(backbone)
    if reason is not None:
        raise NotConverted(reason)
    from safetensors.numpy import save_file

    inputs = _save_network(backbone, folder / MODEL)
    tokenizer = backbone.model.tokenizer
    (folder / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    encoders = {kind: SentenceTransformerEncoder(backbone, kind) for kind in ("dense", "multi_vector")}
    probe = encoders["multi_vector"].encode_documents(TEXTS)
    assert probe.tokens is not None
    save_file({"pooled": probe.pooled, "tokens": np.ascontiguousarray(probe.tokens.values)}, folder / PROBE)
    tasks: tuple[Task, ...] = ("query", "document")
    return {
        "inputs": inputs,
        "dim": encoders["dense"].dim,
        "normalised": len(list(backbone.model)) > 2,
        "prompts": backbone.prompts,
        "limits": {task: backbone.limit(task) for task in tasks},
        "substitute": tokenizer.eos_token or tokenizer.unk_token or ".",
        "details": {kind: dict(encoder.fingerprint.details) for kind, encoder in encoders.items()},
        "probe": list(TEXTS),
    }


def _save_network(backbone: Backbone, path: Path) -> list[str]:
    """Converts and saves the transformer, weights in float32; its inputs in their order."""
    library = openvino()
    import torch

    transformer = backbone.model[0]
    # Of two lengths: without padding the trace would take the branch that has no mask.
    features = transformer.preprocess(["a cat sat on the mat", "a"])
    names = [name for name in _INPUTS if name in features]
    if {name for name, value in features.items() if torch.is_tensor(value)} != set(names) or "input_ids" not in names:
        raise NotConverted(f"it takes other inputs than {', '.join(_INPUTS)}")

    class TokenVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *values: Any) -> Any:
            return self.transformer(dict(zip(names, values, strict=True)))["token_embeddings"]

    try:
        with warnings.catch_warnings(), _without_logs(), torch.inference_mode():
            # A branch that was fixed, of which tracing warns, is found out by the comparison of the vectors.
            warnings.simplefilter("ignore")
            converted = library.convert_model(
                TokenVectors().eval(), example_input=tuple(features[name] for name in names)
            )
        library.save_model(converted, str(path), compress_to_fp16=False)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError) as error:
        raise NotConverted(f"OpenVINO cannot convert it: {error}") from error
    return names


class _without_logs:  # noqa: N801
    """transformers' log lines about its own configuration, which tracing provokes."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("transformers")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
