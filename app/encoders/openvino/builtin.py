"""The built-in model as ``conversion`` writes others, without torch: its network is built of its weights (``bert``).

So an installation without torch converts it too, in a second, and both have the same files. What it gave in torch for
the texts that each start compares itself on comes with Sheaf (PROBED, float16), for there may be no torch to ask.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.encoders.builtin import CONFIGURATION, TOKENIZER, WEIGHTS
from app.encoders.openvino import bert, conversion

FORMAT: Final = "1"
"""Of what is written here. Another number, and it is written anew."""
PROBED: Final = Path(__file__).with_name("probe.safetensors")
"""tokens (n, 384) and pooled (texts, 384) of ``conversion.TEXTS``."""
LIMIT: Final = 256


def key() -> dict[str, str]:
    """The dependencies of the files; see ``conversion.key``."""
    return {
        "weights": WEIGHTS,
        "configuration": CONFIGURATION,
        "tokenizer": TOKENIZER,
        "version_builtin": FORMAT,
        **{f"version_{name}": version(name) for name in ("openvino", "tokenizers")},
    }


def write(source: Path, folder: Path) -> dict[str, Any]:
    """As ``conversion.convert``, from the model's verified folder. Raises NotConverted where OpenVINO does not load."""
    from safetensors.numpy import load_file, save_file

    config = json.loads((source / "config.json").read_bytes())
    weights = load_file(source / "model.safetensors")
    bert.save(weights, config["num_attention_heads"], config["layer_norm_eps"], folder / conversion.MODEL)
    tokenizer = (source / "tokenizer.json").read_text(encoding="utf-8")
    (folder / conversion.TOKENIZER).write_text(tokenizer, encoding="utf-8")
    probe = {name: np.ascontiguousarray(values, np.float32) for name, values in load_file(PROBED).items()}
    save_file(probe, folder / conversion.PROBE)
    dense = {
        "configuration": CONFIGURATION,
        "tokenizer": TOKENIZER,
        "query_prompt": "",
        "document_prompt": "",
        "query_max_length": str(LIMIT),
        "document_max_length": str(LIMIT),
        "precision": "float32",
    }
    return {
        "inputs": list(bert.INPUTS),
        "dim": config["hidden_size"],
        "normalised": True,
        "prompts": {"query": "", "document": ""},
        "limits": {"query": LIMIT, "document": LIMIT},
        "substitute": "[UNK]",
        "details": {"dense": dense, "multi_vector": {**dense, "pooled": "sentence embedding"}},
        "probe": list(conversion.TEXTS),
    }
