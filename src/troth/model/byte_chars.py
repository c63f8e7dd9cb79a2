"""The printable characters that stand for bytes in the files of byte-level BPE tokenizers (GPT-2's table)."""

import functools


@functools.cache
def byte_chars() -> dict[int, str]:
    """The character of each byte: itself where it is printable and no space, else one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(256 + i) for i, byte in enumerate(others)}
