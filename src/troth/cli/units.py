"""Numbers with units, as people write them on a command line."""

import re

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "": 1.0}


def seconds_from(option: str, text: str) -> float:
    """Seconds of "50ms", "1.5s" or a bare number of seconds. Raises ValueError naming the option otherwise."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", text)
    if not found or found[2] not in _SECONDS:
        raise ValueError(f"{option} {text}: expected a time such as 50ms or 1.5s")
    return float(found[1]) * _SECONDS[found[2]]


_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def number_from(option: str, text: str) -> float:
    """The number of "3e13", "64M" or "30T". Raises ValueError naming the option where it is none above 0."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([kmbgt]?)\s*", text.lower())
    number = float(found[1]) * _SCALES[found[2]] if found else 0.0
    if not 0 < number < 1e30:
        raise ValueError(f"{option} {text}: expected a number above 0 such as 3e13, 64M or 30T")
    return number
