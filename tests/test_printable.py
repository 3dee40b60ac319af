"""What may be printed of names and messages of others."""

from __future__ import annotations

import pytest

from relax_tapml.printable import error_line, message_line, printable


@pytest.mark.parametrize(
    "text",
    ["", "main/012/fused_matmul", "two\nlines\tand a tab", "ünï 漢字 😀", "a\\x1bb", "━ ⠋ ✓"],
)
def test_text_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x1b", r"\x1b"),
        ("\x07", r"\x07"),
        ("\r", r"\r"),
        ("\b", r"\x08"),
        ("\x00", r"\x00"),
        ("\x7f", r"\x7f"),
        ("\x9b", r"\x9b"),
        ("\u202e", r"\u202e"),
        ("\u2066", r"\u2066"),
        ("\u200f", r"\u200f"),
        ("\u2028", r"\u2028"),
        ("\ufeff", r"\ufeff"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_obeyed_is_escaped(character, shown):
    assert printable(f"a{character}b") == f"a{shown}b"


@pytest.mark.parametrize(
    ("message", "first", "last"),
    [
        ("one", "one", "one"),
        ("\n  one  \n two\n   ^^^\n", "one", "two"),
        ("one\x1b[2J", "one\\x1b[2J", "one\\x1b[2J"),
        ("", "ValueError", "ValueError"),
    ],
)
def test_one_line_of_a_message(message, first, last):
    """Without blank lines, marks of parsers and control characters; the type if there is none."""
    error = ValueError(message)
    assert (message_line(error), message_line(error, -1)) == (first, last)
    assert error_line(error) == ("ValueError" if not message else f"ValueError: {first}")


def test_a_long_line_is_cut():
    assert len(message_line("x" * 10_000)) < 500
