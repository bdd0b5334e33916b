"""API keys: who may ask for what. Only hashes are kept; a key is shown once, when it is made.

``python -m app.keys --name ci --scope read --scope write --collection papers`` makes one: the key on standard error,
its entry for ``SHEAF_KEYS`` or ``SHEAF_KEYS_FILE`` on standard output.

A key is 256 random bits, so one SHA-256 keeps it safe: nobody can try them all, and a slow hash (made for passwords)
would only cost every request its time. For the same reason keys of an operator's own wording are not taken.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import Invalid

Scope: TypeAlias = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "admin")
PREFIX: Final = "sheaf_"
"""Lets scanners for leaked secrets know one."""
KEY: Final = re.compile(r"sheaf_[A-Za-z0-9_-]{43}")
MAX_KEYS: Final = 1_000


class ApiKey(BaseModel):
    """One entry: what a key may do, and the hash by which it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
    """For people; appears in logs, the key itself never does."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key, in hexadecimal."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """`read`: searching and reading. `write`: documents. `admin`: collections too, and all of the others."""
    collections: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")], ...] | None = None
    """The collections that the key is for, by the names that requests use; left out, all of them."""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def reaches(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections


ANYONE: Final = ApiKey(name="anyone", sha256="0" * 64, scopes=("admin",))
"""Any caller of a server that has no keys."""


class Keyring:
    """The keys of one server."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        """Raises Invalid for a name or a hash that comes twice, and for more than 1,000 keys."""
        self._keys = tuple(keys)
        if len(self._keys) > MAX_KEYS:
            raise Invalid(f"at most {MAX_KEYS:,} keys; got {len(self._keys):,}")
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self._keys]
            if len(set(values)) < len(values):
                raise Invalid(f"two keys have the same {field}")

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, presented: str) -> ApiKey | None:
        """The entry of a key. Takes the same time whichever it is, and whether it is one: all hashes are compared."""
        digest = hash_of(presented)
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def hash_of(key: str) -> str:
    """SHA-256 in hexadecimal. Any string has one.

    >>> hash_of("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def make_key() -> str:
    """A new key: 256 bits of the system's randomness."""
    return PREFIX + secrets.token_urlsafe(32)


def read_keys(path: Path) -> list[ApiKey]:
    """The entries of a file: a JSON list. Raises Invalid, which never repeats what the file says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}") from None
    try:
        return TypeAdapter(list[ApiKey]).validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "".join(f"[{part}]" for part in fault["loc"])
        raise Invalid(f"{where or 'the file'}: {fault['msg'].replace('Input should be', 'expected')}") from None


def main(arguments: list[str] | None = None) -> int:
    """Makes a key. Nothing of it is kept here."""
    parser = argparse.ArgumentParser(prog="python -m app.keys", description="Make an API key and its entry.")
    parser.add_argument("--name", required=True, help="of the key, for people")
    parser.add_argument("--scope", choices=SCOPES, action="append", help="what it may do; may be repeated [read]")
    parser.add_argument("--collection", action="append", help="only these; may be repeated [all]")
    args = parser.parse_args(arguments)
    key = make_key()
    fields = {"name": args.name, "sha256": hash_of(key), "scopes": args.scope or ["read"]}
    if args.collection:
        fields["collections"] = args.collection
    try:
        entry = ApiKey.model_validate(fields)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            parser.error(f"{fault['loc'][0]}: {fault['msg']}")
    sys.stderr.write(f"the key, shown this once: {key}\n")
    sys.stdout.write(json.dumps(entry.model_dump(exclude_none=True)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
