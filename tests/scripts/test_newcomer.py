"""A newcomer's folder of many forms and three languages: one command, and ten questions find their files."""

from __future__ import annotations

import json
import shutil
from itertools import cycle, product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from commands import Command, OpenCatalogue
from files_made import docx, paragraphs, pdf

from app.search import Query, search

TOWNS = ("Ashford", "Brixton", "Camden", "Dover", "Epsom", "Fulham", "Goole", "Hexham", "Ilford", "Jarrow")
THEMES = (
    ("tennis club", "The courts were resurfaced and the new season begins in spring."),
    ("bakery", "Rye loaves and plain rolls come out of the oven at six each morning."),
    ("bus timetable", "Line twelve leaves every twenty minutes from the market square."),
    ("choir", "Rehearsals are on Thursday evening, and basses are still sought."),
    ("swimming pool", "The outdoor basin opens in May and is heated by the sun."),
    ("parish newsletter", "The roof of the tower is being repaired by volunteers."),
    ("bicycle repair", "Chains, brakes and gears are adjusted while you wait."),
    ("allotments", "Water is turned off in winter, and sheds must be painted green."),
    ("chess evening", "Beginners are welcome, clocks and boards are provided."),
    ("dog school", "Puppies learn to walk on the lead and to come when called."),
    ("car park", "Permits for residents are renewed at the counter each January."),
    ("photography course", "Bring a camera whose exposure can be set by hand."),
    ("furniture store", "Oak tables and beech chairs are delivered within a fortnight."),
    ("marathon", "Runners start in three waves and are given water at each mile."),
    ("theatre", "The autumn play is a comedy in two acts with one interval."),
    ("cheese market", "Goat and sheep cheeses are sold by the wheel or by the slice."),
    ("language school", "Italian for beginners meets twice a week in the old library."),
    ("fire brigade", "Hydrants are tested and hoses dried on the tower in summer."),
    ("museum", "Roman coins and pottery are shown in the cellar rooms."),
)  # fmt: skip
QUESTIONS = {
    "how do I renew a lost passport": "office/passport.md",
    "what to do when the coffee machine leaks water": "kitchen/coffee.html",
    "penalty for paying an invoice late": "contracts/terms.pdf",
    "how many days of parental leave do fathers get": "office/leave.docx",
    "Wie entlüfte ich den Heizkörper?": "haus/heizung.txt",
    "Kündigungsfrist des Mietvertrags": "haus/miete.docx",
    "図書館の開館時間": "ja/library.md",
    "新幹線の切符の払い戻し": "ja/train.pdf",
    "stainless steel bolt for salt water": "shop/parts.csv#2",
    "antidote for a viper bite": "shop/cases.parquet#2",
}


def fill(root: Path) -> int:
    """The folder; how many files it has."""
    for name in {path.partition("#")[0].rpartition("/")[0] for path in QUESTIONS.values()} | {"town"}:
        (root / name).mkdir(parents=True)
    (root / "office/passport.md").write_text(
        "---\ntags: [travel, papers]\n---\n# Travel documents\n\nIf your passport was stolen or lost, report it to the "
        "police first, then apply for its renewal at the registry with two photographs."
    )
    (root / "kitchen/coffee.html").write_text(
        "<title>Espresso - Manuals</title><body><nav>Home Contact</nav><main><h1>Espresso maker</h1><p>Does it drip "
        "from below? A worn seal of the coffee machine lets water out: replace the ring.</main>"
    )
    (root / "contracts/terms.pdf").write_bytes(
        pdf(
            [
                ["General terms of delivery", "Goods are shipped from our warehouse within five days."],
                ["Payment", "An invoice that is paid later than thirty days bears", "an interest of nine per cent."],
                ["Warranty", "Defects are to be notified within two weeks."],
            ],
            "Terms",
        )
    )
    docx(
        root / "office/leave.docx",
        paragraphs("Fathers may take ten days of paid parental leave after a birth.", heading="Family"),
    )
    (root / "haus/heizung.txt").write_text(
        "Heizkörper entlüften: das Ventil am Heizkörper mit dem Vierkantschlüssel öffnen, bis Wasser kommt.",
        encoding="utf-16",
    )
    docx(
        root / "haus/miete.docx",
        paragraphs("Die Kündigungsfrist des Mietvertrags beträgt drei Monate.", heading="Miete"),
    )
    (root / "ja/library.md").write_text("# 図書館\n\n図書館の開館時間は午前九時から午後七時までです。")
    (root / "ja/train.pdf").write_bytes(pdf([["新幹線の切符の払い戻しは", "窓口で受け付けています。"]]))
    (root / "shop/parts.csv").write_text(
        "title;text\nBolt A4;Stainless steel bolt that stands salt water, for boats\nNail;Plain iron nail for wood\n"
    )
    cases = {
        "title": ["Dog bite", "Snake bite"],
        "text": ["Wash the wound.", "The viper's bite is treated with antidote."],
    }
    pq.write_table(pa.table(cases), root / "shop/cases.parquet")
    forms = cycle(("md", "txt", "html", "pdf", "docx", "json", "csv", "htm"))
    for (town, (theme, said)), form in zip(product(TOWNS, THEMES), forms, strict=False):
        path, title = root / "town" / f"{town.lower()} {theme}.{form}", f"{theme.capitalize()} of {town}"
        match form:
            case "pdf":
                path.write_bytes(pdf([[said]], title))
            case "docx":
                docx(path, paragraphs(said, heading=title))
            case "json":
                path.write_text(json.dumps([{"title": title, "text": said, "seats": 12}]))
            case "csv":
                path.write_text(f"title;text\n{title};{said}\n")
            case "md" | "txt":
                path.write_text(f"# {title}\n\n{said}\n")
            case _:
                path.write_text(f"<title>{title}</title><body><h1>{title}</h1><p>{said}")
    return sum(path.is_file() for path in root.rglob("*"))


def test_one_command_makes_a_folder_searchable(command: Command, tmp_path: Path, open_catalogue: OpenCatalogue) -> None:
    count = fill(tmp_path / "papers")
    assert count == 200
    done = command("build_index", "papers", "--collection", "papers", "--delimiter", ";")
    assert (done.returncode, done.stdout) == (
        0,
        # Two files have two rows each.
        f"collection papers: {count + 2} written, 0 unchanged, 0 faults, 0 without title and text\n",
    ), done.stderr
    with open_catalogue() as catalogue:
        collection = catalogue.get("papers")
        found = {
            question: search(collection, Query(text=question, mode="hybrid", k=3, passages=1)).hits
            for question in QUESTIONS
        }
    assert {question: hits[0].id for question, hits in found.items()} == QUESTIONS
    (terms, *_) = found["penalty for paying an invoice late"]
    assert terms.metadata["pages"] == 3
    assert terms.passages is not None
    assert terms.passages[0].pages == [1, 3], "one passage holds a short document"
    shutil.rmtree(tmp_path / "papers" / "town")
    again = command("build_index", "papers", "--collection", "papers", "--delimiter", ";")
    assert again.stdout.startswith("collection papers: 0 written, 12 unchanged")
