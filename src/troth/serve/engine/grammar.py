"""Grammars compiled for one tokenizer, and matchers that say which token may come next (XGrammar, 2411.15100)."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.channels import MARKS, has_channels, messages
from troth.serve.engine.cpu.library import load
from troth.serve.engine.marked_calls import FORMS, calls, mark_tokens
from troth.serve.engine.sampling_params import Grammar, Json, Pattern, Tag
from troth.serve.engine.unenforced import unenforced
from troth.serve.engine.xml_calls import BEGIN, END

if TYPE_CHECKING:
    from xgrammar import CompiledGrammar, GrammarCompiler, GrammarMatcher

CACHE_BYTES = 64 * 2**20
# Compiling takes time that grows faster than the schema: seconds at these limits, minutes beyond.
MOST_CHARACTERS = 40_000
MOST_DEPTH = 64
# In strings of limited length XGrammar allows control characters, which JSON does not, and no escapes.
_LIMITED_CHARACTER = r"([^\"\\\r\n])"
_NO_TEXT = b"\xff"
_JSON_CHARACTER = r'([^\0-\x1f\"\\]) | ("\\" basic_escape)'


class Grammars:
    """Compiles grammars, from any thread; those used last stay compiled, as long as they fit into `cache_bytes`."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Iterable[int], cache_bytes: int = CACHE_BYTES):
        self._tokenizer = tokenizer
        self._end_tokens = sorted(end_tokens)
        self._cache_bytes = cache_bytes
        self._compiled: OrderedDict[Grammar, CompiledGrammar] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def cached_bytes(self) -> int:
        """Memory of what is compiled."""
        return sum(compiled.memory_size_bytes for compiled in self._compiled.values())

    @property
    def vocab_size(self) -> int:
        """Tokens that a grammar may let come next."""
        return self._tokenizer.vocab_size

    def knows(self, grammar: Grammar) -> bool:
        """Whether a grammar is compiled."""
        with self._lock:
            return grammar in self._compiled

    def warm(self) -> None:
        """Do what the first grammar would wait for."""
        assert self._compiler

    def compile(self, grammar: Grammar) -> "CompiledGrammar":
        """Raises ValueError naming the part that is no schema, or one that cannot be matched."""
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
                return self._compiled[grammar]
        own = grammar.form == "channels" or grammar.form in FORMS
        try:
            told = self._own_form(grammar) if own else _format(grammar)
            compiled = self._compiler.compile_structural_tag(json.dumps({"type": "structural_tag", "format": told}))
        except RuntimeError as error:
            raise ValueError(f"{name_of(grammar)}: {_reason(error)}") from error
        if self._matcher(compiled).stuck:
            raise ValueError(f"{name_of(grammar)}: no token of the model begins a text that matches it")
        with self._lock:
            self._compiled[grammar] = compiled
            while len(self._compiled) > 1 and self.cached_bytes > self._cache_bytes:
                self._compiled.popitem(last=False)
        return compiled

    def matcher(self, grammar: Grammar) -> "Matcher":
        """A matcher at the beginning of a text."""
        return self._matcher(self.compile(grammar))

    def _matcher(self, compiled: "CompiledGrammar") -> "Matcher":
        from xgrammar import GrammarMatcher

        return Matcher(GrammarMatcher(compiled), self._tokenizer.vocab_size)

    def _own_form(self, grammar: Grammar) -> dict[str, Any]:
        special = self._tokenizer.special
        value = None if grammar.value is None else _value(grammar.value)
        called = {tag.name: _json(tag.value) for tag in grammar.tags}
        silent = {i for i, text in enumerate(self._vocabulary) if text in (b"", _NO_TEXT)} | {*self._end_tokens}
        if grammar.form == "channels":
            return messages(special, silent, value, called, grammar.forced)
        return calls(grammar.form, special, silent, value, called, grammar.forced, grammar.several)

    @cached_property
    def _vocabulary(self) -> list[bytes]:
        """The text of each token. Those without any are never part of what a grammar matches; those between messages
        or around calls are, as such only: they have a byte that is no text."""
        tokenizer = self._tokenizer
        hidden = {tokenizer.special[text] for text in tokenizer.special.keys() - tokenizer.visible}
        marks = {*mark_tokens(tokenizer.special)}
        marks |= {tokenizer.special[mark] for mark in MARKS} if has_channels(tokenizer.special) else set()
        return [
            _NO_TEXT if i in marks else b"" if i in hidden else tokenizer.decode_bytes([i])
            for i in range(tokenizer.vocab_size)
        ]

    @cached_property
    def _compiler(self) -> "GrammarCompiler":
        from xgrammar import GrammarCompiler, TokenizerInfo, VocabType

        vocabulary = self._vocabulary
        info = TokenizerInfo(
            vocabulary, VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=self._end_tokens or None
        )
        return GrammarCompiler(info, max_threads=1, cache_enabled=False)


class Matcher:
    """How far a text has come in its grammar. `stuck` tells that nothing may follow though it has not ended."""

    def __init__(self, matcher: "GrammarMatcher", vocab_size: int):
        self._matcher = matcher
        self._bits = np.zeros((1, -(-vocab_size // 32)), dtype=np.int32)
        self._look_ahead()

    def mask(self, logits_V: torch.Tensor) -> None:
        """Make impossible, in place, what may not come next."""
        if not self._forbids:
            return
        library = load() if logits_V.device.type == "cpu" else None
        if library is not None:
            library.troth_mask(logits_V.data_ptr(), self._bits.ctypes.data, len(logits_V))
        else:
            allowed = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")[: len(logits_V)]
            logits_V.masked_fill_(torch.from_numpy(allowed == 0).to(logits_V.device), -torch.inf)

    def take(self, token: int) -> None:
        """Go on by a token. Raises ValueError for one that was not allowed, which is drawn where no allowed one has a
        score that is a number."""
        allowed = not self._forbids or int(self._bits[0, token // 32]) >> token % 32 & 1
        if not allowed or not self._matcher.accept_token(token):
            raise ValueError(f"token {token} was drawn against the grammar")
        if not self.complete:
            self._look_ahead()

    @property
    def complete(self) -> bool:
        """Whether the text has ended, by one of the end tokens."""
        return bool(self._matcher.is_terminated())

    def _look_ahead(self) -> None:
        self._forbids = bool(self._matcher.fill_next_token_bitmask(self._bits))
        self.stuck = self._forbids and not self._bits.any()


def name_of(grammar: Grammar) -> str:
    """What messages call it: the name of its value or of its first tag's."""
    return grammar.value.name if grammar.value else grammar.tags[0].value.name


def _format(grammar: Grammar) -> dict[str, Any]:
    """XGrammar's description of a grammar, as JSON."""
    value = None if grammar.value is None else _value(grammar.value)
    if not grammar.tags:
        assert value is not None, "a grammar of nothing"
        return value
    tags = [_xml(tag) if grammar.form == "xml" else _tag(tag) for tag in grammar.tags]
    if value is None and not grammar.forced:
        return {
            "type": "triggered_tags", "triggers": [BEGIN if grammar.form == "xml" else grammar.trigger], "tags": tags,
            "stop_after_first": not grammar.several,
        }  # fmt: skip
    calls = {
        "type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True,
        "stop_after_first": not grammar.several,
    }  # fmt: skip
    return calls if value is None else {"type": "or", "elements": [value, calls]}


def _tag(tag: Tag) -> dict[str, Any]:
    return {"type": "tag", "begin": tag.begin, "content": _json(tag.value), "end": tag.end}


def _xml(tag: Tag) -> dict[str, Any]:
    _check(tag.value)
    schema = json.loads(tag.value.schema_text)
    # More white space than models are trained to write would let a weak one write nothing else.
    content = {"type": "json_schema", "json_schema": schema, "style": "qwen_xml", "max_whitespace_cnt": 1}
    return {"type": "tag", "begin": f"{BEGIN}{tag.name}>\n", "content": content, "end": END}


def _value(value: Json | Pattern) -> dict[str, Any]:
    return _json(value) if isinstance(value, Json) else _pattern(value)


def _pattern(value: Pattern) -> dict[str, Any]:
    if (size := sum(map(len, (value.regex or "", value.grammar or "", *(value.choice or ()))))) > MOST_CHARACTERS:
        raise ValueError(f"{value.name}: has {size:,} characters; at most {MOST_CHARACTERS:,} are allowed")
    if value.choice is not None:
        return {"type": "or", "elements": [{"type": "const_string", "value": text} for text in value.choice]}
    if value.regex is not None:
        return {"type": "regex", "pattern": value.regex}
    return {"type": "grammar", "grammar": value.grammar}


def _json(value: Json) -> dict[str, Any]:
    from xgrammar import Grammar as Compiled

    _check(value)
    try:
        # Without free white space, because a weak model may otherwise write nothing else.
        found = Compiled.from_json_schema(value.schema_text, any_whitespace=False, strict_mode=value.strict)
    except RuntimeError as error:
        raise ValueError(f"{value.name}: {_reason(error)}") from error
    return {"type": "grammar", "grammar": str(found).replace(_LIMITED_CHARACTER, _JSON_CHARACTER)}


def _check(value: Json) -> None:
    size, depth = len(value.schema_text), _depth(value.schema_text)
    if size > MOST_CHARACTERS or depth > MOST_DEPTH:
        raise ValueError(
            f"{value.name}: the schema has {size:,} characters, {depth} levels deep; "
            f"at most {MOST_CHARACTERS:,} and {MOST_DEPTH} are allowed"
        )
    if value.strict and (lacking := unenforced(json.loads(value.schema_text))):
        raise ValueError(f"{value.name}: strict answers cannot be held to {lacking}; leave it or strict out")


def _depth(text: str) -> int:
    """How deep brackets of JSON text are nested."""
    brackets = re.sub(r'"(?:\\.|[^"\\])*"|[^\[\]{}"]', "", text)
    return max(accumulate((1 if bracket in "[{" else -1 for bracket in brackets), initial=0))


def _reason(error: RuntimeError) -> str:
    """What XGrammar says, without the place in its own source."""
    return re.sub(r"^\[[\d:]+\] \S+?:\d+: |Check failed: .*? is false: ", "", str(error)).strip()
