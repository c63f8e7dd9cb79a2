"""A folder's chat template, rendered so that nothing a user writes can become a special token.

What is rendered for serving is rendered for training too: there each answer stands behind the very prompt that it would
have been asked by.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from troth.model.earlier_calls import EarlierCalls, tried_out
from troth.model.jinja_template import BREAK, JinjaTemplate
from troth.model.library_encoding import Behind
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer, read_chat_template

_WORD = re.compile(r"[\w.-]*")
_NOT_PROSE = ("role", "name", "tool_call_id")


def conversation_template() -> str:
    """The template of models that Troth tunes on conversations: turns between special tokens, tools and their calls as
    JSON in XML tags (as Hermes and Qwen write them), reasoning in <think> tags behind the last question only."""
    return Path(__file__).with_name("conversation.jinja").read_text(encoding="utf-8").rstrip("\n")


@dataclass(frozen=True)
class Example:
    """Token ids to learn from; `answer` is true at those that the assistant has to produce."""

    ids: list[int]
    answer: list[bool]


class ChatTemplate:
    """Conversations to token ids.

    Contents are rendered with every spelling of a special token broken by a character that is no text; after
    rendering, what still spells a special token comes from the template itself and becomes one, and all between
    is encoded as plain text without that character.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, variables: dict[str, Any] | None = None):
        """`variables` are what the template calls by name, such as `bos_token`; where not given, as the tokenizer's
        own files name them. Raises ValueError where `source` is not a Jinja template."""
        self._template = JinjaTemplate(source)
        self.source = source
        self.tokenizer = tokenizer
        self._variables = _named_tokens(tokenizer.settings) if variables is None else variables
        spellings = sorted((text for text in tokenizer.special if len(text) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, spellings)) or "(?!)")

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> "ChatTemplate | None":
        """The template in chat_template.jinja or tokenizer_config.json; None where a folder has none.

        Raises ValueError naming the file that is not what it should be.
        """
        source, settings = read_chat_template(folder)
        return None if source is None else cls._of(folder, source, tokenizer, settings)

    @classmethod
    def for_tuning(cls, folder: Path, tokenizer: Tokenizer) -> "ChatTemplate":
        """The template that a model of this folder is tuned with: its own, or `conversation_template` where it knows
        documents only. Raises ValueError naming the folder where that does not suit its tokenizer."""
        source, settings = read_chat_template(folder)
        if source in (None, CHAT_TEMPLATE):
            source = conversation_template()
            if lost := [text for text in re.findall(r"<\|\w+\|>", source) if text not in tokenizer.special]:
                raise ValueError(
                    f"{folder}: has no chat template, and its tokenizer lacks {lost[0]} for Troth's own; "
                    "put a chat_template.jinja into the folder"
                )
        return cls._of(folder, source, tokenizer, settings)

    @classmethod
    def _of(cls, folder: Path, source: str, tokenizer: Tokenizer, settings: dict[str, Any]) -> "ChatTemplate":
        try:
            return cls(source, tokenizer, _named_tokens(settings))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error

    def encode(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, goes_on: bool = False,
        **variables: Any,
    ) -> list[int]:  # fmt: skip
        """Token ids of messages and the beginning of the answer; where that `goes_on`, of the messages to the end of
        the last one's content, as if it were still being written.

        Messages have `role`, `content` and what else the template reads, such as `reasoning_content` and `tool_calls`;
        `tools` are functions as JSON schemas. Raises ValueError where the template refuses them, or does not write the
        content to go on from as it is.
        """
        safe, given = self._safe(messages), self._guard({"tools": tools or None} | variables)
        text = self._render(safe, not goes_on, given)
        return self._ids(_to_the_end_of(safe[-1]["content"], text) if goes_on else text)

    def examples(
        self, messages: list[dict[str, Any]], answers: Collection[int], tools: list[dict[str, Any]] | None = None,
        **variables: Any,
    ) -> list[Example]:  # fmt: skip
        """What the assistant's messages at the places `answers` teach.

        Each stands behind exactly the tokens that `encode` gives for the messages before it, and ends with the token
        that ends its turn. Answers share an example for as long as each prompt goes on from the answer before; where a
        template writes past turns in another way than they were answered, such as without their reasoning, another
        example begins. Raises ValueError where the template refuses the messages, does not begin a written answer as it
        begins one that is asked for, or leaves out calls or reasoning of an answer.
        """
        safe, given = self._safe(messages), self._guard({"tools": tools or None} | variables)
        found: list[list[tuple[str, bool]]] = []
        told = ""
        for place in sorted(answers):
            prompt = self._render(safe[:place], True, given)
            whole = self._render(safe[: place + 1], False, given)
            answer = self._until_its_end(self._answer(safe, place, prompt, whole, given))
            if not answer.strip():
                raise ValueError(f"the chat template writes nothing of message {place + 1}")
            for lost in _lost(safe[place], answer.replace(BREAK, "")):
                raise ValueError(
                    f"the chat template does not write the {lost} of message {place + 1}; leave that out, or put a "
                    "chat_template.jinja that does into the model's folder"
                )
            if not found or not prompt.startswith(told):
                found.append([])
                told = ""
            found[-1] += [(prompt[len(told) :], False), (answer, True)]
            told = prompt + answer
        return [self._example(parts) for parts in found]

    @property
    def end_of_turn(self) -> int | None:
        """The special token that ends what the assistant says; None where there is none or no answers are written."""
        try:
            (example,) = self.examples([{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}], [1])
        except ValueError:
            return None
        return example.ids[-1] if example.ids[-1] in self.tokenizer.special.values() else None

    def _example(self, parts: list[tuple[str, bool]]) -> Example:
        ids: list[int] = []
        answers: list[bool] = []
        for text, answer in parts:
            ids += self._ids(text, ids[-1:])
            answers += [answer] * (len(ids) - len(answers))
        return Example(ids, answers)

    def _answer(
        self, safe: list[dict[str, Any]], place: int, prompt: str, whole: str, given: dict[str, Any]
    ) -> str:  # fmt: skip
        """What `whole` has of the message at a place behind what it is asked by. Of the messages before, some templates
        leave out what they had where it was asked, as gpt-oss's does with thoughts before a call once it is answered:
        the message is then what would be another if it said something else."""
        if whole.startswith(prompt):
            return whole[len(prompt) :]
        asked = prompt.removeprefix(self._render(safe[:place], False, given))
        other = self._render([*safe[:place], {"role": "assistant", "content": "-"}], False, given)
        before, found, _ = whole[: _alike(whole, other)].rpartition(asked)
        if asked != prompt and found:
            return whole[len(before) + len(asked) :]
        same = _alike(prompt, whole)
        raise ValueError(
            f"the chat template asks for message {place + 1} by {_shown(prompt[same:])}, but writes it as "
            f"{_shown(whole[same:])}; give what is missing (reasoning_content, chat_template_kwargs), or use a "
            "template that begins answers as it asks for them"
        )

    def _until_its_end(self, answer: str) -> str:
        """An answer without the white space behind its last special token, which nobody asks the model for."""
        ends = [match.end() for match in self._special.finditer(answer)]
        return answer[: ends[-1]] if ends and not answer[ends[-1] :].strip() else answer

    def _render(self, safe: list[dict[str, Any]], asks: bool, given: dict[str, Any]) -> str:
        asked = {"messages": safe, "add_generation_prompt": asks}
        return self._template.render({"documents": None} | self._variables | given | asked)

    @cached_property
    def _calls(self) -> EarlierCalls:
        return tried_out(self.source, lambda messages: self._render(messages, True, {"tools": None}))

    def _safe(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        safe = [
            {
                key: self._break(value) if isinstance(value, str) and key not in _NOT_PROSE else self._guard(value)
                for key, value in message.items()
            }
            for message in self._calls.fit(messages)
        ]
        for message in safe:
            if "reasoning_content" in message:
                message.setdefault("thinking", message["reasoning_content"])  # gpt-oss's name for it
        return safe

    def _ids(self, text: str, before: Sequence[int] = ()) -> list[int]:
        """Token ids of rendered text; `before` is the token that it stands behind."""
        ids: list[int] = []
        end = 0
        behind: Behind = "nothing"
        if before:
            behind = "token" if before[-1] in self.tokenizer.special.values() else "text"
        for match in self._special.finditer(text):
            ids += self._plain(text[end : match.start()], behind)
            ids.append(self.tokenizer.special[match[0]])
            end, behind = match.end(), "token"
        return ids + self._plain(text[end:], behind)

    def _plain(self, text: str, behind: Behind) -> list[int]:
        return self.tokenizer.encode(text.replace(BREAK, ""), behind)

    def _guard(self, value: Any) -> Any:
        """`_break` of all strings in lists and objects but plain words, which templates compare with words of theirs:
        types of a schema, names, roles."""
        if isinstance(value, dict):
            return {self._guard(key): self._guard(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._guard(part) for part in value]
        if isinstance(value, str) and not (_WORD.fullmatch(value) and not self._special.search(value)):
            return self._break(value)
        return value

    def _break(self, content: str) -> str:
        content = content.replace(BREAK, "\ufffd")
        while self._special.search(content):
            content = self._special.sub(lambda match: match[0][0] + BREAK + match[0][1:], content)
        # Breaks at both ends, inside white space that a template may trim, keep it from completing a spelling.
        return re.sub(r"\S(?:.*\S)?", lambda match: BREAK + match[0] + BREAK, content, count=1, flags=re.DOTALL)


def _to_the_end_of(content: str, rendered: str) -> str:
    """What is rendered up to the end of `content`, white space at its end included, which templates may trim."""
    body = content.strip()
    before, found, _ = rendered.rpartition(body)
    if not body or not found:
        raise ValueError("the chat template does not write the last message as it is: no answer can go on from it")
    return before + content.lstrip()


def _alike(one: str, other: str) -> int:
    """How long the common beginning is."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _lost(message: dict[str, Any], answer: str) -> Iterator[str]:
    """What of a message beside its content, of which there may be none, is not in the answer as it is written."""
    reasoning = (message.get("reasoning_content") or "").replace(BREAK, "").strip()
    if reasoning.partition("\n")[0] not in answer:
        yield "reasoning"
    for call in message.get("tool_calls") or []:
        if (name := call["function"]["name"].replace(BREAK, "")) not in answer:
            yield f"call of {name}"


def _named_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """The tokens that templates call by name."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: _spelling(settings[name]) for name in names if settings.get(name)}


def _spelling(token: str | dict[str, Any]) -> str:
    """Special tokens are written as text or as an object with `content`."""
    return token if isinstance(token, str) else token["content"]


def _shown(text: str) -> str:
    text = text.replace(BREAK, "")
    return repr(text if len(text) <= 40 else text[:40] + "…")
