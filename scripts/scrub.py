"""Read everything that collections have on disk, and say what is damaged and what to do.

    python scripts/scrub.py papers
    python scripts/scrub.py --all --json

With --all the aliases too.

Changes nothing, takes no lock, and may run beside a server. Exit status: 0 all is as it was written, 1 there is damage,
2 it could not look (no such collection).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from app.catalogue.scrub import Finding, Scrubbed, scrub, scrub_aliases
from app.settings import Settings
from app.store import folders
from app.store.local_directory import LocalDirectory


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("name", nargs="*", help="collections, in the folder that SHEAF_INDEXES names")
    made.add_argument("--all", action="store_true", help="every collection, and the aliases")
    made.add_argument("--json", action="store_true", help="one JSON object a finding, instead of lines to read")
    return made


def tell(findings: Iterable[Finding], name: str, *, as_json: bool) -> int:
    """Prints them as they come. How many there were."""
    count = 0
    for finding in findings:
        count += 1
        remedy = finding.remedy.replace("{name}", name)
        if as_json:
            print(json.dumps({**asdict(finding), "remedy": remedy}))
            continue
        block = "" if finding.block is None else f", block {finding.block}"
        print(f"{finding.file}{block}: {finding.what}\n    what to do: {remedy}")
    return count


def main() -> int:
    args = parser().parse_args()
    root = Settings().indexes
    there = folders.names(LocalDirectory(root)) if root.is_dir() else []
    unknown = sorted(set(args.name) - set(there))
    if unknown or not (args.name or args.all):
        what = f"no collection {', '.join(unknown)} in {root}" if unknown else "name a collection, or --all"
        sys.stderr.write(f"{what}\n")
        return 2
    damaged = args.all and root.is_dir() and tell(scrub_aliases(root), "", as_json=args.json) > 0
    for name in there if args.all else args.name:
        read = Scrubbed()
        findings = tell(scrub(root, name, read), name, as_json=args.json)
        damaged = damaged or findings > 0
        if not args.json:
            told = f"{findings} damaged" if findings else "whole"
            print(f"{name}: {told} ({read.rows:,} rows and {read.bytes:,} bytes read)")
    return int(damaged)


if __name__ == "__main__":
    sys.exit(main())
