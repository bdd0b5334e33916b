"""Every kind of persistent file cut short and with flipped bits, while nothing runs: noticed, or without any effect.

Each trial harms one file of a copy, opens the folder as a server does, and asks for everything. Good is: the collection
is refused with the file's name and a way out while the others answer as before; or every answer is as before. Never a
crash, never another answer. Damage that was noticed must be found by scrub too; and what can be made anew is made anew.

Trials are forks of a process that has searched once, so that nothing is compiled in them; what is tried with machine
code runs in processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from damage_image import DIM, NAMES, answers, contents, document, fill, opened
from forks import in_child
from report import Report
from writing_process import say

from app.catalogue.scrub import REBUILD, scrub, scrub_aliases
from app.compute import native
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.lexical.files import FILES as WORD_FILES
from app.sparse.files import FILES as SPARSE_FILES
from app.tasks.records import ENDED

HERE = Path(__file__).parent
TRUNCATIONS, FLIPS = 20, 200
WITHOUT_CONTENT = ("writer.lock", ".server.lock", "collection.sqlite-shm", "lock")
"""Files that hold nothing: harm to them changes nothing."""
REMADE = (".models", ".compiled")
"""Damaged files there are made anew; so nothing is refused, and scrub does not look."""
PROCESSES = 40
"""One in so many trials of machine code is run, in a process of its own; in the others it is loaded."""

KINDS = {
    *(f"*/{name}" for name in ("collection.sqlite", "collection.sqlite-wal", "collection.sqlite-shm", "commits.mark")),
    *("*/writer.lock", "*/tail/*.safetensors", "*/encodings/*.safetensors", "*/imports/*.ndjson", ".aliases.json"),
    *(
        f"*/segments/*/{name}.npy"
        for name in (
            "seqs",
            "owners",
            "pooled",
            "norms",
            "tokens.offsets",
            "tokens",
            "encoded",
            "spans",
            "sparse.offsets",
            "sparse",
            "values.offsets",
            "values",
        )
    ),
    *(
        f"*/segments/*/{name}"
        for name in ("raw.npy", "raw.offsets.npy", "columns.npz", "encoded.index", "pooled.index", "neighbours.index")
    ),
    *(f"*/segments/*/{name}" for name in (*WORD_FILES, *SPARSE_FILES)),
    *("*/segments/*/manifest.json", ".snapshots/*.json", ".snapshots/*.tar", ".compiled/*.nbi", ".compiled/*.nbc"),
    *(".models/*/manifest.json", ".models/*/weights", ".models/lock"),
}
"""Every kind of file, so that a new one is noticed, and one that the image lacks."""

Harm = Callable[[Path], object]


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: harms drawn at random, every kind of file in turn; 0 is every kind, cut at 20 places, with 200 bits
    flipped, and twice so that the system does not read it, as it does not where the owner or the disk is wrong."""
    report = Report("damage", seed)
    native.keep_in(folder / "compiled")
    _search_once(folder / "once")
    image = folder / "image"
    filled = in_child(lambda: fill(image))
    assert filled.signal == signal.SIGKILL, filled.errors
    shutil.copytree(image, folder / "read")
    read = in_child(lambda: answers(folder / "read", also="restored applied"))
    assert read.well, read.errors
    expected = {what: held for what, held, _ in map(json.loads, read.output.splitlines())}
    assert len(expected) == 2 * len(NAMES) + 3, list(expected)
    assert all(expected.values()), read.output[:2_000]
    chance = random.Random(seed)
    kinds: dict[str, list[Path]] = {}
    for file in sorted(path.relative_to(image) for path in image.rglob("*") if path.is_file()):
        kinds.setdefault(kind_of(file), []).append(file)
    if set(kinds) != KINDS:
        report.fail(f"not tried, or not known: {sorted(KINDS ^ set(kinds))}")
    report.figures["files"] = sum(map(len, kinds.values()))
    report.figures["kinds"] = len(kinds)
    order = chance.sample(sorted(kinds), len(kinds))
    drawn = {kind: _harms(image, kinds[kind], chance) for kind in order}
    # Every kind in turn, so that few trials see many kinds.
    most = max(map(len, drawn.values()))
    turns = [(kind, harms[turn]) for turn in range(most) for kind, harms in drawn.items() if turn < len(harms)]
    for kind, (file, what, harm) in turns[: trials or len(turns)]:
        report.trials += 1
        if kind.startswith(".compiled"):
            _machine_code(report, folder, image, file, what, harm, run_it=report.trials % PROCESSES == 0)
        else:
            _trial(report, folder, image, file, what, harm, expected)
    derived = [kind for kind in sorted(kinds) if {"segments", "tail", "encodings"} & set(kind.split("/"))]
    for kind in chance.sample(derived, min(len(derived), max(2, trials // 20))) if trials else derived:
        _rebuilt(report, folder, image, chance.choice(kinds[kind]), expected)
    return report.done()


def kind_of(file: Path) -> str:
    """The same for files that are written and read alike.

    >>> kind_of(Path("own/tail/7.safetensors")), kind_of(Path(f"words/segments/{'a' * 32}/seqs.npy"))
    ('*/tail/*.safetensors', '*/segments/*/seqs.npy')
    """
    parts = list(file.parts)
    if parts[0] == ".compiled":
        return f".compiled/*{file.suffix}"
    if parts[0] in NAMES:
        parts[0] = "*"
    return "/".join(re.sub(r"[0-9a-f]{32}|^[0-9]+(?=\.)", "*", part) for part in parts if part not in NAMES)


def _search_once(folder: Path) -> None:
    """Compiles what the trials need."""
    ways: list[dict[str, Any]] = [
        {"model": "words", "kind": "multi_vector"},
        {"model": "words", "kind": "multi_vector", "precision": "1bit"},
        {"model": None, "kind": "sequence", "dim": DIM},
    ]
    with opened(folder) as catalogue:
        for name, choices in zip("abc", ways, strict=True):
            made = catalogue.create(name, **choices)
            write_documents(made, [document(i, made) for i in range(8)])
            contents(made)
            seal(made)
            contents(made)


def _harms(image: Path, files: list[Path], chance: random.Random) -> list[tuple[Path, str, Harm]]:
    """20 cuts and 200 flips, of files drawn from those of one kind, in turn as far as they go."""
    files = [file for file in files if (image / file).stat().st_size]
    if not files:
        return []

    def cut(file: Path, place: int) -> tuple[Path, str, Harm]:
        return file, f"cut at {place}", lambda path: os.truncate(path, place)

    def flip(file: Path, place: int, bit: int) -> tuple[Path, str, Harm]:
        def harm(path: Path) -> None:
            with path.open("r+b") as content:
                content.seek(place)
                (byte,) = content.read(1)
                content.seek(place)
                content.write(bytes([byte ^ 1 << bit]))

        return file, f"bit {bit} of byte {place} flipped", harm

    found: list[tuple[Path, str, Harm]] = []
    for number in range(TRUNCATIONS):
        file = chance.choice(files)
        size = (image / file).stat().st_size
        found.append(cut(file, (0, size - 1)[number] if number < 2 else chance.randrange(size)))
    for _ in range(FLIPS):
        file = chance.choice(files)
        found.append(flip(file, chance.randrange((image / file).stat().st_size), chance.randrange(8)))
    file = chance.choice(files)
    if not str(file).startswith(REMADE):
        found.append((file, "made a folder", lambda path: path.unlink() or path.mkdir()))
        file = chance.choice(files)
        found.append((file, "made a link to itself", lambda path: path.unlink() or path.symlink_to(path.name)))
    return chance.sample(found, len(found))


def _copied(folder: Path, image: Path, file: Path, harm: Harm) -> Path:
    place = folder / "trial"
    shutil.rmtree(place, ignore_errors=True)

    def copied(source: str, target: str) -> None:
        # Machine code is replaced, never written into, and there are hundreds of files of it.
        one = Path(source).relative_to(image)
        (os.link if one.parts[0] == ".compiled" and one != file else shutil.copy2)(source, target)

    shutil.copytree(image, place, copy_function=copied)
    harm(place / file)
    return place


def _trial(
    report: Report, folder: Path, image: Path, file: Path, what: str, harm: Harm, expected: dict[str, Any]
) -> None:
    place, where = _copied(folder, image, file, harm), f"{file} {what}"
    also = "restored" if file.parts[0] == ".snapshots" else "applied" if "imports" in file.parts else ""
    scrubbed = in_child(lambda: _scrubbed(place))
    ended = in_child(lambda: answers(place, also=also))
    for child in (scrubbed, ended):
        if not child.well:
            died = f"killed by signal {child.signal}" if child.signal else "hung" if child.hung else "raised"
            report.fail(f"{where}: {died}: {child.errors[-1_500:]}")
            return
    findings = json.loads(scrubbed.output)
    hurt = _hurt(file)
    refused = False
    told = [json.loads(line) for line in ended.output.splitlines()]
    if gone := {what for what in expected if also != "applied" and what.startswith(also or "-")} - {t[0] for t in told}:
        report.fail(f"{where}: nothing is said of {gone}")
    for subject, held, error in told:
        if held is not None:
            if held != expected[subject]:
                wrong = [key for key in held if held[key] != expected[subject].get(key)]
                report.fail(f"{where}: another answer of {subject}: {wrong}")
            continue
        refused = True
        if subject != hurt:
            report.fail(f"{where}: {subject} was refused too: {error}")
        if subject == "models":
            continue
        if not _names(error, file):
            report.fail(f"{where}: the file is not named: {error}")
        if not re.search("rebuild|backup|send the import again|[Rr]emove it|[Dd]elete it", error):
            report.fail(f"{where}: no way out is named: {error}")
        if not findings and file.name not in WITHOUT_CONTENT:
            report.fail(f"{where}: refused, but scrub found nothing: {error}")
    if refused:
        report.counts["made anew" if hurt == "models" else "refused"] += 1
        return
    report.counts["found by scrub alone" if findings else "without effect"] += 1
    if findings and not all(str(file).startswith(finding[0].partition("/")[0]) for finding in findings):
        report.fail(f"{where}: scrub blames others: {findings}")
    checked = (".npy", ".npz", ".index", ".safetensors", ".tar", ".ndjson")
    if not findings and file.suffix in checked and file.name not in WITHOUT_CONTENT:
        report.fail(f"{where}: neither refused nor found by scrub")


def _hurt(file: Path) -> str:
    """The name of the part that may be refused when the file is harmed."""
    match file.parts:
        case (".aliases.json",):
            return "aliases"
        case (".models", *_):
            return "models"
        case (".snapshots", name, *_):
            return f"restored {name}"
        case (_, "imports", *_):
            return "applied"
    return file.parts[0]


def _names(error: str, file: Path) -> bool:
    known = file.name.removesuffix("-wal").removesuffix("-shm")
    # A manifest's error may be told of its segment, an archive's of the snapshot.
    return known in error or file.name == "manifest.json" or (file.parts[0] == ".snapshots" and file.stem in error)


def _scrubbed(place: Path) -> None:
    found = [one for name in NAMES for one in scrub(place, name)]
    say(*([one.file, one.block, one.what, one.remedy] for one in (*found, *scrub_aliases(place))))


def _machine_code(
    report: Report, folder: Path, image: Path, file: Path, what: str, harm: Harm, *, run_it: bool
) -> None:
    """It is not loaded; and a process that meets it compiles the loop anew, with the same answers."""
    place, where = _copied(folder, image, file, harm), f"{file} {what}"
    try:
        native._read(str(place / file))
    except OSError:
        report.counts["made anew"] += 1
    else:
        report.fail(f"{where}: taken for what was written")
    if run_it:
        whole = folder / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(image, whole)
        told = [_in_a_process(one) for one in (whole, place)]
        if told[0] != told[1]:
            report.fail(f"{where}: another answer")
        report.counts["machine code run"] += 1


def _in_a_process(place: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    code = "import sys, pathlib; from damage_image import answers; answers(pathlib.Path(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, place],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def _rebuilt(report: Report, folder: Path, image: Path, file: Path, expected: dict[str, Any]) -> None:
    """Files that scrub says can be made anew are made anew, to the same answers."""
    content = (image / file).read_bytes()
    harmed = content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1])
    place = _copied(folder, image, file, lambda path: path.write_bytes(harmed))
    name = file.parts[0]
    found = in_child(lambda: say(*([f.file, f.remedy] for f in scrub(place, name))))
    if not found.well or [str(file), REBUILD] not in json.loads(found.output):
        report.counts["irreplaceable"] += 1
        return
    report.trials += 1

    def rebuild() -> None:
        with opened(place, tasks=True) as catalogue:
            catalogue.serve("http://here")
            identifier = catalogue.begin_rebuild(name).id
            deadline = time.monotonic() + 60
            while any(task.state not in ENDED for task in catalogue.tasks(name).all()):
                assert time.monotonic() < deadline, catalogue.tasks(name).all()
                time.sleep(0.005)
            assert catalogue.task(identifier).state == "succeeded", catalogue.task(identifier)
            assert catalogue.quarantined() == {}
            say(contents(catalogue.get(name)))

    ended = in_child(rebuild)
    if not ended.well:
        report.fail(f"{file}: not rebuilt: {ended.errors[-1_500:]}")
        return
    held = json.loads(ended.output)[0]
    # The accepted import runs as well. A learned first stage is learned again, from other vectors than it was.
    wanted = expected["applied" if name == "words" else name]
    for key in ("listing", "by id", "exact=True k=5", "count", *(() if name == "learned" else ("exact=False k=5",))):
        if held[key] != wanted[key]:
            report.fail(f"{file}: rebuilt, but another answer to {key}")
    report.counts["rebuilt"] += 1
