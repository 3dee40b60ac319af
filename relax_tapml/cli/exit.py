"""How every command ends: one exit code, one clear block on stderr, no traceback."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

from relax_tapml.errors import DeviceFault, ExitCode, TapmlError

INTERRUPTED = 130  # the shell's code for an interrupt

Command = Callable[[Namespace], int]


def guarded(command: Command) -> Command:
    """Return ``command`` with every exception turned into an exit code and a message.

    A ``TapmlError`` ends with its own code, an interrupt with 130, anything else with 70. With
    ``args.json`` the error is an object on stdout too: ``{"error": {...}}``. With
    ``args.verbose`` the traceback is shown. Both attributes may be absent. What the package logs
    meanwhile is on stderr.
    """

    @wraps(command)
    def run(args: Namespace) -> int:
        try:
            with _shown_log():
                return command(args)
        except BrokenPipeError:
            # The reader of stdout left (`| head`): its business. Nothing more can be printed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.PASS
        except KeyboardInterrupt as error:
            return _end(args, error, "interrupted", INTERRUPTED)
        except TapmlError as error:
            return _end(args, error, _told(error), error.exit_code)
        except Exception as error:
            text = (
                f"internal error: {type(error).__name__}: {error}\n"
                "This is a bug of relax_tapml. Run again with --verbose for the traceback."
            )
            return _end(args, error, text, ExitCode.INTERNAL)

    return run


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment: below a moving line, one that scrolls."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


@contextmanager
def _shown_log() -> Iterator[None]:
    log, handler = logging.getLogger("relax_tapml"), _Stderr()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _told(error: TapmlError) -> str:
    """Return the message, followed by what the device said, if anything."""
    text = error.text.strip() if isinstance(error, DeviceFault) else ""
    return "\n".join([str(error), *(["The device said:", text] if text else [])])


def _end(args: Namespace, error: BaseException, text: str, exit_code: int) -> int:
    if getattr(args, "verbose", False):
        traceback.print_exception(error)
    first, *rest = text.splitlines() or [type(error).__name__]
    lines = [f"error: {first}", *(f"       {line}" for line in rest)]
    sys.stderr.write("\n".join(lines) + "\n")
    if getattr(args, "json", False):
        document = {"kind": type(error).__name__, "message": text, "exit_code": int(exit_code)}
        sys.stdout.write(json.dumps({"error": document}) + "\n")
    return int(exit_code)
