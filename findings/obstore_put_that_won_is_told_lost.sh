#!/bin/sh
# A conditional put that won is answered as one that lost, where the store's answer was lost on its way.
#
# Library: obstore 0.12.1 (object_store in Rust beneath), CPython 3.11 or newer, Linux; all settings as they come but the
# address, the keys and plain HTTP. Beside it a store of S3's kind in this script, which keeps If-None-Match and If-Match.
# Input: put(mode="create") of a name that is free, and put(mode={"e_tag": ...}) with the present tag. The store applies
# each, and then answers 500 once, or ends the connection without an answer, as stores and their balancers do.
# Behaviour: the client sends the put again by itself, the store refuses the second, and the caller gets
# AlreadyExistsError, or PreconditionError, which are the words for "somebody else has it". What lies there is the caller's
# own content, and no other writer exists. A lock, a lease, a log of commits or a manifest that is made of such puts then
# gives up what it owns, or writes the same commit again under the next number.
# Seen: both errors after both failures, two puts at the store for each; with retry_config={"max_retries": 0} one put,
# and an error that says that nothing is known (GenericError).
# What to do: no retries for conditional puts; put something of this attempt alone (a nonce) into the content, and after
# every error, those that say "lost" among them, read what lies there before believing it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install obstore==0.12.1
"$work/venv/bin/python" - <<'PYTHON'
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import S3Store

objects, failing, puts = {}, [], []


class Store(BaseHTTPRequestHandler):
    """Objects by path, each with a hash of its content as its tag."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, content=b"", tag=None):
        self.send_response(status)
        if tag is not None:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        puts.append(self.path)
        before = objects.get(self.path)
        taken = self.headers.get("If-None-Match") == "*" and before is not None
        changed = "If-Match" in self.headers and (before is None or before[1] != self.headers["If-Match"])
        if taken or changed:
            self.answer(412)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        objects[self.path] = content, tag
        how = failing.pop() if failing else None
        if how == "no answer":
            self.close_connection = True
        else:
            self.answer(500 if how == "500" else 200, tag=tag)

    def do_GET(self):
        if self.path in objects:
            self.answer(200, *objects[self.path])
        else:
            self.answer(404)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()


def client(**more):
    return S3Store(
        "bucket", endpoint=f"http://127.0.0.1:{server.server_port}/bucket", region="us-east-1", access_key_id="a",
        secret_access_key="b", virtual_hosted_style_request=True, client_options={"allow_http": True}, **more,
    )


def put(store, name, content, mode, how):
    """What the caller is told, how many puts reached the store, and whether the caller's content lies there."""
    puts.clear()
    failing.append(how)
    try:
        obstore.put(store, name, content, mode=mode)
        told = "no error"
    except Exception as error:
        told = type(error).__name__
    return told, len(puts), bytes(obstore.get(store, name).bytes()) == content


plain, once = client(), client(retry_config={"max_retries": 0})
failed = 0
for how in ("500", "no answer"):
    for name, store, create, swap, sent in (
        ("default", plain, "AlreadyExistsError", "PreconditionError", 2),
        ("no retries", once, "GenericError", "GenericError", 1),
    ):
        key = f"{how} {name}".replace(" ", "-")
        found = put(store, key, b"first", "create", how)
        tag = objects[f"/bucket/{key}"][1]
        swapped = put(store, key, b"second", {"e_tag": tag}, how)
        print(f"{how:10} {name:10} create: {found}, swap: {swapped}")
        failed += found != (create, sent, True)
        failed += swapped != (swap, sent, True)
server.shutdown()
raise SystemExit(f"{failed} of 8 puts came out in another way than they did" if failed else 0)
PYTHON
