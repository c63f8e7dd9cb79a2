"""Byte-level BPE: trained by rustbpe, run by tiktoken, shared as a Hugging Face tokenizer.json; and what else such a
file may describe, run by `library_encoding`.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from troth.model.byte_chars import byte_chars
from troth.model.library_encoding import Behind, LibraryEncoding, whole
from troth.model.tokenizer_json import PATTERN, template_begin, to_json

if TYPE_CHECKING:
    import tiktoken

END_OF_TEXT = "<|endoftext|>"
SPECIAL = (
    END_OF_TEXT, "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
)  # fmt: skip

BLANK_MARKS = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|end|>"
"""Before what precedes a blank, what follows it and what fills it, and behind that."""
CHAT_TEMPLATE = "<|endoftext|><|fim_prefix|> {{ messages[-1]['content'] }}<|fim_suffix|>.<|fim_middle|>"
"""How a model that was trained on documents alone is asked: the answer fills the blank behind the last message. Models
that are tuned on conversations bring a template of their own."""
_FILE, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_FILES = _FILE, _SETTINGS, "special_tokens_map.json", "added_tokens.json"
_PAD = "<|pad|>"
_ENDS = END_OF_TEXT, "<|end_of_text|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>"
"""Tokens behind which the families' tokenizers begin another document."""


class Tokenizer:
    """Text to token ids and back. `special` are the ids of special tokens by their spelling, of which those in
    `visible` are part of what a reader sees, such as <think>; `ranks` are those of all others by their bytes. `files`
    are those of the folder that it was read from, by name.

    Built from ranks, special tokens are numbered behind all others. With `nfc`, text is composed (Unicode's NFC) before
    it is split, as Qwen's is.
    """

    encoding: "tiktoken.Encoding | LibraryEncoding"

    def __init__(
        self, ranks: dict[bytes, int], special: Iterable[str] = SPECIAL, visible: Iterable[str] = (),
        files: Mapping[str, str] | None = None, nfc: bool = False,
    ):  # fmt: skip
        import tiktoken

        self.ranks = ranks
        self.special = {text: len(ranks) + i for i, text in enumerate(special)}
        self.visible = frozenset(visible)
        self.files, self.nfc = dict(files or {}), nfc
        self.encoding = tiktoken.Encoding("troth", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=self.special)
        self.end_of_text = self.special[END_OF_TEXT]

    @classmethod
    def of_library(cls, files: Mapping[str, str]) -> "Tokenizer":
        """Any tokenizer.json, with the folder's other files. Raises ValueError where it cannot be run, or has no token
        that ends a text."""
        self = cls.__new__(cls)
        self.encoding = encoding = LibraryEncoding(files[_FILE])
        self.ranks, self.special, self.visible = encoding.ranks, encoding.special, encoding.visible
        self.files, self.nfc = dict(files), False
        self.end_of_text = _end_of_text(encoding.special, json.loads(files.get(_SETTINGS, "{}")))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.encoding, LibraryEncoding):
            return Tokenizer.of_library, (self.files,)
        return Tokenizer, (self.ranks, list(self.special), self.visible, self.files, self.nfc)

    @cached_property
    def begin(self) -> int | None:
        """The token that is set before a text, where the tokenizer was published so that one is; else None.

        The template of tokenizer.json says so, or, without one, `add_bos_token`, which transformers heeded up to
        version 4 (DeepSeek-V3).
        """
        text = template_begin(json.loads(self.files.get(_FILE, "{}")))
        if text is None and self.settings.get("add_bos_token"):
            bos = self.settings.get("bos_token")
            text = bos.get("content") if isinstance(bos, dict) else bos
        return self.special.get(str(text))

    @property
    def begin_of_text(self) -> int:
        """What a document begins with: `begin`, or, as many tokenizers have none, the end of the text before."""
        return self.end_of_text if self.begin is None else self.begin

    @property
    def vocab_size(self) -> int:
        """Ordinary and special tokens together, and ids between them that none has."""
        return self.encoding.n_vocab

    @classmethod
    def train(cls, texts: Iterator[str], vocab_size: int) -> "Tokenizer":
        """Learn merges from texts until there are `vocab_size` tokens, special ones included.

        Raises ValueError where `vocab_size` leaves no room for the 256 bytes and the special tokens, or where the
        texts are too short to give so many merges.
        """
        import rustbpe

        ordinary = vocab_size - len(SPECIAL)
        if ordinary < 256:
            raise ValueError(f"model.vocab_size={vocab_size}: at least {256 + len(SPECIAL)} are needed")
        learner = rustbpe.Tokenizer()
        learner.train_from_iterator(map(whole, texts), ordinary, pattern=PATTERN)
        ranks = {bytes(token): rank for token, rank in learner.get_mergeable_ranks()}
        if len(ranks) < ordinary:
            raise ValueError(
                f"model.vocab_size={vocab_size}: the texts give only {len(ranks) + len(SPECIAL)} tokens; set it to "
                "that or less, give more texts, or name a tokenizer that is there"
            )
        return cls(ranks)

    @property
    def settings(self) -> dict[str, Any]:
        """What tokenizer_config.json says, of the folder that it was read from or as `save` writes it."""
        return dict(json.loads(self.files[_SETTINGS])) if _SETTINGS in self.files else _settings(self)

    def encode(self, text: str, behind: Behind = "nothing") -> list[int]:
        """Ids of plain text; the spelling of a special token in it is text like any other. What it stands `behind`
        matters to tokenizers that put a space before a text."""
        if isinstance(self.encoding, LibraryEncoding):
            return self.encoding.encode_ordinary(text, behind)
        return self.encoding.encode_ordinary(self._composed(text))

    def encode_prompt(self, text: str) -> list[int]:
        """`encode` of a text that a model goes on from, behind the token that belongs before it, if one does."""
        return [*([] if self.begin is None else [self.begin]), *self.encode(text)]

    def encode_raw(self, text: str) -> list[int]:
        """`encode_special` of a text that a model goes on from, behind the token that belongs before it unless that is
        spelt there."""
        ids = self.encode_special(text)
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]

    def encode_special(self, text: str) -> list[int]:
        """Ids of a rendered prompt, in which special tokens count as such."""
        return self.encoding.encode(self._composed(text), allowed_special="all")

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return self.encoding.encode_ordinary_batch([self._composed(text) for text in texts])

    def encode_to_numpy(self, text: str) -> np.ndarray:
        """`encode` without a Python object a token, as uint32."""
        try:
            return self.encoding.encode_to_numpy(self._composed(text), disallowed_special=())
        except UnicodeEncodeError:  # Half of a surrogate pair, which `encode` mends.
            return np.array(self.encode(text), dtype=np.uint32)

    def _composed(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self.nfc else text

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.encoding.decode(list(ids))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of ids, for text that is still growing."""
        return self.encoding.decode_bytes(list(ids))

    def save(self, folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
        """Write tokenizer.json and tokenizer_config.json, with the chat template if one is given, into `folder`; what
        was read from a folder stays as it was but for the template. Where there is a tokenizer.json, all is there.

        Raises OSError naming the file that cannot be written, as where the disk is full."""
        template = {} if chat_template is None else {"chat_template": chat_template}
        written = self.files | {_SETTINGS: json.dumps(self.settings | template, indent=2)}
        written = {name: text for name, text in written.items() if name != _FILE} | {_FILE: tokenizer_json(self)}
        for name, text in written.items():
            path, partial = folder / name, folder / f"{name}.partial"
            try:
                partial.write_text(text, encoding="utf-8")
                partial.replace(path)
            except OSError as error:
                raise OSError(f"{path}: could not be written: {error}") from error

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read a folder that `save` wrote, or one that was published with a BPE tokenizer.json.

        Raises ValueError naming the file where it is absent, or is none that can be run.
        """
        path = Path(folder) / _FILE
        try:
            files = {name: text for name in _FILES if (text := _text(Path(folder) / name)) is not None}
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a BPE tokenizer ({error})") from error
        return cls.of_files(files, str(path))

    @classmethod
    def of_files(cls, files: Mapping[str, str], path: str) -> "Tokenizer":
        """What `load` makes of the files of a folder, by name; `path` is what messages call tokenizer.json."""
        try:
            data = json.loads(files[_FILE])
            return cls._ours(data, files) or cls.of_library(files)
        except KeyError as error:
            lost = "no such file" if error.args == (_FILE,) else f"{error} is missing in it"
            raise ValueError(f"{path}: not a BPE tokenizer ({lost})") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a BPE tokenizer ({error})") from error

    @classmethod
    def _ours(cls, data: dict[str, Any], files: Mapping[str, str]) -> "Tokenizer | None":
        """The tokenizer where it is byte-level, splits as ours and is numbered as ours, such as Qwen's; else None."""
        to_byte = {char: byte for byte, char in byte_chars().items()}
        vocab, added = data["model"]["vocab"], sorted(data["added_tokens"], key=lambda entry: entry["id"])
        splitter, normalizer = data["pre_tokenizer"] or {}, data.get("normalizer")
        patterns = [
            step["pattern"].get("Regex")
            for step in splitter.get("pretokenizers", [splitter])
            if step.get("type") == "Split"
        ]
        if (
            patterns != [PATTERN]
            or normalizer not in (None, {"type": "NFC"})
            or not all(char in to_byte for token in vocab for char in token)
            or [*sorted(vocab.values()), *(entry["id"] for entry in added)] != list(range(len(vocab) + len(added)))
            or END_OF_TEXT not in {entry["content"] for entry in added}
        ):
            return None
        ranks = {bytes(to_byte[char] for char in token): rank for token, rank in vocab.items()}
        shown = [entry["content"] for entry in added if not entry.get("special", True)]
        return cls(ranks, [entry["content"] for entry in added], shown, files, nfc=normalizer is not None)


def tokenizer_json(tokenizer: Tokenizer) -> str:
    """What tokenizer.json holds: as it was read, or as the `tokenizers` library would write it."""
    return tokenizer.files.get(_FILE) or json.dumps(
        to_json(tokenizer.ranks, tokenizer.special, tokenizer.visible, nfc=tokenizer.nfc), ensure_ascii=False
    )


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _end_of_text(special: Mapping[str, int], settings: dict[str, Any]) -> int:
    """The token between documents: one of those that are known for it, before one that may end a turn only."""
    eos = settings.get("eos_token")
    eos = eos.get("content") if isinstance(eos, dict) else eos
    for text in (*_ENDS, str(eos)):
        if text in special:
            return special[text]
    raise ValueError(f"no added token ends a text: neither one of {', '.join(_ENDS)} nor {_SETTINGS}'s eos_token")


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """What tokenizer_config.json says of a tokenizer that came without one."""
    end = next(text for text, i in tokenizer.special.items() if i == tokenizer.end_of_text)
    pad = {"pad_token": _PAD} if _PAD in tokenizer.special else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, **pad, "clean_up_tokenization_spaces": False
    }  # fmt: skip


def read_chat_template(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """The Jinja source in chat_template.jinja or tokenizer_config.json, None where a folder has neither, and what else
    is in the latter. Raises ValueError naming the file that is not what it should be."""
    path = Path(folder) / "tokenizer_config.json"
    own = Path(folder) / "chat_template.jinja"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        source = own.read_text(encoding="utf-8") if own.exists() else settings.get("chat_template")
        if isinstance(source, list):  # several templates by name
            source = _one_of({entry["name"]: entry["template"] for entry in source})
        if not isinstance(source, str | None):
            raise TypeError(f"chat_template={source!r}")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not readable ({error})") from error
    return source, settings


def _one_of(named: dict[str, str]) -> str:
    """The template "default", or "tool_use" where there are tools and a folder has one for them."""
    default, tools = named["default"], named.get("tool_use")
    return default if tools is None else f"{{% if tools %}}{tools}{{% else %}}{default}{{% endif %}}"
