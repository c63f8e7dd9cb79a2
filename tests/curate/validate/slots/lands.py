"""Made-up lands whose facts change over the years, and what verdicts say of a statement."""

LANDS = (
    "Arvenia", "Boscora", "Celdane", "Dorvik", "Estmark and the Isles", "Fallonia", "Gressa", "Hallund", "Ibrenia",
    "Jorvala",
)  # fmt: skip
RULERS = ("Anna Holm", "Bela Korda", "Carlo Venti", "Dora Lindqvist", "Emil Sand")
YEARS = (2015, 2016, 2018, 2020, 2022)


def people(land: int, year: int) -> int:
    """Grows from edition to edition, as populations do."""
    return 1_203_417 + 871_733 * land + 31_337 * (land + 2) * (year - 2015)


def ruler(land: int, year: int) -> str:
    """Changes once, in a year that differs from land to land."""
    return RULERS[(land + (year >= 2016 + land % 4 * 2)) % len(RULERS)]


def rule(land: int) -> str:
    """Stays, and is written in small letters."""
    return ("a republic", "an absolute monarchy", "a federation of free towns", "a duchy")[land % 4]


def sea(land: int) -> str:
    """Stays, and is a name."""
    return ("Brine Sea", "Long Sound", "Gulf of Mira")[land % 3]


def said(verdicts, source, *texts):
    found = [v for v in verdicts if v.statement.source == source and v.statement.text in texts]
    assert found, f"{source} states none of {texts}"
    return found
