"""What others wrote cannot command the terminal that shows it."""

import io

from rich.console import Console

from troth.cli.output import escape, harmless

HOSTILE = "it\x1b]0;owned\x07 ends\x9b2J\r[bold]here"


def test_control_characters_are_shown_and_not_sent():
    assert harmless(HOSTILE) == "it␛]0;owned␇ ends\ufffd2J␍[bold]here"
    assert harmless("a\tb\nc é 漢 😀") == "a\tb\nc é 漢 😀"


def test_markup_is_text():
    console = Console(file=io.StringIO(), force_terminal=True, highlight=False, color_system=None)
    console.print(escape(HOSTILE), end="")
    assert console.file.getvalue() == harmless(HOSTILE)
