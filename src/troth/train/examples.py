"""Tokenised examples in a folder: each its token ids and which of them carry loss, memory-mapped.

The examples of preferences come in pairs, the chosen one first.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from troth.model.chat_template import ChatTemplate, Example
from troth.model.tokenizer import Tokenizer, tokenizer_json
from troth.train.messages import Chat, ChatPair, Completion, read_chats, read_preferences
from troth.train.sources import Wanted, every_row


def tokenise_chats(
    sources: Sequence[str], template: ChatTemplate, tokenizer: Tokenizer, folder: Path, last_only: bool = False,
    wanted: Wanted = every_row,
) -> dict[str, int]:  # fmt: skip
    """Tokenise the `wanted` chats of files, folders and URLs into `folder`; return the numbers of `chats`, of
    `examples` (more, where the template writes past turns anew), of their `tokens` and of the `answer_tokens` among
    these. Text begins as documents do and ends with the end-of-text token.

    Raises ValueError naming file and line or row where a chat is not in form or the template refuses it.
    """
    chats = 0

    def examples() -> Iterator[Example]:
        nonlocal chats
        for place, chat in read_chats(sources, last_only, wanted):
            chats += 1
            if isinstance(chat, Completion):
                yield _continued(chat.prompt, chat.text, tokenizer)
            else:
                yield from _rendered(place, chat, template)

    counts = _write(examples(), tokenizer, folder, sources, made_by("chat", template, tokenizer, last_only))
    return {"chats": chats} | counts


def tokenise_preferences(
    sources: Sequence[str], template: ChatTemplate, tokenizer: Tokenizer, folder: Path, wanted: Wanted = every_row
) -> dict[str, int]:
    """Tokenise the `wanted` preferences of files, folders and URLs into `folder`; return the numbers of `pairs`,
    `examples`, `tokens` and `answer_tokens`. Text begins as documents do and ends with the end-of-text token.

    Raises ValueError naming file and line or row where a preference is not in form or the template refuses it.
    """
    pairs = 0

    def examples() -> Iterator[Example]:
        nonlocal pairs
        for place, pair in read_preferences(sources, wanted):
            pairs += 1
            if isinstance(pair, ChatPair):
                for chat in (pair.chosen, pair.rejected):
                    found = _rendered(place, chat, template)
                    if len(found) > 1:
                        told = "the chat template writes past answers anew, so only one can be compared"
                        raise ValueError(f"{place}: {told}; leave one turn of the assistant behind the prompt")
                    yield found[0]
            else:
                for text in (pair.chosen, pair.rejected):
                    yield _continued(pair.prompt, text, tokenizer)

    counts = _write(examples(), tokenizer, folder, sources, made_by("preference", template, tokenizer))
    return {"pairs": pairs} | counts


def _continued(prompt: str, text: str, tokenizer: Tokenizer) -> Example:
    before = [tokenizer.begin_of_text, *tokenizer.encode(prompt, behind="token")]
    after = [*tokenizer.encode(text, behind="text"), tokenizer.end_of_text]
    return Example(before + after, [False] * len(before) + [True] * len(after))


def _rendered(place: str, chat: Chat, template: ChatTemplate) -> list[Example]:
    try:
        return template.examples(chat.messages, chat.answers, chat.tools, **chat.variables)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def made_by(
    objective: str, template: ChatTemplate, tokenizer: Tokenizer, last_only: bool = False
) -> dict[str, str]:  # fmt: skip
    """What decides the examples of files, for people or as a checksum."""
    return {
        "objective": objective,
        "answers": "last" if last_only else "all",
        "chat template": hashlib.sha256(template.source.encode()).hexdigest(),
        "tokenizer": hashlib.sha256(tokenizer_json(tokenizer).encode()).hexdigest(),
    }


def kept_examples(folder: Path, made: dict[str, str]) -> dict[str, int] | None:
    """The numbers of the examples that were written into `folder` before, as `tokenise_chats` gives them but for the
    first; None where there are none. Raises ValueError where they were made by something else (`made_by`)."""
    if not (folder / "examples.json").exists():
        return None
    known = _known(folder)
    for name, value in known.get("made_by", {}).items():
        if made.get(name) != value:
            raise ValueError(f"{folder}: was tokenised with another {name}; delete it, or name another --out")
    return {name: known[name] for name in ("examples", "tokens", "answer_tokens")}


def _write(
    examples: Iterable[Example], tokenizer: Tokenizer, folder: Path, sources: Sequence[str], made: dict[str, str]
) -> dict[str, int]:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "examples.json"
    index.unlink(missing_ok=True)
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    ends, firsts, total, answers = [], [], 0, 0
    with (folder / "tokens").open("wb") as tokens, (folder / "answers").open("wb") as mask:
        for example in examples:
            np.array(example.ids, dtype=dtype).tofile(tokens)
            np.array(example.answer, dtype=bool).tofile(mask)
            total, answers = total + len(example.ids), answers + sum(example.answer)
            ends.append(total)
            firsts.append(example.answer.index(True))
    if not ends:
        raise ValueError(f"{', '.join(sources)}: nothing to learn in it")
    np.array(ends, dtype=np.int64).tofile(folder / "ends")
    np.array(firsts, dtype=np.int64).tofile(folder / "firsts")
    counts = {"examples": len(ends), "tokens": total, "answer_tokens": answers}
    sha256 = fingerprint(folder / name for name in ("tokens", "answers", "ends"))
    known = {"dtype": np.dtype(dtype).name, "sha256": sha256, "made_by": made}
    partial = folder / "examples.json.partial"
    partial.write_text(json.dumps(known | counts))
    partial.replace(index)
    return counts


def _known(folder: Path) -> dict[str, Any]:
    """What was written about the examples in a folder. Raises ValueError where their files are not as it says."""
    try:
        known: dict[str, Any] = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        width = np.dtype(known["dtype"]).itemsize
        sizes = {"tokens": width * known["tokens"], "answers": known["tokens"]}
        sizes |= dict.fromkeys(("ends", "firsts"), 8 * known["examples"])
        for name, size in sizes.items():
            if (found := (folder / name).stat().st_size) != size:
                raise ValueError(f"{name} has {found:,} bytes, not {size:,}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: no tokenised examples ({error!r}); delete it to have them written anew") from error
    return known


class Examples:
    """The examples that were written into a folder: `tokens[starts[i]:ends[i]]`, of which the first `firsts[i]` come
    before all that carry loss; `sha256` is the fingerprint of them all. Tokens are not read before they are asked for.

    Raises ValueError where the writing did not finish there, or files are damaged.
    """

    def __init__(self, folder: Path):
        known = _known(folder)
        self.sha256 = known["sha256"]
        self.tokens = np.memmap(folder / "tokens", dtype=known["dtype"], mode="r")
        self.answers = np.memmap(folder / "answers", dtype=bool, mode="r")
        self.ends = np.fromfile(folder / "ends", dtype=np.int64)
        self.firsts = np.fromfile(folder / "firsts", dtype=np.int64)
        self.starts = np.concatenate(([0], self.ends[:-1]))

    def __len__(self) -> int:
        return len(self.ends)

    def lay(self, i: int, at: int, inputs_T: np.ndarray, targets_T: np.ndarray) -> None:
        """Write example `i`, cut at the end of the row, from place `at` on: its tokens, and behind each of them the
        next one where that carries loss."""
        end = min(self.ends[i], self.starts[i] + len(inputs_T) - at + 1)
        ids, answer = self.tokens[self.starts[i] : end], self.answers[self.starts[i] : end]
        inputs_T[at : at + len(ids) - 1] = ids[:-1]
        targets_T[at : at + len(ids) - 1] = np.where(answer[1:], ids[1:].astype(np.int64), -100)


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 of the contents of files, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
