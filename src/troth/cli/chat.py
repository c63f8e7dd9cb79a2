"""`troth chat`: talk to a checkpoint in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from troth.cli.options import AsJson, Changes, SystemName, read_system
from troth.cli.output import harmless

if TYPE_CHECKING:
    from rich.console import Console

    from troth.model.chat_template import ChatTemplate
    from troth.serve.api.reading import Part, Reading
    from troth.serve.engine.engine import Engine
    from troth.serve.engine.sampling_params import SamplingParams


def command(
    folder: Annotated[Path, typer.Argument(help="A model folder: config.json, model.safetensors, tokenizer.json.")],
    system: SystemName = "nano",
    changes: Changes = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    seed: Annotated[int | None, typer.Option(help="The same seed and words give the same answers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a model; /exit or Ctrl-D ends. Lines may also be piped in, one a turn.

    With --json each answer is one line: role, content, finish_reason, prompt_tokens, completion_tokens, and
    reasoning_content of models that reason; that is not told them again.
    """
    table = read_system(system, changes).serve
    from rich.console import Console

    from troth.model.chat_template import ChatTemplate
    from troth.serve.api import trained_format as form
    from troth.serve.api.reading import Reading
    from troth.serve.engine.engine import Engine
    from troth.serve.engine.sampling_params import SamplingParams

    engine = Engine.from_folder(folder, table)
    template = ChatTemplate.from_folder(folder, engine.tokenizer)
    if template is None:
        raise ValueError(f"{folder}: no chat template in tokenizer_config.json")
    told = form.told("channels", calls=False) if form.on_channels(template) else None
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed, told=told)
    reasons = form.knows_reasoning(template)
    console = Console(highlight=False, markup=False)
    messages: list[dict[str, str]] = []
    while (line := _read(console)) is not None:
        if line:
            messages.append({"role": "user", "content": line})
            prompt = _fit(engine, template, messages, max_tokens)
            inside = told is not None or engine.tokenizer.decode(prompt[-8:]).rstrip().endswith(form.THINK)
            reading = Reading(reasons=reasons, inside=inside)
            answer = _answer(engine, prompt, params, reading, None if as_json else console)
            if as_json:
                print(json.dumps(answer, ensure_ascii=False), flush=True)
            messages.append({"role": "assistant", "content": answer["content"]})


def _read(console: Console) -> str | None:
    """The next line; None at the end of input or /exit."""
    if sys.stdin.isatty():
        try:
            line = console.input("> ")
        except EOFError:
            console.print()
            return None
    else:
        line = sys.stdin.readline()
        if not line:
            return None
    line = line.strip()
    return None if line == "/exit" else line


def _fit(engine: Engine, template: ChatTemplate, messages: list[dict[str, str]], max_tokens: int) -> tuple[int, ...]:
    """The prompt, less the oldest turns, so that the answer has room: what it asks for, at most half the context."""
    most = engine.context - min(max_tokens, engine.context // 2)
    prompt = template.encode(messages)
    while len(prompt) > most and len(messages) > 1:
        del messages[:2]
        prompt = template.encode(messages)
    return tuple(prompt)


def _answer(
    engine: Engine, prompt: tuple[int, ...], params: SamplingParams, reading: Reading, console: Console | None
) -> dict[str, Any]:
    """One answer, streamed to the console where there is one; Ctrl-C ends the answer, not the conversation."""
    from troth.serve.engine.request import Request

    answer: dict[str, Any] = {
        "role": "assistant", "content": "", "finish_reason": "error", "prompt_tokens": len(prompt),
        "completion_tokens": 0,
    }  # fmt: skip
    try:
        request_id = engine.add(Request(prompt, params))
    except ValueError as error:
        return _failed(answer, str(error), console)
    try:
        while engine.has_work:
            for output in engine.step():
                if output.failure is not None:
                    return _failed(answer, output.failure, console)
                for part in reading.take(output):
                    if console is not None:
                        _show(console, part)
                answer |= {"finish_reason": output.finish_reason, "completion_tokens": output.output_tokens}
    except KeyboardInterrupt:
        engine.cancel(request_id)
        answer["finish_reason"] = "cancelled"
    if console is not None:
        console.print()
    answer["content"] = reading.text("content")
    return answer | ({"reasoning_content": thought} if (thought := reading.text("reasoning")) else {})


def _failed(answer: dict[str, Any], says: str, console: Console | None) -> dict[str, Any]:
    if console is None:
        return answer | {"finish_reason": "error", "error": says}
    console.print(f"({says})", markup=False)
    return answer


def _show(console: Console, part: Part) -> None:
    """Reasoning is dim, and has a line between it and the answer."""
    if part.begins and part.block.index:
        console.print("\n")
    console.print(harmless(part.text), end="", soft_wrap=True, style="dim" if part.block.kind == "reasoning" else None)
