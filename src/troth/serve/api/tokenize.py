"""POST /tokenize and /detokenize, and what there is to know of the tokenizer, in the shapes of vLLM."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from troth.serve.api.body import Body
from troth.serve.api.errors import ApiError
from troth.serve.api.served import Served, encoded


class TokenizeRequest(Body):
    """A text as it is (`prompt`), or a conversation as the chat template writes it (`messages`) for an answer, which
    goes on from the last message with `continue_final_message`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] = Field(default={})
    continue_final_message: bool = False
    add_special_tokens: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("either prompt or messages is needed, and not both")
        return self


class TokenizeAnswer(BaseModel):
    """Token ids and how many they are; `max_model_len` is prompt and answer together, in tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int]


class DetokenizeAnswer(BaseModel):
    """Their text."""

    prompt: str


def tokenize_router(served: Served) -> APIRouter:
    """The routes over one model, a prompt as completions read it. With `add_special_tokens` it stands behind the token
    that its tokenizer sets before one, if it does."""
    router = APIRouter()

    @router.post("/tokenize", response_model_exclude_none=True)
    async def tokenize(body: TokenizeRequest) -> TokenizeAnswer:
        served.check_model(body.model)
        words = served.tokenizer
        encode = words.encode_raw if body.add_special_tokens else words.encode_special
        text = body.prompt
        characters = len(str(body.messages) if text is None else text)
        tokens = await encoded(characters, lambda: _conversation(served, body) if text is None else encode(text))
        texts = [served.token_texts.text(token) for token in tokens] if body.return_token_strs else None
        return TokenizeAnswer(count=len(tokens), max_model_len=served.context, tokens=tokens, token_strs=texts)

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> DetokenizeAnswer:
        served.check_model(body.model)
        size = served.tokenizer.vocab_size
        if unknown := [token for token in body.tokens if not 0 <= token < size]:
            raise ApiError(400, f"tokens: {unknown[0]} is unknown: ids go from 0 to {size - 1}", "tokens")
        return DetokenizeAnswer(prompt=served.tokenizer.decode(body.tokens))

    @router.get("/tokenizer_info")
    async def info() -> dict[str, Any]:
        settings = {key: _spelling(value) for key, value in served.tokenizer.settings.items()}
        return settings | ({} if served.template is None else {"chat_template": served.template.source})

    return router


def _spelling(setting: Any) -> Any:
    """A setting of tokenizer_config.json, of a special token its text."""
    return setting["content"] if isinstance(setting, dict) and "content" in setting else setting


def _conversation(served: Served, body: TokenizeRequest) -> list[int]:
    if served.template is None:
        raise ApiError(400, f"{served.model_id} has no chat template; send a prompt", "messages", "invalid_value")
    try:
        more = body.chat_template_kwargs
        return served.template.encode(body.messages or [], body.tools, body.continue_final_message, **more)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(400, f"messages: {error}", "messages", "invalid_value") from error
