"""Lines that belong to a web site rather than to what its page says, after C4's line rules (section 2.2)."""

import re

MAX_WORDS = 40
"""A longer line has something else to say too; ours."""

_RULES = {
    "cookie_notice": re.compile(
        r"\b(?:we|this (?:web ?)?site|our (?:web ?)?site|our partners)\b[^.]{0,60}\buses? (?:[\w-]+ ){0,3}cookies\b"
        r"|\baccept (?:all )?(?:our )?cookies\b|\b(?:cookie|privacy) (?:settings|preferences)\b"
        r"|\bby (?:continuing|using|browsing)\b.{0,80}\byou (?:agree|accept|consent)\b",
        re.IGNORECASE,
    ),
    "enable_javascript": re.compile(
        r"\b(?:enable|turn on|requires?) javascript\b|\bjavascript (?:is|must be)\b", re.IGNORECASE
    ),
    "copyright_notice": re.compile(
        r"\ball rights reserved\b|^(?:copyright\s+)?(?:©|\(c\))\s*(?:copyright\s+)?\d{4}", re.IGNORECASE
    ),
    "subscribe": re.compile(
        r"\b(?:subscribe|sign up) (?:to|for) (?:our|the|my|a)(?: \w+){0,3} "
        r"(?:newsletter|mailing list|updates?|alerts?)\b"
        r"|\bfollow us on\b|\bshare (?:this|on) (?:\w+ )?(?:on |via )?(?:facebook|twitter|x|linkedin|whatsapp|email)\b"
        r"|^share this (?:page|article|post|story)\b",
        re.IGNORECASE,
    ),
    "navigation": re.compile(
        r"^(?:skip to (?:the )?(?:main )?(?:content|navigation)|(?:back|return|go) to (?:the )?(?:top|home ?page)"
        r"|(?:previous|next|older|newer) (?:page|post|article|chapter)s?|(?:click here|read more|learn more|see also:?)"
        r"|you are here:?.*|(?:sign|log) ?(?:in|out|up)|table of contents|print this page|advertisement|menu|search)"
        r"[\s.…»›→>!]*$",
        re.IGNORECASE,
    ),
    "page_number": re.compile(r"^(?:page\s+\d+(?:\s+of\s+\d+)?|\d+\s+of\s+\d+)$", re.IGNORECASE),
}
_SEPARATOR = re.compile(r"\s*[|»›>•·/→]\s*|\s{3,}")
_MENU = frozenset({
    "about", "about us", "archive", "archives", "blog", "careers", "contact", "contact us", "cookie policy", "cookies",
    "faq", "help", "home", "imprint", "legal", "legal notice", "log in", "login", "menu", "news", "press", "privacy",
    "privacy policy", "products", "register", "search", "services", "shop", "sign in", "sign up", "site map",
    "sitemap", "support", "terms", "terms and conditions", "terms of service", "terms of use",
})  # fmt: skip


_CUES = {
    "cookie_notice": ("cookie", "privacy", "you agree", "you accept", "you consent"),
    "enable_javascript": ("javascript",),
    "copyright_notice": ("rights reserved", "©", "(c)"),
    "subscribe": ("subscribe", "sign up", "follow us", "share "),
    "page_number": ("page", " of "),
}
"""A text in which none of these stands cannot break the rule."""
_LONGEST = {"navigation": 200, "page_number": 40}
"""Characters of a line that a rule looks at; of others, what MAX_WORDS words have at most, nearly always."""
_LONG = 600
_MARKS = "|»›>•·/→"


def boilerplate_lines(text: str) -> dict[int, str]:
    """Numbers of the lines of a text that are boilerplate, with the rule that each breaks."""
    lowered = text.lower()
    live = [rule for rule in _RULES if rule not in _CUES or any(cue in lowered for cue in _CUES[rule])]
    patterns = [(rule, _LONGEST.get(rule, _LONG), _RULES[rule]) for rule in live]
    marks = [mark for mark in (*_MARKS, "   ") if mark in text]
    found: dict[int, str] = {}
    for number, line in enumerate(text.split("\n")):
        if not line or len(line) > _LONG:
            continue
        line = line.strip()
        size = len(line)
        rule = next((name for name, longest, pattern in patterns if size <= longest and pattern.search(line)), "")
        if not rule and any(line.count(mark) > 1 for mark in marks) and _is_menu(line):
            rule = "navigation"
        if rule and len(line.split()) <= MAX_WORDS:
            found[number] = rule
    return found


def _is_menu(line: str) -> bool:
    entries = [entry.lower() for entry in _SEPARATOR.split(line) if entry]
    return len(entries) >= 3 and sum(entry in _MENU for entry in entries) >= 2
