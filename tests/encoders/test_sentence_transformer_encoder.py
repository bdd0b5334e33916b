"""Held against sentence-transformers itself: the same folder, opened by its own class, is the oracle."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tiny_models import LIMIT, WIDTH, TinyModels
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from app.encoders.local import open_folder
from app.encoders.registry import Encoders
from app.errors import EncoderRefused
from app.settings import LocalModel

TEXTS = ["the cat sat on a mat", "dog", "read the zip file! " * 20, "a b c d e f", ""]
Open = Callable[..., Any]


def oracle(folder: Path) -> Any:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def unit(matrix: Any) -> Any:
    return matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)


def close(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, atol=2e-5))


def test_both_kinds_are_the_models_own_vectors(tiny: TinyModels, opened: Open) -> None:
    folder = tiny.sentence()
    model, dense, multi = oracle(folder), opened(folder, kind="dense"), opened(folder)
    expected = model.encode_document(TEXTS)
    assert close(dense.encode_documents(TEXTS).pooled, expected)
    found = multi.encode_documents(TEXTS)
    assert close(found.pooled, expected)
    for tokens, own in zip(found.tokens, model.encode_document(TEXTS, output_value="token_embeddings"), strict=True):
        assert close(tokens, unit(own.numpy()))


def test_a_matrix_holds_the_tokens_of_its_text_and_no_more(tiny: TinyModels, opened: Open) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.plain())
    counts = opened(tiny.sentence()).encode_documents(TEXTS).tokens.counts.tolist()
    assert counts == [len(tokenizer(text, truncation=True, max_length=LIMIT)["input_ids"]) for text in TEXTS]
    assert counts[1] == 3  # [CLS] dog [SEP]


def test_truncation_is_told_from_one_token_over_the_limit(tiny: TinyModels, opened: Open) -> None:
    fits, over = " ".join(["cat"] * (LIMIT - 2)), " ".join(["cat"] * (LIMIT - 1))
    for kind in ("dense", "multi_vector"):
        assert opened(tiny.sentence(), kind=kind).encode_documents([over, fits]).truncated.tolist() == [True, False]
    prompts = {"query": "", "document": "passage "}
    prompted = opened(tiny.sentence("prompt-counts", prompts=prompts))
    # The prompt is one token of the limit.
    assert prompted.encode_documents([fits]).truncated.tolist() == [True]
    assert prompted.encode_queries([fits]).truncated.tolist() == [False]


@pytest.mark.parametrize("include", [True, False])
def test_prompts_are_used_and_pooled_as_the_model_says(tiny: TinyModels, opened: Open, include: bool) -> None:
    prompts = {"query": "query the ", "document": "passage "}
    pooling = Pooling(WIDTH, "mean", include_prompt=include)
    folder = tiny.sentence(f"include-{include}", pooling=pooling, prompts=prompts)
    model, encoder = oracle(folder), opened(folder)
    queries, documents = encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS)
    assert close(queries.pooled, model.encode_query(TEXTS))
    assert close(documents.pooled, model.encode_document(TEXTS))
    assert queries.tokens.counts[1] == 5
    assert documents.tokens.counts[1] == 4
    assert not close(queries.pooled, oracle(tiny.sentence()).encode(TEXTS))


def test_a_prompt_saved_for_passages_is_used_for_documents(tiny: TinyModels, opened: Open) -> None:
    """As E5 models save it. encode_document of sentence-transformers 6.2.0 would use no prompt at all."""
    folder = tiny.sentence("passage", prompts={"query": "query ", "passage": "passage "})
    found = opened(folder).encode_documents(TEXTS).pooled
    assert close(found, oracle(folder).encode(TEXTS, prompt_name="passage"))


def test_a_projection_after_the_pooling(tiny: TinyModels, opened: Open) -> None:
    torch.manual_seed(3)
    folder = tiny.sentence("projected", Dense(WIDTH, 8), Normalize())
    dense, multi = opened(folder, kind="dense"), opened(folder)
    assert (dense.dim, multi.dim) == (8, WIDTH)
    assert close(dense.encode_queries(TEXTS).pooled, oracle(folder).encode_query(TEXTS))
    found = multi.encode_queries(TEXTS)
    means = np.stack([unit(tokens.mean(axis=0)) for tokens in found.tokens])
    assert close(found.pooled, means)
    assert multi.fingerprint.details["pooled"] == "mean of token vectors"


def test_several_poolings_side_by_side(tiny: TinyModels, opened: Open) -> None:
    folder = tiny.sentence("two-poolings", pooling=Pooling(WIDTH, ["mean", "max"]))
    assert (opened(folder, kind="dense").dim, opened(folder).dim) == (2 * WIDTH, WIDTH)
    assert opened(folder).encode_queries(TEXTS).pooled.shape == (len(TEXTS), WIDTH)


def test_a_matryoshka_model_keeps_its_cut(tiny: TinyModels, opened: Open) -> None:
    folder = tiny.sentence("matryoshka", truncate_dim=6)
    dense = opened(folder, kind="dense")
    assert dense.dim == 6
    assert close(dense.encode_queries(TEXTS).pooled, oracle(folder).encode_query(TEXTS))


def test_half_precision_weights_are_computed_in_float32(tiny: TinyModels, opened: Open) -> None:
    """Its projection too, which the library would round to the half precision of the transformer before it."""
    torch.manual_seed(3)
    folder = tiny.copy(tiny.sentence("to-halve", Dense(WIDTH, 8)), "half")
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"dtype": "float32"', '"dtype": "float16"'))
    full = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    assert oracle(folder).dtype == torch.float16
    assert np.abs(opened(folder, kind="dense").encode_queries(TEXTS).pooled - full.encode_query(TEXTS)).max() < 1e-6


def test_threads_do_not_disturb_each_others_truncation(tiny: TinyModels, opened: Open) -> None:
    """A fast tokenizer keeps truncation and padding as its own state, which counting and encoding both set."""
    encoder = opened(tiny.sentence())
    texts = ["cat " * 3_000, "dog"]
    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(encoder.encode_documents, texts) for _ in range(80)]]
    assert {tuple(each.tokens.counts.tolist()) for each in found} == {(LIMIT, 3)}
    assert {tuple(each.truncated.tolist()) for each in found} == {(True, False)}


def test_a_model_without_a_transformer_is_dense_only(tiny: TinyModels, opened: Open) -> None:
    torch.manual_seed(5)
    tokenizer = AutoTokenizer.from_pretrained(tiny.plain()).backend_tokenizer
    folder = tiny.root / "static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(folder))
    path = next(folder.rglob("model.safetensors"))
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    table = next(iter(load_file(path).values())).float().numpy()
    found = opened(folder, kind="dense").encode_documents(["the cat", "dog"])
    by_hand = [table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0) for text in ("the cat", "dog")]
    assert np.abs(found.pooled - by_hand).max() < 1e-6
    assert found.truncated.tolist() == [False, False]
    with pytest.raises(EncoderRefused, match="dense only"):
        opened(folder)


def test_a_text_without_tokens_still_gives_a_vector(tiny: TinyModels, opened: Open) -> None:
    """Tokenizers of decoders add no special tokens, so that an empty text is no token at all."""
    folder = tiny.copy(tiny.sentence(), "no-special-tokens")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="$A")
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "model_max_length": LIMIT}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    found = opened(folder).encode_queries(["", "cat"])
    assert found.tokens.counts.tolist() == [1, 1]
    assert np.isfinite(found.pooled).all()


def test_both_kinds_share_the_weights(tiny: TinyModels) -> None:
    make, _ = open_folder(tiny.sentence(), "cpu")
    one, other = make("dense"), make("multi_vector")
    assert one._backbone.model is other._backbone.model  # type: ignore[attr-defined]


def test_loading_is_quiet(
    tiny: TinyModels, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without its pooler a model loads with a report of a screen's length, which tells nothing that matters."""
    folder = tiny.copy(tiny.sentence(), "without-pooler")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "pooler" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        open_folder(folder, "cpu")[0]("dense").encode_queries(["a"])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("transformers").level != logging.ERROR


def test_fingerprints_tell_what_moves_a_vector(tiny: TinyModels, opened: Open) -> None:
    def differences(folder: Path) -> list[str]:
        return opened(tiny.sentence()).fingerprint.differences(opened(folder).fingerprint)  # type: ignore[no-any-return]

    assert differences(tiny.copy(tiny.sentence(), "moved")) == []
    assert differences(tiny.sentence("other-weights", seed=1)) == ["weights"]
    prompts = {"query": "query ", "document": ""}
    assert "details.query_prompt" in differences(tiny.sentence("other-prompt", prompts=prompts))
    assert differences(tiny.sentence("other-pooling", pooling=Pooling(WIDTH, "max"))) == ["details.configuration"]
    shorter = tiny.copy(tiny.sentence(), "shorter")
    for name in ("tokenizer_config.json", "sentence_bert_config.json"):
        text = (shorter / name).read_text()
        (shorter / name).write_text(text.replace(f'"model_max_length": {LIMIT}', '"model_max_length": 20'))
    assert {"details.document_max_length", "details.query_max_length"} <= set(differences(shorter))
    cased = tiny.copy(tiny.sentence(), "cased")
    text = (cased / "tokenizer.json").read_text()
    assert '"lowercase": true' in text
    (cased / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    assert differences(cased) == ["details.tokenizer"]


def refused(folder: Path, match: str) -> None:
    registry = Encoders({"tiny": LocalModel(type="sentence_transformer", path=str(folder))})
    for kind in ("dense", "multi_vector"):
        with pytest.raises(EncoderRefused, match=match):
            registry.get("tiny", kind)  # type: ignore[arg-type]


def test_a_colbert_is_refused_in_each_format(tiny: TinyModels) -> None:
    for folder in (tiny.colbert(), tiny.pylate(), tiny.pylate("pylate-old", model_type=None), tiny.stanford()):
        refused(folder, 'would become mean pooling .* configure it with type "colbert"')


def test_a_plain_transformer_is_refused(tiny: TinyModels) -> None:
    refused(tiny.plain(), "no modules.json: it is a plain transformer, whose pooling nobody chose")


def test_another_type_of_model_is_refused(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "reranker")
    path = folder / "config_sentence_transformers.json"
    path.write_text(path.read_text().replace('"SentenceTransformer"', '"CrossEncoder"'))
    refused(folder, "holds a CrossEncoder")


def test_pickled_weights_are_refused_in_the_root_and_in_a_module(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "pickled")
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    refused(folder, "only as pytorch_model.bin, a pickle")
    folder = tiny.copy(tiny.sentence("to-pickle", Dense(WIDTH, 8)), "pickled-module")
    torch.save(load_file(folder / "2_Dense" / "model.safetensors"), folder / "2_Dense" / "pytorch_model.bin")
    (folder / "2_Dense" / "model.safetensors").unlink()
    refused(folder, "2_Dense has its weights only as pytorch_model.bin, a pickle")


def test_weights_that_are_missing_or_broken_are_refused(tiny: TinyModels) -> None:
    """transformers would draw the missing ones at random and say so in a log line."""
    folder = tiny.copy(tiny.sentence(), "layer-missing")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "layer.1." not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"have no encoder\.layer\.1\..* which would be random")
    folder = tiny.copy(tiny.sentence(), "broken")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1_000)
    refused(folder, "does not load")
    folder = tiny.copy(tiny.sentence(), "broken-json")
    (folder / "modules.json").write_text("[{")
    refused(folder, r"modules\.json is not JSON")


def test_code_in_the_folder_never_runs(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "remote-code")
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Pooling: pass\n")
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("sentence_transformers.sentence_transformer.modules.pooling", "own"))
    refused(folder, "does not load .* executes third-party code")
    assert not ran.exists()
    outside = tiny.copy(tiny.sentence(), "outside")
    (outside / "modules.json").write_text('[{"path": "../elsewhere", "type": "sentence_transformers.x"}]')
    refused(outside, "a path inside the folder")


def test_an_adapter_and_a_device_that_is_not_there_are_refused(tiny: TinyModels) -> None:
    folder = tiny.copy(tiny.sentence(), "adapter")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "holds an adapter")
    with pytest.raises(EncoderRefused, match="on nowhere"):
        open_folder(tiny.sentence(), "nowhere")
