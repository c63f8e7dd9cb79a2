"""A folder's chat template, rendered so that nothing a user writes can become a special token.

Hugging Face templates are Jinja programs that come with the weights, so they run in a sandbox.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from troth.model.tokenizer import Tokenizer, read_chat_template

# A code point that Unicode reserves for a program's own use and forbids in text.
_BREAK = "\ufdd0"


class ChatTemplate:
    """Conversations to token ids.

    Contents are rendered with every spelling of a special token broken by a character that is no text; after
    rendering, what still spells a special token comes from the template itself and becomes one, and all between
    is encoded as plain text without that character.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, variables: dict[str, Any] | None = None):
        """Raises ValueError where `source` is not a Jinja template."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template is not valid: {error}") from error
        self._tokenizer = tokenizer
        self._variables = variables or {}
        spellings = sorted((text for text in tokenizer.special if len(text) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, spellings)) or "(?!)")

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> "ChatTemplate | None":
        """The template in chat_template.jinja or tokenizer_config.json; None where a folder has none.

        Raises ValueError naming the file that is not what it should be.
        """
        source, settings = read_chat_template(folder)
        if source is None:
            return None
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        return cls(source, tokenizer, {name: _spelling(settings[name]) for name in names if settings.get(name)})

    def encode(self, messages: list[dict[str, str]], **variables: Any) -> list[int]:
        """Token ids of messages (each with `role` and `content`) and the beginning of the answer.

        Raises ValueError where the template refuses them.
        """
        safe = [message | {"content": self._break(message["content"])} for message in messages]
        try:
            text = self._template.render(messages=safe, add_generation_prompt=True, **(self._variables | variables))
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(f"the chat template refuses the messages: {error}") from error
        ids: list[int] = []
        end = 0
        for match in self._special.finditer(text):
            ids += self._plain(text[end : match.start()])
            ids.append(self._tokenizer.special[match[0]])
            end = match.end()
        return ids + self._plain(text[end:])

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text.replace(_BREAK, ""))

    def _break(self, content: str) -> str:
        content = content.replace(_BREAK, "\ufffd")
        while self._special.search(content):
            content = self._special.sub(lambda match: match[0][0] + _BREAK + match[0][1:], content)
        # Breaks at both ends, inside white space that a template may trim, keep it from completing a spelling.
        return re.sub(r"\S(?:.*\S)?", lambda match: _BREAK + match[0] + _BREAK, content, count=1, flags=re.DOTALL)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _spelling(token: str | dict[str, Any]) -> str:
    """Special tokens are written as text or as an object with `content`."""
    return token if isinstance(token, str) else token["content"]
