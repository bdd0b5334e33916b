"""The objects at an address."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import Invalid
from app.objects.bucket import Bucket, check_endpoint
from app.objects.clock import Clock
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.objects.protocol import Objects, check_name

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def open_objects(
    url: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    deadline_s: float = 15.0,
    request_s: float = 5.0,
    clock: Clock | None = None,
) -> Objects:
    """``s3://bucket/prefix`` or ``file:///folder``; no request is made yet.

    endpoint, region, access_key, secret_key: of a bucket; else the environment's AWS_ENDPOINT_URL, AWS_REGION,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or what the machine itself is given. deadline_s: of each call, tries
    included. request_s: of one request, with a second more for each 256 KiB that it carries; large objects have a
    minute for each part. Raises Invalid.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.query or parts.fragment:
        raise Invalid(f"{url!r} has a query or a fragment; expected s3://bucket/prefix or file:///folder")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and prefix:
        return Persistent(Folder(Path(unquote(parts.path))), deadline_s, clock)
    if parts.scheme != "s3" or not parts.netloc or parts.username is not None:
        raise Invalid(f"{url!r} is no address of an object store: expected s3://bucket/prefix or file:///folder")
    if prefix:
        check_name(prefix)
    for variable in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        # Empty is what a composed service has where nothing was given; obstore would take it as an address, or a key.
        del os.environ[variable]
    endpoint = endpoint or next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    given = {"region": region, "access_key_id": access_key, "secret_access_key": secret_key}
    settings = {name: value for name, value in given.items() if value}
    checked = None if endpoint is None else check_endpoint(endpoint)
    return Persistent(
        Bucket(parts.netloc, prefix, endpoint=checked, request_s=request_s, **settings), deadline_s, clock
    )
