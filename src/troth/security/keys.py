"""API keys: made once, kept only as salted hashes, one JSON line each, and compared in constant time.

A made key has 256 random bits, so one round of BLAKE2 (RFC 7693) with a salt is enough: there is nothing to guess.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PREFIX = "troth-"


@dataclass(frozen=True)
class StoredKey:
    """What is kept of a key: whose it is, and its hash under a salt of its own."""

    name: str
    salt: bytes
    hash: bytes

    @classmethod
    def of(cls, name: str, key: str) -> "StoredKey":
        """The form in which `key` is kept."""
        salt = secrets.token_bytes(hashlib.blake2b.SALT_SIZE)
        return cls(name, salt, _hash(key, salt))

    def matches(self, key: str) -> bool:
        """Whether this is `key`, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.hash, _hash(key, self.salt))


class Keys:
    """Keys given directly, whose holder is called `default`, and those of a file, which is read again when it changes.

    Raises ValueError naming the file and the line where it is not as `add_key` writes it.
    """

    def __init__(self, given: Iterable[str] = (), path: Path | None = None):
        self._given = [StoredKey.of("default", key) for key in given]
        self._path = path
        self._filed: list[StoredKey] = []
        self._stamp: tuple[int, int, int] | None = None
        self._refresh()

    def holder(self, key: str) -> str | None:
        """The name that a key was made for; None for a wrong one. Looks at all keys, whichever is the right one."""
        self._refresh()
        found = [stored.name for stored in (*self._given, *self._filed) if stored.matches(key)]
        return found[0] if found else None

    def _refresh(self) -> None:
        if self._path is None:
            return
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._filed = read_keys(self._path)
            self._stamp = stamp


def add_key(path: Path, name: str) -> str:
    """Make a key for `name`, store its hash in the file and return it; it cannot be read again.

    Raises ValueError where the name has a key already or the file is not one of keys.
    """
    stored = read_keys(path) if path.exists() else []
    if any(other.name == name for other in stored):
        raise ValueError(f"{path}: {name} has a key already; revoke it first, or choose another name")
    key = PREFIX + secrets.token_urlsafe(32)
    _write(path, [*stored, StoredKey.of(name, key)])
    return key


def revoke_key(path: Path, name: str) -> None:
    """Take the key of `name` out of the file. Raises ValueError where there is none."""
    stored = read_keys(path)
    left = [other for other in stored if other.name != name]
    if len(left) == len(stored):
        raise ValueError(f"{path}: no key of {name}; there are {', '.join(key.name for key in stored) or 'none'}")
    _write(path, left)


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file. Raises ValueError naming the line that is no key, OSError where it cannot be read."""
    stored = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            stored.append(StoredKey(entry["name"], bytes.fromhex(entry["salt"]), bytes.fromhex(entry["hash"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no key as `troth key` writes it") from error
    return stored


def _write(path: Path, stored: list[StoredKey]) -> None:
    """Replace the file whole, readable by its owner only."""
    lines = [json.dumps({"name": key.name, "salt": key.salt.hex(), "hash": key.hash.hex()}) + "\n" for key in stored]
    beside = path.with_name(path.name + ".new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
    beside.replace(path)


def _hash(key: str, salt: bytes) -> bytes:
    return hashlib.blake2b(key.encode(), salt=salt, digest_size=32).digest()
