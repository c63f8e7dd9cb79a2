"""Secrets that let someone in: private keys and tokens by the forms that their issuers publish, and long random values
that are assigned to a name such as `api_key`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from troth.curate.filter.edits import Edit, masked
from troth.curate.filter.words import Words, runs_of

_FORMS = {
    "private_key": (
        "-----BEGIN",
        (
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[\s\S]{0,8000}?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----)?"
        ),
    ),
    "aws_key": ("AKIA ASIA", r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])"),
    "google_key": ("AIza", r"(?<![\w-])AIza[\w-]{35}(?![\w-])"),
    "google_token": ("ya29.", r"(?<![\w-])ya29\.[\w-]{20,}"),
    "github_token": (
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    ),
    "gitlab_token": ("glpat-", r"(?<!\w)glpat-[\w-]{20,}"),
    "slack_token": ("xox", r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "slack_webhook": ("hooks.slack.com", r"https://hooks\.slack\.com/services/T\w+/B\w+/\w{20,}"),
    "stripe_key": ("k_live_", r"(?<!\w)[rs]k_live_[A-Za-z0-9]{16,}"),
    "openai_key": ("sk-", r"(?<![\w-])sk-(?:proj-|ant-|svcacct-)?[\w-]{32,}"),
    "huggingface_token": ("hf_", r"(?<!\w)hf_[A-Za-z0-9]{30,}"),
    "npm_token": ("npm_", r"(?<!\w)npm_[A-Za-z0-9]{36}"),
    "pypi_token": ("pypi-", r"(?<!\w)pypi-AgE[\w-]{50,}"),
    "sendgrid_key": ("SG.", r"(?<!\w)SG\.[\w-]{16,}\.[\w-]{32,}"),
    "azure_key": ("AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    "json_web_token": ("eyJ", r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "url_password": ("://", r"(?<=://)[^\s:/@]{1,64}:[^\s:/@]{3,64}(?=@[\w.-]+)"),
}
_PATTERNS = {rule: (cues.split(), re.compile(pattern)) for rule, (cues, pattern) in _FORMS.items()}
"""Texts in which none of the cues stands are not searched."""
_ASSIGNED = re.compile(
    r"(?:api[_-]?key|access[_-]?key|auth[_-]?token|secret|token|passw(?:or)?d|private[_-]?key|credentials?)\w{0,20}"
    r"[\"']?\s{0,3}(?:=|:|=>|:=)\s{0,3}[\"']?(?P<value>[A-Za-z0-9+/_=.~-]{20,200})(?![A-Za-z0-9+/_=.~-])",
    re.IGNORECASE,
)
_SHORTEST = 11
"""Characters between blanks of the shortest secret that has a form: a password in a URL, with its name."""
_NAME = 60
"""Characters before a value in which its name stands."""
MIN_ENTROPY = 3.7
"""Bits a character, from which a value of twenty or more counts as random; words and names stay below."""
_EXAMPLE = re.compile(
    r"example|sample|dummy|placeholder|your|xxxx|1234567890|abcdef|change|redacted|passw|user:|pass$", re.IGNORECASE
)


def credentials(words: Words) -> Iterator[Edit]:
    """Edits that put `<SECRET>` for each secret found; they may overlap."""
    text = words.text
    chunks = _long_chunks(words)
    if not chunks and "-----BEGIN" not in text:
        return
    candidates = "\n".join(text[start:end] for start, end in chunks)
    for rule, (cues, pattern) in _PATTERNS.items():
        if any(cue in (text if rule == "private_key" else candidates) for cue in cues):
            yield from (
                Edit(*found.span(), "<SECRET>", rule, masked(found[0]))
                for found in pattern.finditer(text)
                if rule == "private_key" or not _EXAMPLE.search(found[0])
            )
    for start, end in chunks:
        first = max(0, start - _NAME)
        for found in _ASSIGNED.finditer(text, first, min(len(text), end + 1)):
            if is_random(found["value"]):
                yield Edit(*found.span("value"), "<SECRET>", "assigned_secret", masked(found["value"]))


def _long_chunks(words: Words) -> list[tuple[int, int]]:
    """Places of pieces between blanks that are long and have several digits, as all secrets have."""
    points = words.points
    seen = (points > 32) & (points != 0xA0)
    starts, ends = runs_of(seen)
    long = ends - starts >= _SHORTEST
    starts, ends = starts[long], ends[long]
    digits = np.concatenate(([0], np.cumsum((points >= 0x30) & (points <= 0x39))))
    many = (digits[ends] - digits[starts] >= 2) | (points[starts] == 0x2D)
    return list(zip(starts[many].tolist(), ends[many].tolist(), strict=True))


def is_random(value: str) -> bool:
    """Whether a value has letters and digits in no order that a name would have: high entropy, digits in several
    places, and no word such as `example` in it."""
    if _EXAMPLE.search(value) or not any(char.isalpha() for char in value):
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(value))
    return changes >= 4 and entropy(value) >= MIN_ENTROPY


def entropy(value: str) -> float:
    """Bits a character, by how often each occurs in the value."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
