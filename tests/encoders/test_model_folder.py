from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file
from tiny_models import TinyModels

from app.encoders import model_folder
from app.errors import EncoderRefused, EncoderUnavailable


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_folder_is_itself(tiny: TinyModels) -> None:
    assert model_folder.locate(str(tiny.sentence())) == tiny.sentence()


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_sought_at_the_hub(path: str) -> None:
    with pytest.raises(EncoderRefused, match="is not a folder"):
        model_folder.locate(path)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(EncoderRefused, match="is not a folder"):
        model_folder.locate(str(tmp_path / "model.safetensors"))


def test_a_hub_id_is_found_in_the_cache(tiny: TinyModels, offline_hub: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = offline_hub / "models--org--tiny" / "snapshots" / commit
    shutil.copytree(tiny.sentence(), snapshot)
    refs = offline_hub / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    assert model_folder.locate("org/tiny") == snapshot
    assert model_folder.locate("org/tiny", commit) == snapshot


def test_a_hub_that_does_not_answer_is_unavailable_and_a_wrong_id_refused(offline_hub: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="'org/absent'"):
        model_folder.locate("org/absent")
    with pytest.raises(EncoderRefused, match="no model"):
        model_folder.locate("not a name!")


def test_formats_are_told_apart(tiny: TinyModels) -> None:
    folders = {
        "plain": tiny.plain(),
        "sentence_transformer": tiny.sentence(),
        "multi_vector": tiny.colbert(),
        "pylate": tiny.pylate(),
        "stanford": tiny.stanford(),
    }
    assert {name: model_folder.recognise(folder) for name, folder in folders.items()} == {n: n for n in folders}


def test_weights_digest_of_one_file_is_that_files(tiny: TinyModels) -> None:
    content = (tiny.sentence() / "model.safetensors").read_bytes()
    assert model_folder.weights_digest(tiny.sentence()) == hashlib.sha256(content).hexdigest()


def test_weights_digest_covers_every_modules_weights(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.colbert(), "digest")
    whole = model_folder.weights_digest(folder)
    with (folder / "1_Dense" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert model_folder.weights_digest(folder) != whole
    # Files that are never loaded, such as a run's checkpoints, do not count.
    kept = model_folder.weights_digest(folder)
    (folder / "checkpoint-500").mkdir()
    (folder / "checkpoint-500" / "model.safetensors").write_bytes(b"other")
    assert model_folder.weights_digest(folder) == kept


def test_configuration_digest_ignores_versions_and_the_files_layout(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "versions")
    before = model_folder.configuration_digest(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**dict(sorted(config.items())), "transformers_version": "9.9.9"}, indent=7))
    assert model_folder.configuration_digest(folder) == before
    path.write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    assert model_folder.configuration_digest(folder) != before


def test_tokenizer_digest_ignores_saved_padding(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "padding")
    before = model_folder.tokenizer_digest(folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    path.write_text(json.dumps({**tokenizer, "padding": {"strategy": {"Fixed": 128}}, "truncation": None}))
    assert model_folder.tokenizer_digest(folder) == before
    tokenizer["model"]["unk_token"] = "[MASK]"
    path.write_text(json.dumps(tokenizer))
    assert model_folder.tokenizer_digest(folder) != before
    # Without tokenizer.json the vocabulary's own file counts.
    path.unlink()
    (folder / "vocab.txt").write_text("a\nb")
    one = model_folder.tokenizer_digest(folder)
    (folder / "vocab.txt").write_text("a\nc")
    assert model_folder.tokenizer_digest(folder) != one


def test_the_modules_of_a_router_are_the_models(tiny: TinyModels) -> None:
    """They lie beside it, in folders that its own settings name."""
    folder = tiny.copy(tiny.splade("routed", static=True), "routed")
    model_folder.check_sparse_encoder(folder)
    before = model_folder.weights_digest(folder), model_folder.configuration_digest(folder)
    table = next(folder.glob("query_*/model.safetensors"))
    weights = load_file(table)
    save_file({name: value * 2 for name, value in weights.items()}, table, metadata={"format": "pt"})
    assert model_folder.weights_digest(folder) != before[0]
    settings = next(folder.glob("document_*/sentence_bert_config.json"))
    settings.write_text(settings.read_text().replace("fill-mask", "feature-extraction"))
    assert model_folder.configuration_digest(folder) != before[1]
    for path in folder.glob("*/model.safetensors"):
        path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(EncoderRefused, match="pickle"):
        model_folder.check_sparse_encoder(folder)


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "..", "a/b"])
def test_a_routers_modules_lie_inside_the_folder(tiny: TinyModels, name: str) -> None:
    folder = tiny.copy(tiny.splade("routed", static=True), "leading-out")
    (folder / model_folder.ROUTER).write_text(json.dumps({"types": {name: "x"}}))
    with pytest.raises(EncoderRefused, match="inside the folder"):
        model_folder.check_sparse_encoder(folder)
