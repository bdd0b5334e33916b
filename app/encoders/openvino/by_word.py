"""Where the tokens of a text stand, found once a word instead of once a text.

BERT's tokenizer cleans, lower-cases and parts a text character by character and never looks over a space: what a run
between two spaces becomes hangs on nothing beside it. So runs are told apart once and remembered. Other tokenizers look
further (a space is part of a token, a text is one string to them), and are asked for whole texts. The texts that were
shown last are remembered too: who types on, or turns a page back, is shown them again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from app.compute.growing import Growing
from app.types import I64

_SPACES: Final = str.maketrans("\t\n\r", "   ")
"""Of the spaces those that every version of every part takes for one."""
REMEMBERED: Final = 1_000_000
"""Characters of the runs that are remembered, some 100,000 words; they take some 20 MB at most."""
SHOWN: Final = 2_000_000
"""Characters of the texts that are remembered, some 2,000 passages; with their tokens they take some 15 MB at most."""
Around: TypeAlias = tuple[I64, Mapping[int, str]]
"""Of a text: (n, 2), where its tokens stand, and the special ones by their places."""


class _Known:
    """Runs of text, by number. A number is given out after its tokens are there, so readers need no lock."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.spans = Growing(np.int64, 2)
        """(tokens, 2), of all runs one after another, in characters of the run."""
        self.edges = Growing(np.int64, 3)
        """(runs, 3): where in ``spans`` those of each run begin and end, and its length in characters."""
        self.characters = 0

    def add(self, run: str, spans: I64) -> None:
        begin = self.spans.length
        self.spans.reserve(len(spans))
        self.spans.append(spans)
        self.edges.reserve(1)
        self.edges.append(np.array([[begin, begin + len(spans), len(run)]]))
        self.characters += len(run)
        self.numbers[run] = self.edges.length - 1


class ByWord:
    """The places of one tokenizer's tokens. Several threads may use it at once."""

    def __init__(self, saved: str, limit: int | None) -> None:
        """saved: a tokenizer for which ``parts_at_spaces``. limit: of tokens, special ones included."""
        self._tokenizer = Tokenizer.from_str(saved)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        probe = self._tokenizer.encode("a")
        mask = probe.special_tokens_mask
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        self._before, self._after = probe.tokens[:first], probe.tokens[last:]
        self._room = None if limit is None else max(0, limit - len(self._before) - len(self._after))
        self._known = _Known()
        self._shown: dict[str, Around] = {}
        self._shown_characters = 0
        self._adding = threading.Lock()

    def spans(self, texts: Sequence[str]) -> list[I64]:
        """Of each text (tokens, 2): text[start:stop] of its tokens, uncut and without special ones."""
        if not texts:
            return []
        of_texts = [text.translate(_SPACES).split(" ") for text in texts]
        runs = list(chain.from_iterable(of_texts))
        known, numbers = self._numbered(runs)
        begin, end, lengths = known.edges.view(known.edges.length)[numbers].T
        # All texts are one, a space between two; then each counts from its own beginning.
        starts = np.cumsum(lengths + 1) - lengths - 1
        sizes = np.fromiter(map(len, of_texts), np.int64, len(texts))
        firsts = np.cumsum(sizes) - sizes
        starts -= np.repeat(starts[firsts], sizes)
        counts = end - begin
        # The tokens of run i go to places [sum of counts before, ...) of the answer.
        before = np.cumsum(counts) - counts
        places = np.arange(int(counts.sum())) + np.repeat(begin - before, counts)
        found = known.spans.view(known.spans.length)[places] + np.repeat(starts, counts)[:, None]
        edges = [*before[firsts].tolist(), len(found)]
        return [found[start:stop] for start, stop in pairwise(edges)]

    def with_special(self, texts: Sequence[str]) -> list[Around]:
        """The same of the tokens that go into the network, with the special ones. Nobody may write to what is given."""
        shown = self._shown
        found = {text: shown.get(text) for text in texts}
        new = [text for text, own in found.items() if own is None]
        made = {text: self._around(own[: self._room]) for text, own in zip(new, self.spans(new), strict=True)}
        if made:
            self._remember(made)
        return [made[text] if own is None else own for text, own in ((text, found[text]) for text in texts)]

    def _remember(self, made: Mapping[str, Around]) -> None:
        """Where there is no room for more, what was remembered before goes."""
        more = sum(map(len, made))
        with self._adding:
            if self._shown_characters + more > SHOWN:
                self._shown, self._shown_characters = {}, 0
            if more <= SHOWN:
                self._shown.update(made)
                self._shown_characters += more

    def _around(self, own: I64) -> Around:
        first, end = len(self._before), len(self._before) + len(own)
        names = dict(enumerate(self._before)) | {end + i: name for i, name in enumerate(self._after)}
        spans = np.zeros((end + len(self._after), 2), np.int64)
        spans[first:end] = own
        return spans, names

    def _numbered(self, runs: Sequence[str]) -> tuple[_Known, I64]:
        known = self._known
        try:
            return known, np.fromiter(map(known.numbers.__getitem__, runs), np.int64, len(runs))
        except KeyError:
            known = self._knowing(set(runs), known)
            return known, np.fromiter(map(known.numbers.__getitem__, runs), np.int64, len(runs))

    def _knowing(self, runs: set[str], known: _Known) -> _Known:
        """What knows all of these runs. Where no more are remembered it is begun anew, since what is common is soon
        back; whoever reads the old one goes on with it."""
        new = runs.difference(known.numbers)
        full = known.characters + sum(map(len, new)) > REMEMBERED
        if full:
            known, new = _Known(), runs
        asked = list(new)
        encodings = self._tokenizer.encode_batch(asked, add_special_tokens=False)
        with self._adding:
            for run, encoding in zip(asked, encodings, strict=True):
                if run not in known.numbers:
                    known.add(run, np.array(encoding.offsets, np.int64).reshape(-1, 2))
        if full and known.characters <= REMEMBERED:
            self._known = known
        return known


def parts_at_spaces(saved: str) -> bool:
    """Whether this tokenizer, as the `tokenizers` library saves it, makes of a run between spaces what it makes of the
    run alone: BERT's, with a template that puts special tokens around a text and no token that takes spaces in."""
    content: dict[str, Any] = json.loads(saved)
    parts = {name: (content.get(name) or {}).get("type") for name in ("normalizer", "pre_tokenizer", "model")}
    around = (content.get("post_processor") or {}).get("type")
    return (
        parts == {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}
        and around in (None, "TemplateProcessing", "BertProcessing")
        and (content.get("truncation") or {}).get("direction", "Right") == "Right"
        and not any(map(_takes_spaces, content.get("added_tokens") or []))
    )


def _takes_spaces(token: Mapping[str, Any]) -> bool:
    return any(token.get(name) for name in ("lstrip", "rstrip", "single_word")) or " " in token["content"]
