"""Finds the end of a JSON object in text that is still growing. Imports no torch."""


class JsonObject:
    """One object, from its first bracket on; `ended` once its last one has been read."""

    def __init__(self) -> None:
        self.ended = False
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> int:
        """How much more of the text belongs to the object."""
        for place, char in enumerate(text):
            if self._quoted:
                self._quoted = char != '"' or self._escaped
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.ended = True
                    return place + 1
        return len(text)
