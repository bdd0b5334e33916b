"""Keys: made once, kept as hashes, and refused at the start where they cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.errors import Invalid
from app.keys import KEY, ApiKey, Keyring, hash_of, main, make_key, read_keys


def entry(name: str, key: str, **more: Any) -> ApiKey:
    return ApiKey.model_validate({"name": name, "sha256": hash_of(key), "scopes": ["read"], **more})


def test_keys_are_different_and_long() -> None:
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    assert all(KEY.fullmatch(key) for key in made)


def test_a_keyring_finds_its_own_keys_alone() -> None:
    keys = [make_key() for _ in range(3)]
    ring = Keyring(entry(f"k{i}", key) for i, key in enumerate(keys))
    assert [ring.find(key) for key in keys] == [entry(f"k{i}", key) for i, key in enumerate(keys)]
    for wrong in ("", "x", make_key(), keys[0][:-1], keys[0] + "a", hash_of(keys[0]), "\ud800", "é"):
        assert ring.find(wrong) is None


def test_every_hash_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the time tells neither which key it was nor how near a guess came."""
    import hmac

    compared: list[str] = []
    real = hmac.compare_digest

    def counting(a: str, b: str) -> bool:
        compared.append(a)
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    keys = [make_key() for _ in range(3)]
    ring = Keyring(entry(f"k{i}", key) for i, key in enumerate(keys))
    for presented in (keys[0], keys[2], "wrong"):
        compared.clear()
        ring.find(presented)
        assert compared == [hash_of(key) for key in keys]


def test_scopes() -> None:
    key = entry("a", "a", scopes=["write"], collections=["mine"])
    assert (key.may("write"), key.may("read"), key.may("admin")) == (True, False, False)
    assert all(entry("a", "a", scopes=["admin"]).may(scope) for scope in ("read", "write", "admin"))
    assert (key.reaches("mine"), key.reaches("other")) == (True, False)
    assert entry("a", "a").reaches("whatever")
    assert not entry("a", "a", collections=[]).reaches("whatever")


def test_two_keys_are_two() -> None:
    with pytest.raises(Invalid, match="same name"):
        Keyring([entry("a", "x"), entry("a", "y")])
    with pytest.raises(Invalid, match="same sha256"):
        Keyring([entry("a", "x"), entry("b", "x")])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b"[1]",
        b'[{"name": "a", "sha256": "secret", "scopes": ["read"]}]',
        b'[{"name": "a", "key": "secret", "scopes": ["read"]}]',
        b'[{"name": "a", "sha256": "%s", "scopes": []}]' % (b"0" * 64),
        b'[{"name": "a", "sha256": "%s", "scopes": ["secret"]}]' % (b"0" * 64),
        b'[{"name": "a", "sha256": "%s", "scopes": ["read"], "collections": ["../secret"]}]' % (b"0" * 64),
    ],
)
def test_a_wrong_file_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(Invalid) as refused:
        read_keys(path)
    assert "secret" not in refused.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        read_keys(tmp_path / "none.json")


def test_the_command_makes_a_key_and_the_entry_that_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", "ci", "--scope", "read", "--scope", "write", "--collection", "papers"]) == 0
    said = capsys.readouterr()
    made = ApiKey.model_validate_json(said.out)
    (key,) = re.findall(KEY, said.err)
    assert key not in said.out
    assert Keyring([made]).find(key) == made
    assert json.loads(said.out) == {
        "name": "ci",
        "sha256": hash_of(key),
        "scopes": ["read", "write"],
        "collections": ["papers"],
    }
    with pytest.raises(SystemExit):
        main(["--name", "no name"])
