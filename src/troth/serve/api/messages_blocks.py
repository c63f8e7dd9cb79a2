"""Blocks of content in POST /v1/messages, and what the model reads of them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from troth.serve.api.body import Body


class Block(Body):
    """What blocks of content share. All prompts are cached where they can be, so `cache_control` changes nothing."""

    cache_control: dict[str, Any] | None = None


class TextBlock(Block):
    """Text."""

    type: Literal["text"]
    text: str
    citations: list[Any] | None = None


class ThinkingBlock(Block):
    """Reasoning of an earlier answer."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class HiddenThinkingBlock(Block):
    """Reasoning of another model's answer, which only its makers can read."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Block):
    """A call in an earlier answer."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None


class Citations(Body):
    """Whether the answer has to point at what it quotes, which no model here has learned."""

    enabled: Literal[False] = False


class PlainText(Body):
    """A document as it is."""

    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class TextContent(Body):
    """A document in pieces."""

    type: Literal["content"]
    content: str | list[TextBlock]


class DocumentBlock(Block):
    """A document of text, which the model reads between tags."""

    type: Literal["document"]
    source: Annotated[PlainText | TextContent, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None

    @property
    def text(self) -> str:
        whole = self.source.data if isinstance(self.source, PlainText) else joined(self.source.content)
        return _tagged("document", {"title": self.title, "context": self.context}, whole)


class SearchResultBlock(Block):
    """What a search found, which the model reads between tags."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]
    citations: Citations | None = None

    @property
    def text(self) -> str:
        return _tagged("search_result", {"source": self.source, "title": self.title}, joined(self.content))


ReadBlock = TextBlock | DocumentBlock | SearchResultBlock


class ToolResultBlock(Block):
    """What a call gave."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[ReadBlock, Field(discriminator="type")]] = ""
    is_error: bool = False


ContentBlock = Annotated[
    ReadBlock | ThinkingBlock | HiddenThinkingBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")
]


def joined(content: str | Sequence[ReadBlock]) -> str:
    """The text that the model reads of a content."""
    return content if isinstance(content, str) else "".join(block.text for block in content)


def _tagged(name: str, told: dict[str, str | None], text: str) -> str:
    """A text with what is told of it, in the tags that models of this dialect know."""
    lines = [f"<{key}>{value}</{key}>" for key, value in told.items() if value]
    return "\n".join([f"<{name}>", *lines, text, f"</{name}>", ""])
