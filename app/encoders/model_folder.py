"""A model's folder: where it is, what was saved in it, whether it may be loaded, what identifies it.

Only files are read here, before any weight is loaded; neither torch nor a model library is imported.

Why so strict: sentence-transformers 6.2 loads nearly anything, and says at INFO level at most what it made up. A
ColBERT opened as a SentenceTransformer becomes mean pooling without its projection; a folder that is no ColBERT
opened as one gets a random projection. Both give vectors that look right and rank badly, so both are refused by
what the folder holds. Weights are read from safetensors only: the other formats are pickles, which run code.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, Literal, TypeAlias

from app.errors import EncoderRefused, EncoderUnavailable

Format: TypeAlias = Literal["sentence_transformer", "multi_vector", "pylate", "stanford", "plain", "other"]

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "artifact.metadata")
_PYLATE_KEYS = ("query_prefix", "document_prefix", "do_query_expansion", "attend_to_expansion_tokens")
# Settings that a new save may change without moving a vector.
_VOLATILE = {
    "__version__", "_name_or_path", "architectures", "dtype", "name_or_path", "processor_class", "requirements",
    "similarity_fn_name", "special_tokens_map_file", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
ROUTER = "router_config.json"
"""Of a model that reads queries by other modules than documents."""
_STANFORD_KEYS = (
    "query_token_id", "doc_token_id", "query_maxlen", "doc_maxlen", "attend_to_mask_tokens", "mask_punctuation",
)  # fmt: skip


def locate(path: str, revision: str | None = None) -> Path:
    """The folder that an operator's setting names; a hub id is fetched into the hub's cache first.

    Raises EncoderRefused where there is no such folder or repository, EncoderUnavailable where the hub does not
    answer and its cache has no complete copy.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise EncoderRefused(f"{path} is not a folder; a model is a folder, or a hub id such as org/name")
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=list(_FILES)))
    except (errors.HFValidationError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise EncoderRefused(f"the hub has no model {path!r} (revision {revision or 'main'}): {error}") from error
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise EncoderUnavailable(f"the hub does not give {path!r}, and its cache has no copy: {error}") from error


def converted_here(folder: Path) -> Path:
    """Where a process that works for another one keeps converted models: in that one's folder, or, on a machine that
    has it not, in one of its own, where it converts each model that it runs."""
    return folder if folder.parent.is_dir() else Path(tempfile.mkdtemp(prefix="sheaf-models-"))


def saved_name(folder: Path) -> list[str]:
    """The model's name where it was saved, if its folder tells."""
    found = _raw(folder / "config.json", {}).get("_name_or_path")
    return [found] if isinstance(found, str) else []


def recognise(folder: Path) -> Format:
    """Which library's layout the folder has, by its JSON files alone."""
    saved = _raw(folder / "config_sentence_transformers.json", {})
    model_type = saved.get("model_type")
    modules = _modules(folder)
    pylate = model_type == "ColBERT" or any(module["type"].startswith("pylate.") for module in modules)
    if pylate or (model_type != "MultiVectorEncoder" and any(key in saved for key in _PYLATE_KEYS)):
        return "pylate"
    if model_type == "MultiVectorEncoder":
        return "multi_vector"
    if "HF_ColBERT" in _architectures(folder) or (folder / "artifact.metadata").exists():
        return "stanford"
    if not modules:
        return "plain"
    return "sentence_transformer" if model_type in (None, "SentenceTransformer") else "other"


def check_sentence_transformer(folder: Path) -> None:
    """Raises EncoderRefused unless the folder is a SentenceTransformer with safetensors weights."""
    found = recognise(folder)
    if found in ("multi_vector", "pylate", "stanford"):
        raise EncoderRefused(
            f'{folder} holds a ColBERT ({found} format); as type "sentence_transformer" it would become mean pooling '
            'without its projection: configure it with type "colbert"'
        )
    if found == "plain":
        raise EncoderRefused(
            f"{folder} has no modules.json: it is a plain transformer, whose pooling nobody chose; save it with "
            "sentence-transformers as a SentenceTransformer with the pooling it was trained for"
        )
    if found == "other":
        raise EncoderRefused(f"{folder} holds a {_json_type(folder)}; a SentenceTransformer is needed")
    _check_weights(folder)


def check_colbert(folder: Path) -> None:
    """Raises EncoderRefused unless the folder is a ColBERT whose projection is in its safetensors weights."""
    found = recognise(folder)
    if found in ("plain", "sentence_transformer"):
        raise EncoderRefused(
            f'{folder} is not a ColBERT: as type "colbert" it would get a random projection; its own token vectors '
            'serve as multi_vector with type "sentence_transformer"'
        )
    if found == "other":
        raise EncoderRefused(f"{folder} holds a {_json_type(folder)}; a ColBERT is needed")
    _check_weights(folder)
    if _modules(folder):
        return
    if found != "stanford" or "HF_ColBERT" not in _architectures(folder):
        raise EncoderRefused(
            f"{folder} has neither modules.json nor architectures HF_ColBERT in config.json: its projection would be "
            "random; save the model again with the library that it was trained with"
        )
    if "linear.weight" not in _keys(folder / "model.safetensors"):
        raise EncoderRefused(
            f"{folder}: model.safetensors has no linear.weight, so the projection would be random; save the "
            "checkpoint again with its projection"
        )


def check_cross_encoder(folder: Path) -> None:
    """Raises EncoderRefused unless the folder is a CrossEncoder with safetensors weights, in its own layout or, as
    older ones were saved, as a transformer that classifies."""
    saved = _raw(folder / "config_sentence_transformers.json", {})
    classifies = any(name.endswith("ForSequenceClassification") for name in _architectures(folder))
    if saved.get("model_type") != "CrossEncoder" and not (recognise(folder) == "plain" and classifies):
        raise EncoderRefused(
            f"{folder} is not a CrossEncoder: what scores a query with a text would be random; a model that encodes is "
            'configured with type "sentence_transformer" or "colbert"'
        )
    config = _raw(folder / "config.json", {})
    of_config = config.get("sentence_transformers")
    last = [
        saved.get("activation_fn"),
        of_config.get("activation_fn") if isinstance(of_config, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    ]
    for activation in last:
        # Any other would be replaced by the default without a word.
        if activation is not None and not str(activation).startswith("torch.nn.modules."):
            raise EncoderRefused(f"{folder} ends with {activation}, which is none of torch's own activations")
    _check_weights(folder)


def check_sparse_encoder(folder: Path) -> None:
    """Raises EncoderRefused unless the folder is a SparseEncoder with safetensors weights."""
    saved = _raw(folder / "config_sentence_transformers.json", {})
    if saved.get("model_type") != "SparseEncoder" or not _modules(folder):
        raise EncoderRefused(
            f"{folder} is not a SparseEncoder as sentence-transformers saves one: load it with its SparseEncoder, see "
            "that it encodes as it should, and save it"
        )
    _check_weights(folder)


def check_hypencoder(folder: Path) -> None:
    """Raises EncoderRefused unless the folder is a Hypencoder's checkpoint with safetensors weights."""
    config = _raw(folder / "config.json", {})
    if "query_encoder_kwargs" not in config or "passage_encoder_kwargs" not in config:
        raise EncoderRefused(
            f"{folder} is not a Hypencoder: its config.json has no query_encoder_kwargs and passage_encoder_kwargs; "
            'other models are configured with type "sentence_transformer" or "colbert"'
        )
    _check_weights(folder)


def dense_modules(folder: Path) -> int:
    """How many projections the folder says it has."""
    modules = _modules(folder)
    return sum(m["type"].rsplit(".", 1)[-1] == "Dense" for m in modules) if modules else 1


def weights_digest(folder: Path) -> str:
    """SHA-256, hexadecimal: of the one weight file, or of the digests of several in the order of their paths."""
    digests = []
    for path in _weights(folder):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def configuration_digest(folder: Path) -> str:
    """SHA-256 of every setting in the folder that can move a vector; versions, names and layout of the JSON cannot."""
    metadata = _json(folder / "artifact.metadata")
    parts: list[Any] = [
        _json(folder / "config.json"),
        _json(folder / "config_sentence_transformers.json"),
        {key: metadata.get(key) for key in _STANFORD_KEYS},
        [(m["path"], m["type"].rsplit(".", 1)[-1]) for m in _modules(folder)],
        [_json(path) for path in sorted(folder.glob("sentence_*_config.json"))],
        [_json(path / "config.json") for path in _folders(folder)[1:]],
    ]
    for root in _folders(folder):
        if (root / ROUTER).exists():
            parts.append([_json(root / ROUTER), *map(_json, sorted(root.glob("*/sentence_*_config.json")))])
    return _digest(parts)


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of how the folder's tokenizer cuts a text; its saved padding and truncation are not used."""
    roots = [path for path in _folders(folder) if (path / "tokenizer_config.json").exists()] or [folder]
    parts: list[Any] = []
    for root in roots:
        settings = _json(root / "tokenizer_config.json")
        parts.append({k: v for k, v in settings.items() if k not in ("model_max_length", "tokenizer_class")})
        if (root / "tokenizer.json").exists():
            tokenizer = _json(root / "tokenizer.json")
            parts.append({k: v for k, v in tokenizer.items() if k not in ("padding", "truncation")})
        else:
            files = [*root.glob("vocab.*"), *root.glob("merges.txt"), *root.glob("*.model")]
            parts.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)])
    return _digest(parts)


def _check_weights(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise EncoderRefused(f"{folder} holds an adapter; merge it into its model and save the whole")
    for part in _folders(folder):
        pickles = sorted(path.name for path in part.iterdir() if path.suffix in _PICKLES)
        if pickles and not list(part.glob("model*.safetensors")):
            raise EncoderRefused(
                f"{part} has its weights only as {pickles[0]}, a pickle, which can run code; save the model with "
                "safetensors (safe_serialization=True)"
            )
    if not _weights(folder):
        raise EncoderRefused(f"{folder} has no weights: no model*.safetensors in it or in its modules' folders")


def _folders(folder: Path) -> list[Path]:
    """The root, then every module's folder with the folders below it."""
    named = [folder / m["path"] for m in _modules(folder) if m["path"]]
    named += [path for root in (folder, *named) for path in _routes(root)]
    below = [path for root in named for path in root.rglob("*") if path.is_dir()]
    return [folder, *sorted({path for path in (*named, *below) if path.is_dir()})]


def _routes(folder: Path) -> list[Path]:
    """The folders of a Router's modules, which it keeps beside itself; none where the folder has no Router."""
    names = _raw(folder / ROUTER, {}).get("types", {})
    if not isinstance(names, dict) or any(Path(name).name != name or name == ".." for name in names):
        raise EncoderRefused(f"{folder / ROUTER}: expected types by the names of folders inside the folder")
    return [folder / name for name in names]


def _weights(folder: Path) -> list[Path]:
    return [path for part in _folders(folder) for path in sorted(part.glob("model*.safetensors"))]


def _keys(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file; none where there is no file."""
    if not path.exists():
        return set()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise EncoderRefused(f"{path} is not a safetensors file: {error}") from error


def _architectures(folder: Path) -> list[str]:
    found = _raw(folder / "config.json", {}).get("architectures")
    return [str(name) for name in found] if isinstance(found, list) else []


def _json_type(folder: Path) -> str:
    return str(_raw(folder / "config_sentence_transformers.json", {}).get("model_type"))


def _modules(folder: Path) -> list[dict[str, str]]:
    """modules.json: the path and the type of each module; none where the file is absent."""
    modules = _raw(folder / "modules.json", [])
    good = all(
        isinstance(m, dict) and isinstance(m.get("path"), str) and isinstance(m.get("type"), str) for m in modules
    )
    if not good or any(".." in Path(m["path"]).parts or Path(m["path"]).is_absolute() for m in modules):
        raise EncoderRefused(f"{folder / 'modules.json'}: each module needs a type and a path inside the folder")
    return [{"path": m["path"], "type": m["type"]} for m in modules]


def _raw(path: Path, otherwise: Any) -> Any:
    """A JSON file's content, of the type of ``otherwise``, which stands for an absent file."""
    if not path.exists():
        return otherwise
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise EncoderRefused(f"{path} is not JSON: {error}") from error
    if not isinstance(content, type(otherwise)):
        raise EncoderRefused(f"{path}: expected a JSON {type(otherwise).__name__}, got {type(content).__name__}")
    return content


def _json(path: Path) -> dict[str, Any]:
    return {key: value for key, value in _raw(path, {}).items() if key not in _VOLATILE}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
