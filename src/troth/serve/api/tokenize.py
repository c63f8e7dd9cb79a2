"""POST /tokenize and /detokenize, and what there is to know of the tokenizer, in the shapes of vLLM."""

from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, model_validator

from troth.serve.api.body import Body
from troth.serve.api.chat_schema import ChatRequest
from troth.serve.api.question import prompt
from troth.serve.api.served import Served, encoded


class TokenizeRequest(Body):
    """A text as it is (`prompt`), or `messages` and what goes with them as in POST /v1/chat/completions."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
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
        words, text = served.tokenizer, body.prompt
        encode = words.encode_raw if body.add_special_tokens else words.encode_special
        if text is None:
            tokens = list((await prompt(served, _chat(body).question(), None)).ids)
        else:
            tokens = await encoded(len(text), lambda: encode(text))
        texts = [served.token_texts.text(token) for token in tokens] if body.return_token_strs else None
        return TokenizeAnswer(count=len(tokens), max_model_len=served.context, tokens=tokens, token_strs=texts)

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> DetokenizeAnswer:
        served.check_model(body.model)
        served.check_tokens(body.tokens, "tokens")
        return DetokenizeAnswer(prompt=served.tokenizer.decode(body.tokens))

    @router.get("/tokenizer_info")
    async def info() -> dict[str, Any]:
        settings = {key: _spelling(value) for key, value in served.tokenizer.settings.items()}
        return settings | ({} if served.template is None else {"chat_template": served.template.source})

    return router


def _spelling(setting: Any) -> Any:
    """A setting of tokenizer_config.json, of a special token its text."""
    return setting["content"] if isinstance(setting, dict) and "content" in setting else setting


def _chat(body: TokenizeRequest) -> ChatRequest:
    """The chat that is meant. Raises RequestValidationError as that route does."""
    given = body.model_dump(exclude={"model", "prompt", "add_special_tokens", "return_token_strs"}, exclude_unset=True)
    try:
        return ChatRequest(model="", **given)
    except ValidationError as error:
        problems = [problem | {"loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems, body=given) from error
