"""Prose from Python sources: the docstrings of a module, its classes and functions, as paragraphs of sentences."""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

_ROLE = re.compile(r":[a-z:]+:`[~!]?([^`<]+?)(?:\s*<[^>]*>)?`")
_QUOTED = re.compile(r"`{1,2}([^`\n]+)`{1,2}")
_STARRED = re.compile(r"(?<![\w*])\*{1,2}([^\s*][^*\n]*?)\*{1,2}(?![\w*])")
_RULE = re.compile(r"[=\-~^*+#_|. ]{3,}")
_COLUMNS = re.compile(r"\S {3,}\S|\S\t+\S|\s\|\s")
_LIST = re.compile(r"\s*(?:[-*+•]|\(?\w{1,2}[.)]|\[\d+\])\s")
_CODE = re.compile(r"[=<>{}\[\]\\|@#$%^~]|\w\(|\(\)|\w_\w|__|::")


def docstring_prose(source: str) -> str:
    """Paragraphs in the order of the source, each once. Empty where the source does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    return "\n\n".join(dict.fromkeys(words for text in _docstrings(tree) for words in sentences(text)))


def sentences(text: str) -> Iterator[str]:
    """Paragraphs of reStructuredText or plain text that read as sentences: no doctests, tables, headings, lists or
    code."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.split("\n")
        indents = {len(line) - len(line.lstrip()) for line in lines}
        if len(indents) > 1 or ">>>" in block or any(_RULE.fullmatch(line) for line in lines):
            continue
        if _LIST.match(block) or any(_COLUMNS.search(line) for line in lines):
            continue
        words = unmarked(" ".join(block.split()))
        if _reads(words):
            yield words


def _docstrings(tree: ast.Module) -> Iterator[str]:
    waiting: list[ast.stmt | ast.Module] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node, clean=False)
        if text:
            yield text
        waiting += reversed(node.body)


def unmarked(text: str) -> str:
    """Words without the marks of roles, code and emphasis, and without the colons before a literal block."""
    return _STARRED.sub(r"\1", _QUOTED.sub(r"\1", _ROLE.sub(r"\1", text))).removesuffix("::").rstrip()


def _reads(text: str) -> bool:
    """A capital letter first, a full stop at the end, six words or more, and little that looks like code."""
    words = text.split()
    if len(words) < 6 or not text[0].isupper() or not re.search(r"[.!?][\"')]*$", text):
        return False
    lower = sum(word.strip(".,;:()'\"").isalpha() and word[-1:] != "(" for word in words)
    return lower >= 0.75 * len(words) and len(_CODE.findall(text)) <= 0.1 * len(words)
