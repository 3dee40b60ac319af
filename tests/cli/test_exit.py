from __future__ import annotations

import json
from argparse import Namespace

import pytest

from relax_tapml.cli.exit import guarded
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
        (RuntimeError("x"), 70),
    ],
)
def test_exit_code(error: BaseException, exit_code: int) -> None:
    assert failing(error) == exit_code


def test_a_command_that_returns_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda _: 1)(Namespace()) == 1
    assert capsys.readouterr() == ("", "")


def test_an_error_is_one_block_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """What a person reads: the message, then the device's own words."""
    failing(DeviceCrash("unit gelu: the device died\nTry --session inline.", text="SIGSEGV\n"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: unit gelu: the device died\n"
        "       Try --session inline.\n"
        "       The device said:\n"
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
