"""A BERT whose weights are at hand, built of OpenVINO's own operators: no torch, which converts other models.

What stands here is Devlin et al. 2018 as transformers writes it down: embeddings of words, places and segments, summed
and normalised; then layers of attention and of a network of two products, each added to its input and normalised
(post-norm), with the exact GELU. The vectors of the last layer come out, one a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.encoders.openvino.runtime import openvino
from app.types import F32

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


def save(weights: Mapping[str, F32], heads: int, epsilon: float, path: Path) -> None:
    """Writes the network to ``path``, an .xml, its weights in float32 beside it.

    weights: by transformers' names, such as `encoder.layer.0.attention.self.query.weight`, (out, in). heads: of the
    attention. epsilon: of the normalisations. Inputs are INPUTS, (rows, length) int64 each, the output (rows, length,
    dim) float32. Raises KeyError for a missing weight.
    """
    library = openvino()
    from openvino import opset13 as op

    ids, mask, segments = (op.parameter([-1, -1], np.int64, name=name) for name in INPUTS)
    for node, name in zip((ids, mask, segments), INPUTS, strict=True):
        node.output(0).get_tensor().set_names({name})

    def ints(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def linear(x: Any, name: str) -> Any:
        product = op.matmul(x, op.constant(weights[f"{name}.weight"]), False, True)
        return op.add(product, op.constant(weights[f"{name}.bias"]))

    def normalised(x: Any, name: str) -> Any:
        centred = op.mvn(x, ints(-1), True, epsilon, "inside_sqrt")
        scaled = op.multiply(centred, op.constant(weights[f"{name}.weight"]))
        return op.add(scaled, op.constant(weights[f"{name}.bias"]))

    def rows_of(name: str, places: Any) -> Any:
        return op.gather(op.constant(weights[f"embeddings.{name}_embeddings.weight"]), places, ints(0))

    length = op.gather(op.shape_of(ids), ints(1), ints(0))
    places = op.range(np.int64(0), op.squeeze(length, ints(0)), np.int64(1), "i64")
    summed = op.add(op.add(rows_of("word", ids), rows_of("token_type", segments)), rows_of("position", places))
    x = normalised(summed, "embeddings.LayerNorm")
    dim = weights["embeddings.word_embeddings.weight"].shape[1]
    # (rows, 1, 1, length): whether a token may be looked at.
    seen = op.unsqueeze(op.convert(mask, "boolean"), ints(1, 2))

    def apart(x: Any) -> Any:
        """(rows, length, dim) -> (rows, heads, length, dim / heads)"""
        return op.transpose(op.reshape(x, ints(0, 0, heads, dim // heads), True), ints(0, 2, 1, 3))

    layer = 0
    while f"encoder.layer.{layer}.attention.self.query.weight" in weights:
        at = f"encoder.layer.{layer}"
        query, key, value = (apart(linear(x, f"{at}.attention.self.{one}")) for one in ("query", "key", "value"))
        # (rows, heads, length, length) is never whole in memory: OpenVINO fuses it.
        attended = op.scaled_dot_product_attention(query, key, value, seen)
        together = op.reshape(op.transpose(attended, ints(0, 2, 1, 3)), ints(0, 0, dim), True)
        x = normalised(op.add(linear(together, f"{at}.attention.output.dense"), x), f"{at}.attention.output.LayerNorm")
        inner = op.gelu(linear(x, f"{at}.intermediate.dense"), "erf")
        x = normalised(op.add(linear(inner, f"{at}.output.dense"), x), f"{at}.output.LayerNorm")
        layer += 1
    library.save_model(library.Model([op.result(x)], [ids, mask, segments], "bert"), str(path), compress_to_fp16=False)
