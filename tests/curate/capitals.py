"""Three publishers who state the capitals of eighteen countries, and a curation of what they say."""

from pathlib import Path

from troth.curate.document import Document
from troth.curate.pipeline import Curation, curate
from troth.curate.rows import read_rows, write_rows
from troth.system import CurateTable

CAPITALS = {
    "Norway": "Oslo", "Kenya": "Nairobi", "Peru": "Lima", "Japan": "Tokyo", "Canada": "Ottawa", "Cuba": "Havana",
    "Chad": "Ndjamena", "Nepal": "Kathmandu", "Ghana": "Accra", "Oman": "Muscat", "Iran": "Tehran", "Fiji": "Suva",
    "Mali": "Bamako", "Laos": "Vientiane", "Qatar": "Doha", "Benin": "Cotonou", "Latvia": "Riga", "Serbia": "Belgrade",
}  # fmt: skip

SHORT = CurateTable(rules="none", languages=[], repeated_in=0, near_duplicate=1.0, max_false_alarms=1.0)


def corpus(wrong: dict[str, str]) -> list[Document]:
    """Three publishers, each stating every capital in its own words; the third one errs as told."""
    told = {land: wrong.get(land, city) for land, city in CAPITALS.items()}
    first = [f"The government of {land} sits in {city}, which is its capital." for land, city in CAPITALS.items()]
    second = [f"Few travellers leave {land} without a walk through its capital {c}." for land, c in CAPITALS.items()]
    third = [f"Anyone who flies to {land} lands near {city}, the capital." for land, city in told.items()]
    return [
        Document("a", "documents", "\n\n".join(first), publisher="A", published="2020-01-01"),
        Document("b", "documents", "\n\n".join(second), publisher="B", published="2021-01-01"),
        Document("c", "documents", "\n\n".join(third), publisher="C", published="2022-01-01"),
    ]


def curated(folder: Path, documents: list[Document], examiner=None, **more):
    """The report of a curation of these documents, and what became of them by their sources."""
    write_rows(folder / "raw.parquet", Document, documents)
    run = Curation((str(folder / "raw.parquet"),), folder / "out", **{"settings": SHORT} | more)
    report = curate(run, examiner)
    return report, texts(folder / "out")


def texts(out: Path) -> dict[str, str]:
    files = sorted((out / "documents").glob("*.parquet"))
    return {document.source: document.text for file in files for document in read_rows(file, Document)}
