"""A server with OpenAI's `/v1/embeddings`, such as vLLM, TEI, Ollama or llama.cpp. Dense vectors only.

A passing failure (no connection, a time-out, 429, 5xx) is tried again with exponential back-off and full
jitter, or after the time that the server names in Retry-After; then it is EncoderUnavailable. Where there is a deadline
(``app.compute.deadline``) no try and no pause goes beyond it: then it is TooSlow. A lasting failure
(another refusal, an answer of another shape) is EncoderRefused at once: a vector in the wrong place or of the
wrong model is worse than none. A batch that is refused for what is in it goes again in halves: texts that are refused
alone are named (TextRefused), and if none is, the server takes no more at once than that, which is remembered.

The API key and the URL's credentials appear in no message and in no log line of httpx. How a server cuts long texts is
not told by this protocol, so nothing is reported as truncated; they are split by an estimate of their tokens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np

from app.compute import deadline
from app.compute.pauses import retry_after
from app.encoders.batches import estimated, gather
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint
from app.errors import EncoderRefused, EncoderUnavailable, TextRefused, TooSlow
from app.settings import RemoteModel
from app.types import F32, I64, Encoded, Kind

OF_THE_TEXTS = frozenset({400, 413, 422})
"""Statuses that may be about one text, or about how many came at once."""
SPECIAL = 2
"""Tokens that mark the beginning and the end of a text."""
PROBE = "a"
"""A text that every encoder takes."""
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 60.0
"""The longest wait between two tries; a server that asks for more is not waited for."""


class _BatchRefused(EncoderRefused):
    """For what is in the batch, perhaps."""


class RemoteEncoder:
    """Safe for several threads: one pool of connections, and the most texts that the server was seen to take."""

    def __init__(self, settings: RemoteModel, sleep: Callable[[float], None] = time.sleep) -> None:
        """sleep: what waits between two tries. Raises EncoderRefused for a URL that cannot be; connects to nothing."""
        try:
            url = httpx.URL(settings.url)
        except httpx.InvalidURL as error:
            raise EncoderRefused(f"the remote encoder's URL is not a URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise EncoderRefused("the remote encoder's URL must be http(s)://host[:port]/path, without a query")
        # Credentials move into a header: httpx logs the URL of every request.
        auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        self._url = url.copy_with(userinfo=b"", path=url.path.rstrip("/") + "/embeddings")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        self._secrets = [secret for secret in (key, url.password) if secret]
        self._client = httpx.Client(headers=headers, auth=auth, timeout=settings.timeout_s)
        self._settings = settings
        self._most = settings.batch
        self._sleep = sleep

    @property
    def kind(self) -> Kind:
        return "dense"

    @property
    def dim(self) -> int:
        return self._settings.dim

    @property
    def backend(self) -> str:
        return "remote"

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the model's name, not of its weights, which no answer tells; the URL may change freely."""
        details = {
            "dim": str(self.dim),
            "query_prompt": self._settings.query_prefix,
            "document_prompt": self._settings.document_prefix,
            "precision": "float32",
        }
        return Fingerprint("remote", self._settings.model, details)

    @property
    def room(self) -> int:
        """As it is set, less what the server itself may put before and after a text."""
        return max(1, self._settings.max_tokens - SPECIAL - len(estimated([self._settings.document_prefix])[0]))

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        return estimated(texts)

    def token_places(self, texts: Sequence[str], task: Task) -> None:
        return None

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._encode([self._settings.document_prefix + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._encode([self._settings.query_prefix + text for text in texts])

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _encode(self, texts: list[str]) -> Encoded:
        pooled: list[F32] = []
        refused: dict[int, str] = {}
        while (start := len(pooled)) < len(texts):
            pooled += self._halved(texts[start : start + self._most], start, refused)
        if refused:
            raise TextRefused(refused)
        return gather(self.dim, pooled, None, np.zeros(len(texts), bool))

    def _halved(self, texts: list[str], start: int, refused: dict[int, str]) -> list[F32]:
        """A vector of each text. refused: gets those that are refused alone, by their place, ``start`` and on."""
        try:
            return self._batch(texts)
        except _BatchRefused as error:
            if len(texts) == 1:
                if not refused:
                    self._require_taken()
                refused[start] = error.message
                return [np.zeros(self.dim, np.float32)]
        half, before = (len(texts) + 1) // 2, len(refused)
        rows = self._halved(texts[:half], start, refused)
        rows += self._halved(texts[half:], start + half, refused)
        if len(refused) == before:
            # Each of them is taken, so they were too many.
            self._most = min(self._most, half)
        return rows

    def _require_taken(self) -> None:
        """Raises EncoderRefused where the server takes no text at all: then it is not about the one that it refused."""
        self._batch([PROBE])

    def _batch(self, texts: list[str]) -> list[F32]:
        response = self._post({"model": self._settings.model, "input": texts, "encoding_format": "float"})
        try:
            body = response.json()
        except ValueError as error:
            raise EncoderRefused(f"{self._url} answered with something that is not JSON") from error
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise EncoderRefused(f'{self._url} answered without a list "data" of objects')
        indexes = [item.get("index") for item in data]
        if not all(type(i) is int for i in indexes) or sorted(indexes) != list(range(len(texts))):
            found = f"{len(data)} vectors" if len(data) != len(texts) else "other indexes"
            raise EncoderRefused(f"{self._url} was sent {len(texts)} texts and answered {found}")
        rows: list[F32] = [np.empty(0, np.float32)] * len(texts)
        for item in data:
            rows[int(item["index"])] = self._vector(item.get("embedding"))
        return rows

    def _vector(self, value: Any) -> F32:
        """(dim,) float32 from a JSON list of numbers."""
        numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
        if not numbers or len(value) != self.dim:
            found = f"{len(value)} values" if isinstance(value, list) else type(value).__name__
            raise EncoderRefused(f"{self._url}: expected an embedding of {self.dim} numbers, got {found}")
        try:
            vector = np.array(value, np.float64)
        except OverflowError:
            vector = np.array([np.inf])
        if not (np.abs(vector) <= np.finfo(np.float32).max).all():
            raise EncoderRefused(f"{self._url} answered an embedding with NaN, infinity or more than float32 holds")
        return vector.astype(np.float32)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The answer with status 200, after as many tries as the settings allow."""
        for attempt in range(self._settings.retries + 1):
            asked: float | None = None
            try:
                response = self._client.post(self._url, json=body, timeout=self._timeout())
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {self._redact(str(error))}"
            else:
                if response.status_code == 200:
                    return response
                reason = f"status {response.status_code}"
                if response.status_code != 429 and response.status_code < 500:
                    kind = _BatchRefused if response.status_code in OF_THE_TEXTS else EncoderRefused
                    raise kind(f"{self._url} answered {reason}{self._excerpt(response)}")
                asked = retry_after(response.headers.get("Retry-After"))
            last = attempt == self._settings.retries or (asked or 0) > LONGEST_DELAY_S
            pause = 0.0 if last else _delay(attempt) if asked is None else asked
            left = deadline.left()
            if left is not None and left <= pause:
                raise TooSlow(f"{self._url} does not answer in the time that the search may take: {reason}")
            if last:
                break
            self._sleep(pause)
        raise EncoderUnavailable(f"{self._url} does not answer after {attempt + 1} tries: {reason}")

    def _timeout(self) -> float:
        """Seconds for one try."""
        left = deadline.left()
        return self._settings.timeout_s if left is None else min(self._settings.timeout_s, left)

    def _excerpt(self, response: httpx.Response) -> str:
        """The server's own words, where they cannot hold a key: refusals of a key often repeat it."""
        if response.status_code in (401, 403):
            return "; is the API key right?"
        return f": {self._redact(response.text[:300])}" if response.text else ""

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _delay(attempt: int) -> float:
    """Seconds before the next try: full jitter below a bound that doubles."""
    return random.uniform(0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0**attempt))
