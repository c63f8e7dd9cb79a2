"""Licences by their words: what an SPDX line says, or which well-known text a LICENSE or COPYING file holds."""

import re
from pathlib import PurePosixPath

_SPDX = re.compile(r"SPDX-License-Identifier:\s*([\w.+() -]+?)\s*(?:\*/|-->|#|$)", re.MULTILINE)
_WORDINGS = [
    ("CC0-1.0", r"CC0 1\.0|Creative Commons Zero"),
    ("CC-BY-NC-ND-{v}", r"Attribution-NonCommercial-NoDerivat\w+ (?P<v>\d\.\d)|CC[ -]BY[ -]NC[ -]ND[ -](?P<w>\d\.\d)"),
    ("CC-BY-NC-SA-{v}", r"Attribution-NonCommercial-ShareAlike (?P<v>\d\.\d)|CC[ -]BY[ -]NC[ -]SA[ -](?P<w>\d\.\d)"),
    ("CC-BY-NC-{v}", r"Attribution-NonCommercial (?P<v>\d\.\d)|CC[ -]BY[ -]NC[ -](?P<w>\d\.\d)"),
    ("CC-BY-ND-{v}", r"Attribution-NoDerivat\w+ (?P<v>\d\.\d)|CC[ -]BY[ -]ND[ -](?P<w>\d\.\d)"),
    ("CC-BY-SA-{v}", r"Attribution-ShareAlike (?P<v>\d\.\d)|CC[ -]BY[ -]SA[ -](?P<w>\d\.\d)"),
    ("CC-BY-{v}", r"Attribution(?: License)?,? (?:version )?v?(?P<v>\d\.\d)|CC[ -]BY[ -](?P<w>\d\.\d)"),
    ("AGPL-{v}.0", r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version (?P<v>\d)"),
    ("LGPL-{v}", r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version (?P<v>\d(?:\.\d)?)"),
    ("GPL-{v}.0", r"GNU GENERAL PUBLIC LICENSE\s+Version (?P<v>\d)"),
    ("Apache-2.0", r"Apache License,?\s+Version 2\.0"),
    ("MPL-2.0", r"Mozilla Public License,?\s+(?:Version|v\.)\s*2\.0"),
    ("EPL-2.0", r"Eclipse Public License\s*-\s*v\s*2\.0"),
    ("BSL-1.0", r"Boost Software License\s*-\s*Version 1\.0"),
    ("PSF-2.0", r"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
    ("BSD-3-Clause", r"Redistribution and use in source and binary forms[\s\S]*(?:Neither the name|may not be used)"),
    ("BSD-2-Clause", r"Redistribution and use in source and binary forms"),
    ("ISC", r"Permission to use, copy, modify, and(?:/or)? distribute this software for any\s+purpose"),
    ("MIT", r"Permission is hereby granted, free of charge|\bMIT License\b"),
]  # fmt: skip
_KNOWN = [(name, re.compile(wording, re.IGNORECASE)) for name, wording in _WORDINGS]
_COMMENT = re.compile(r"\A\s*(?:/\*.*?\*/\s*|(?:#|//|--|;|%|!)[^\n]*(?:\n\s*|\Z))*", re.DOTALL)
_MARKS = re.compile(r"(?:^|(?<=\s))[#/*;%!-]+(?=\s|$)")
_GNU = re.compile(
    r"GNU (?P<kind>Affero |Lesser |Library )?General Public License\b.{0,120}?\bversion (?P<v>\d(?:\.\d)?)"
    r"(?P<later>.{0,60}?\bany later\b)?",
    re.IGNORECASE,
)
_GNU_NAMES = {"": "GPL", "affero": "AGPL", "lesser": "LGPL", "library": "LGPL"}
_CREATIVE_COMMONS = re.compile(
    r"//creativecommons\.org/(?:licenses/(?P<kind>[a-z]+(?:-[a-z]+)*)|publicdomain/(?P<zero>zero))/(?P<v>\d\.\d)",
    re.IGNORECASE,
)
_LICENCE_FILE = re.compile(r"(?:un)?licen[cs]e|copying", re.IGNORECASE)


def spdx(text: str) -> str:
    """What the first `SPDX-License-Identifier:` line says, or empty."""
    found = _SPDX.search(text)
    return found[1] if found else ""


def notice(head: str) -> str:
    """The SPDX identifier of the licence that the comment at the head of a program names, or empty."""
    if named := spdx(head):
        return named
    comment = _COMMENT.match(head)
    told = " ".join(_MARKS.sub(" ", comment[0] if comment else "").split())
    if found := _GNU.search(told):
        name = _GNU_NAMES[(found["kind"] or "").strip().lower()]
        version = found["v"] if "." in found["v"] else f"{found['v']}.0"
        return f"{name}-{version}-{'or-later' if found['later'] else 'only'}"
    return licence_of(told)


def linked(address: str) -> str:
    """The SPDX identifier of the Creative Commons licence that an address leads to; any other address as it is."""
    found = _CREATIVE_COMMONS.search(address)
    if not found:
        return address
    return f"CC0-{found['v']}" if found["zero"] else f"CC-{found['kind'].upper()}-{found['v']}"


def is_licence_file(name: str) -> bool:
    """Whether a file of this name holds the licence of what stands beside and below it."""
    path = PurePosixPath(name)
    return bool(_LICENCE_FILE.fullmatch(path.stem)) and path.suffix.lower() in ("", ".txt", ".md", ".rst")


def licence_of(text: str) -> str:
    """The SPDX identifier of the licence whose words come first in a file, or empty. A GPL or LGPL counts as its bare
    version, since only the programs themselves say whether later ones may be chosen."""
    if named := spdx(text):
        return named
    found = [(match, name) for name, form in _KNOWN if (match := form.search(text))]
    if not found:
        return ""
    match, name = min(found, key=lambda pair: pair[0].start())
    version = next((value for value in match.groupdict().values() if value), "")
    known = name.replace("{v}", version)
    return f"{known}.0" if re.fullmatch(r"LGPL-\d", known) else known
