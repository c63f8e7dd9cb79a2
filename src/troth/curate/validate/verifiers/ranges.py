"""Values outside what is possible: shares above all, latitudes past a pole, temperatures below absolute zero, a maximum
below its minimum."""

import re
from collections.abc import Iterator
from fractions import Fraction

from troth.curate.validate.verifiers.exact import Checked, agree, differ, hedged
from troth.curate.validate.verifiers.numbers import PATTERN, parse

_WHOLES = (
    "population|people|inhabitants|residents|citizens|students|pupils|adults|children|households|families|voters|"
    "electorate|respondents|participants|patients|members|workers|employees|women|men|countries|cases|Americans"
)
_SHARE = re.compile(
    rf"(?<![\w.,+–-])(?P<n>{PATTERN})(?:%| per ?cent) of (?:all |the |its |their |our )*(?:\w+ )?(?P<of>{_WHOLES})\b"
    r"(?! (?:of|in|before|from) (?:the )?[12]\d{3})"
)
_GROWTH = re.compile(
    r"\b(?:increase|increas|grew|grow|rise|rose|rising|compared|relative|equivalent|than|as (?:many|much)|capacity|"
    r"normal|average)"
)
_MINUTES = r"(?: ?\d+[′'](?: ?\d+[″\"])?)? ?"
_ANY = Fraction(10**12)
_LIMITS = tuple(
    (re.compile(pattern), Fraction(low), Fraction(high), why)
    for pattern, low, high, why in (
        (rf"(?<![\w.,])(?P<n>{PATTERN}) ?°{_MINUTES}(?:N|S|[Nn]orth|[Ss]outh)(?:\b| latitude)(?! ?°)", 0, 90,
         "latitudes end at 90°"),
        (rf"\blatitude (?:of |is )?(?P<n>{PATTERN}) ?(?:°|degrees)", 0, 90, "latitudes end at 90°"),
        (rf"(?<![\w.,])(?P<n>{PATTERN}) ?°{_MINUTES}(?:E|W|[Ee]ast|[Ww]est)(?:\b| longitude)", 0, 180,
         "longitudes end at 180°"),
        (rf"\b(?:has|have|had|with|at) a pH (?:value )?(?:of |is )(?:about )?(?P<n>[-−]?{PATTERN})(?![\w%])", -5, 16,
         "no solution has such a pH"),
        (rf"(?<![\w.,–/-])(?P<n>[-−]{PATTERN}) ?(?:°C\b|degrees Celsius)", "-273.15", 0, "absolute zero is -273.15 °C"),
        (rf"(?<![\w.,–/-])(?P<n>[-−]{PATTERN}) ?(?:°F\b|degrees Fahrenheit)", "-459.67", 0,
         "absolute zero is -459.67 °F"),
        (rf"\btemperatures? of (?P<n>[-−]{PATTERN}) ?(?:K\b|kelvins?\b)", 0, _ANY, "absolute zero is 0 K"),
        (r"(?<![\w.,–/)%-])(?P<n>[-−]\d[\d,]*)(?= (?:people|inhabitants|children|students|votes|seats)\b)", 0, _ANY,
         "a count is not negative"),
        (rf"\bprobability of (?:about )?(?P<n>{PATTERN})(?![\w%,]|\.\d| ?(?:%|per|in\b|to\b|percent))", 0, 1,
         "no probability exceeds 1"),
    )
)  # fmt: skip


def _bound(name: str, unit: int) -> str:
    return rf"(?P<{name}>[-−]?{PATTERN})(?P<u{unit}> ?[\w°%/]+)"


_AND, _IS = r"(?:,? and| and|,) (?:its |the |a )?", r"(?:\w+ )?(?:of|is) "
_BOUNDS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\bminimum {_IS}{_bound('low', 1)}{_AND}maximum {_IS}{_bound('high', 2)}",
        rf"\bmaximum {_IS}{_bound('high', 1)}{_AND}minimum {_IS}{_bound('low', 2)}",
        rf"\ba low of {_bound('low', 1)}[^.;]{{0,30}}? (?:to|and) a high of {_bound('high', 2)}",
        rf"\ba high of {_bound('high', 1)}[^.;]{{0,30}}? (?:to|and) a low of {_bound('low', 2)}",
    )
)
_PART = re.compile(r"(?<![\d.])(?P<n>\d{1,3}(?:\.\d+)?|\.\d+)(?:%| per ?cent\b)")
_ONE_EACH = re.compile(r"\b(?:votes?|ethnic|composition|composed|by mass|by weight|by volume|made up|breakdown)\b")
_LIST = re.compile(r"[^%;:.]*?\d(?:\.\d+)?%(?: \([^)]*\))?(?:, [^%;:]*?\d(?:\.\d+)?%(?: \([^)]*\))?){2,}")
_REST = re.compile(r"\b(?:others?|the rest|remaind(?:er|ing)|remaining|unspecified)\b", re.IGNORECASE)
_MOST = 108


_WORTH_READING = re.compile(r"[°%]|[-−]\d|\bpH\b|per ?cent|latitude|minimum|a low of|a high of|probability|degrees")


def ranges(text: str) -> Iterator[Checked]:
    """Values of a sentence that cannot be."""
    if not _WORTH_READING.search(text) or hedged(text):
        return
    for match in _SHARE.finditer(text):
        number = parse(match["n"])
        if number and number.value > 100 and not _GROWTH.search(text):
            yield differ(*match.span("n"), "", f"no more than 100% of the {match['of']} can be meant")
    for pattern, low, high, why in _LIMITS:
        for match in pattern.finditer(text):
            value = _signed(match["n"])
            if value is not None and not low <= value <= high:
                yield differ(*match.span("n"), "", why)
    yield from _bounds(text)
    yield from _shares(text)


def _bounds(text: str) -> Iterator[Checked]:
    for pattern in _BOUNDS:
        for match in pattern.finditer(text):
            low, high = _signed(match["low"]), _signed(match["high"])
            if low is None or high is None or match["u1"].strip() != match["u2"].strip():
                continue
            if high < low:
                note = f"the maximum {match['high']} is below the minimum {match['low']}"
                yield differ(*match.span("high"), "", note, 0.6)


def _shares(text: str) -> Iterator[Checked]:
    """Shares of one whole, which a list gives to the last ("others"): they sum to about 100. More is wrong only where
    nobody can be counted twice, as speakers of two languages are."""
    if text.count("%") < 3:
        return
    for match in _LIST.finditer(text):
        if not _REST.search(match.group()):
            continue
        parts = [Fraction(part["n"]) for part in _PART.finditer(match.group())]
        total = sum(parts, Fraction(0))
        note = f"the shares sum to {float(total):g}%"
        if 98 <= total <= 102:
            yield agree(*match.span(), note)
        elif total > _MOST and _ONE_EACH.search(text) and not re.search(r"\b(?:multiple|more than)\b", text):
            yield differ(*match.span(), "", note, 0.5)


def _signed(text: str) -> Fraction | None:
    number = parse(text.lstrip("-−"))
    return None if number is None else -number.value if text[0] in "-−" else number.value
