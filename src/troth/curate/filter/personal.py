"""Personal data: e-mail and IP addresses, telephone, payment card, bank account and US social security numbers.

What has a checksum is checked (Luhn, ISO 7064 for IBAN); what has none must be written as such numbers are. E-mail and
public IP addresses are also what FineWeb replaces (Penedo et al. 2024, section 3.7).
"""

import ipaddress
import re
from collections.abc import Iterator

import numpy as np

from troth.curate.filter.edits import Edit, masked
from troth.curate.filter.words import Words, runs_of

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b"
)
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)")
_CARD = re.compile(r"(?<![\d-])[2-6]\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{1,7}|([ -]?)\d{6}\2\d{5})(?![\d-])")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\w+.,-])(?:"
    r"\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d([.-]))[2-9]\d\d(?(1)\1|-)\d{4}"
    r")(?![\w-]|[.,]\d)"
)
_CUED = re.compile(
    r"\b(?:tel(?:ephone|efon)?|phone|fax|mobile|cell|call(?: us)?(?: on| at)?|hotline|téléphone|teléfono)\b[.:]?\s*"
    r"(?:number|no\.?|nr\.?)?[.: ]*(?P<number>\+?\(?\d(?:[ ()./-]{0,2}\d){6,14})(?!\d)",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_BETWEEN = np.isin(np.arange(129), [ord(char) for char in "0123456789 +-.()/"])
_DIGITS = 7
"""Fewer in a row, with nothing but the marks of such numbers between them, are none of these."""


def personal_data(words: Words) -> Iterator[Edit]:
    """Edits that put a placeholder such as `<EMAIL>` for each piece found; they may overlap."""
    text = words.text
    if "@" in text:
        yield from (_edit(found, "email") for found in _EMAIL.finditer(text))
    for start, end in _numbers(words):
        piece = text[max(0, start - 40) : end + 40]
        shift = max(0, start - 40)
        for pattern, rule in ((_IP, "ip_address"), (_CARD, "card_number"), (_SSN, "social_security_number")):
            yield from (_edit(found, rule, shift) for found in pattern.finditer(piece) if _holds(rule, found[0]))
        yield from (_edit(found, "phone", shift) for found in _PHONE.finditer(piece))
        yield from (_edit(found, "phone", shift, "number") for found in _CUED.finditer(piece))
        yield from (_edit(found, "iban", shift) for found in _IBAN.finditer(piece) if is_iban(found[0]))


def _edit(found: re.Match[str], rule: str, shift: int = 0, group: str | int = 0) -> Edit:
    start, end = found.span(group)
    return Edit(shift + start, shift + end, f"<{rule.upper()}>", rule, masked(found[group]))


def _numbers(words: Words) -> list[tuple[int, int]]:
    """Places of runs of digits and the marks between them; runs that are close count as one."""
    points = words.points
    digit = (points >= 0x30) & (points <= 0x39)
    if int(digit.sum()) < 4:
        return []
    allowed = _BETWEEN.take(points, mode="clip")
    starts, ends = runs_of(allowed)
    seen = np.concatenate(([0], np.cumsum(digit)))
    dots = np.concatenate(([0], np.cumsum(points == 0x2E)))
    counts = seen[ends] - seen[starts]
    many = (counts >= _DIGITS) | ((dots[ends] - dots[starts] >= 3) & (counts >= 4))
    return list(zip(starts[many].tolist(), ends[many].tolist(), strict=True))


def _holds(rule: str, found: str) -> bool:
    if rule == "card_number":
        return is_luhn(found)
    if rule == "ip_address":
        return is_public_address(found)
    return True


def is_luhn(number: str) -> bool:
    """Whether 13 to 19 digits, blanks and hyphens aside, end in the check digit of ISO/IEC 7812."""
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 3:
        return False
    doubled = sum(divmod(2 * digit, 10)[0] + divmod(2 * digit, 10)[1] for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


def is_iban(number: str) -> bool:
    """Whether an international bank account number has the right checksum (ISO 13616)."""
    letters = number.replace(" ", "")
    if not 15 <= len(letters) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in letters[4:] + letters[:4])) % 97 == 1


def is_public_address(number: str) -> bool:
    """Whether it is an IPv4 address of the public internet; numbers of sections and versions have small parts."""
    try:
        address = ipaddress.IPv4Address(number)
    except ValueError:
        return False
    return address.is_global and sum(int(part) > 31 for part in number.split(".")) >= 2
