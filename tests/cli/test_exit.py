from __future__ import annotations

import json
import logging
import re
from argparse import Namespace

import pytest
from rich.console import Console

from relax_tapml.cli.exit import guarded
from relax_tapml.cli.progress import Progress
from relax_tapml.errors import DeviceCrash, StoreError, UsageError


def failing(error: BaseException, **options: bool) -> int:
    def command(_: Namespace) -> int:
        raise error

    return guarded(command)(Namespace(**options))


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("x"), 2),
        (StoreError("x"), 3),
        (KeyboardInterrupt(), 130),
        (SystemExit(0), 3),
        (RuntimeError("x"), 70),
    ],
)
def test_exit_code(error: BaseException, exit_code: int) -> None:
    assert failing(error) == exit_code


def test_a_command_that_returns_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda _: 1)(Namespace()) == 1
    assert capsys.readouterr() == ("", "")


def test_an_error_is_one_block_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """What a person reads: the message, then the output of the device."""
    failing(DeviceCrash("unit gelu: the device crashed\nTry --session inline.", text="SIGSEGV\n"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: unit gelu: the device crashed\n"
        "       Try --session inline.\n"
        "       Output of the device:\n"
        "       SIGSEGV\n"
    )


def test_an_internal_error_names_itself_and_the_way_to_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(KeyError("lv3"))
    err = capsys.readouterr().err
    assert err.startswith("error: internal error: KeyError: 'lv3'\n")
    assert "--verbose" in err
    assert "Traceback" not in err


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    failing(UsageError("x"), verbose=True)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_json_puts_the_error_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads stdout gets one JSON object in every case."""
    failing(StoreError("captures/index.db: gone"), json=True)
    assert json.loads(capsys.readouterr().out) == {
        "error": {"kind": "StoreError", "message": "captures/index.db: gone", "exit_code": 3}
    }


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_logged_is_on_stderr(is_terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of its own also where a bar moves; nothing is kept for the next command."""

    def command(_: Namespace) -> int:
        console = Console(stderr=True, force_terminal=is_terminal, width=80)
        with Progress(console).stage("replay"):
            logging.getLogger("relax_tapml.targets.any").info("compiling %s", "it")
        return 0

    for _ in range(2):
        assert guarded(command)(Namespace()) == 0
        out, err = capsys.readouterr()
        assert out == ""
        lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line) for line in re.split("[\r\n]", err)]
        assert lines.count("compiling it") == 1
    logging.getLogger("relax_tapml.targets.any").info("compiling %s", "it")
    assert capsys.readouterr() == ("", "")
