"""Output to a full disk, to a reader that left, or in an encoding that lacks characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import sys
from argparse import Namespace
from relax_tapml.cli.exit import guarded
def command(args):
    for stream in (sys.stdout, sys.stderr):
        stream.write(ascii(stream.encoding) and "unit \\u6f22 \\udcff \\x1b[2J\\n" * 20_000)
    return CODE
sys.exit(guarded(command)(Namespace()))
"""
UNIT = "unit \\u6f22 \\udcff \\x1b[2J\n"


def ran(code, *, redirected="", environment=None):
    """A command that prints much and ends with a code, run by a shell."""
    text = COMMAND.replace("CODE", str(code))
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirected}', sys.executable, text],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def without_bug(text):
    return "Traceback" not in text and "bug" not in text and "Exception ignored" not in text


@pytest.mark.parametrize("code", [0, 1])
def test_a_reader_that_leaves_changes_nothing(code):
    done = ran(code, redirected="2>/dev/null | head -n 1; exit ${PIPESTATUS[0]}")
    assert done.returncode == code
    assert done.stdout.startswith("unit ")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize(
    ("code", "ended", "redirected", "words"),
    [
        (0, 3, ">/dev/full", "No space left on device"),
        (1, 3, ">&-", "Bad file descriptor"),
        (2, 2, "<&- >&-", "Bad file descriptor"),
        (70, 70, ">/dev/full", "No space left on device"),
    ],
)
def test_output_that_is_lost_is_reported(code, ended, redirected, words):
    done = ran(code, redirected=redirected)
    assert done.returncode == ended
    assert done.stderr.endswith(f"\nerror: cannot write to standard output: {words}\n")
    assert without_bug(done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2> >(head -n 1 >/dev/null)"])
def test_messages_that_nobody_reads_change_nothing(redirected):
    done = ran(1, redirected=redirected)
    assert done.returncode == 1
    assert done.stdout.count("unit ") == 20_000
    assert done.stderr == ""


def test_what_an_encoding_lacks_is_escaped():
    done = ran(0, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout == done.stderr == UNIT * 20_000


def test_a_parser_is_no_exception():
    """Its help and its complaints go the same way."""
    command = "import sys; from relax_tapml.cli.main import main; sys.exit(main())"
    run = f'"$0" -c "{command}"'
    for redirected, code in ((f"{run} --help >/dev/full", 3), (f"{run} no 2>/dev/full", 2)):
        done = subprocess.run(
            ["bash", "-c", redirected, sys.executable], capture_output=True, text=True
        )
        assert done.returncode == code
        assert without_bug(done.stderr)


def test_text_of_others_is_not_obeyed(document, tmp_path):
    """In tables, sentences and messages; colours are not sent where there is no terminal."""
    evil = "\x1b]0;t\x07\x1b[2J\x9b\r\b\u202e\u2028[bold]"

    def marked(value):
        if isinstance(value, dict):
            return {key: marked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [marked(item) for item in value]
        is_word = isinstance(value, str) and value.replace("_", "").isalpha() and len(value) > 8
        return value + evil if is_word else value

    document = marked(document)
    document["skipped"] = [{"site": evil, "reason": evil}]
    document["units"][0].update(name=evil, verdict="mismatch", reason=evil)
    document["culprits"] = [evil]
    (tmp_path / "result.json").write_text(json.dumps(document))
    command = "import sys; from relax_tapml.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "report", str(tmp_path), "--all"], capture_output=True
    )
    printed = (done.stdout + done.stderr).decode()
    assert "\\x1b[2J\\x9b\\r\\x08\\u202e\\u2028[bold]" in printed
    assert not set(printed) & set("\x1b\x07\x9b\r\b\u202e\u2028")
