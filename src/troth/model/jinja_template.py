"""Hugging Face's chat templates as Jinja programs. They come with the weights, so they run in a sandbox."""

import json
import re
from datetime import datetime
from typing import Any, NoReturn

BREAK = "\ufdd0"
"""A code point that Unicode reserves for a program's own use and forbids in text."""
# A block that marks what an assistant says, for other tools; here it only prints what is in it.
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


class JinjaTemplate:
    """A program from a template's `source`, with what transformers lets templates call. Raises ValueError where it is
    none."""

    def __init__(self, source: str):
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(_GENERATION.sub(_printed, source))
        except TemplateError as error:
            raise ValueError(f"the chat template is not valid: {error}") from error

    def render(self, variables: dict[str, Any]) -> str:
        """The text for these variables. Raises ValueError where the template refuses them."""
        from jinja2 import TemplateError

        try:
            return self._template.render(variables)
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the chat template refuses the messages: {error}") from error


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    """JSON as transformers has templates write it: not fit for HTML, as Jinja's own filter would make it."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return text
    return re.sub(rf"[^\x00-\x7f{BREAK}]", lambda match: json.dumps(match[0])[1:-1], text)


def _printed(match: re.Match[str]) -> str:
    """A filter that changes nothing, in place of a block that Jinja does not know."""
    return f"{{%{match[1]} {'endfilter' if match[2] else 'filter string'} {match[3]}%}}"
