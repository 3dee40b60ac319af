"""The end of every command: an exit code, and one error message on stderr, no traceback."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from relax_tapml.cli.streams import StandardStreams
from relax_tapml.errors import DeviceFault, ExitCode, TapmlError
from relax_tapml.files.machine import reported_error
from relax_tapml.processes.interrupt import Ending, ended_by_signals

_SHELL = 128  # what a shell adds to the number of a signal
_ENDINGS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_HUNG_UP = "hung up: the terminal was closed"

Command = Callable[[Namespace], int]


def parsed(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Return the arguments of a command; output of the parser is printed as by ``guarded``."""
    with StandardStreams() as streams:
        try:
            return parser.parse_args(argv)
        except SystemExit as end:
            raise SystemExit(streams.finish(_code(end))) from None


def guarded(command: Command, *, is_folded: bool = False) -> Command:
    """Return ``command`` with every exception turned into an exit code and a message.

    A ``TapmlError`` ends with its own code, an error of the system with 3 (2 for a path of the
    command line), SIGINT, SIGTERM and SIGHUP with 130, 143 and 129, and anything else, which is a
    bug, with 70. With ``args.json`` the error is an object on stdout too: ``{"error": {...}}``.
    With ``args.verbose`` the traceback is printed. Both attributes may be absent. The package's log
    goes to stderr meanwhile.

    If the reader of stdout leaves (``| head``), the command continues and ends with its usual code,
    because scripts read its verdict from that. If stdout cannot be written to for another reason,
    such as a full disk, a verdict of 0 or 1 becomes 3: its output is lost.

    Parameters
    ----------
    command
        Takes the arguments and returns an exit code.
    is_folded
        Print each of TVM's warnings once.
    """

    @wraps(command)
    def run(args: Namespace) -> int:
        with StandardStreams(is_folded=is_folded) as streams:
            return streams.finish(_outcome(command, args))

    return run


def _outcome(command: Command, args: Namespace) -> int:
    ending = Ending()
    try:
        with _log_on_stderr(), ended_by_signals(ending):
            return command(args)
    except SystemExit as error:
        text = f"code of a model or of a pipeline ended the command: sys.exit({error.code!r})"
        return _end(args, error, SystemExit.__name__, text, ExitCode.INCONCLUSIVE)
    except (Exception, KeyboardInterrupt) as error:
        if ending.number is not None or isinstance(error, KeyboardInterrupt):
            number = ending.number or signal.SIGINT
            text = _ENDINGS.get(number, _HUNG_UP)
            return _end(args, error, KeyboardInterrupt.__name__, text, _SHELL + number)
        expected = error if isinstance(error, TapmlError) else _system_error(error, args)
        kind = type(expected or error).__name__
        if expected is not None:
            return _end(args, error, kind, _message(expected), expected.exit_code)
        text = (
            f"internal error: {kind}: {error}\n"
            "This is a bug of relax_tapml. Run again with --verbose for the traceback."
        )
        return _end(args, error, kind, text, ExitCode.INTERNAL)


def _system_error(error: Exception, args: Namespace) -> TapmlError | None:
    """Return the error to report if the system caused an exception, None otherwise."""
    values = [
        item
        for value in vars(args).values()
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    given = [os.fspath(value) for value in values if isinstance(value, str | os.PathLike)]
    out = getattr(args, "out", None)
    return reported_error(error, given, *([out] if isinstance(out, Path) else []))


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else int(end.code is not None)


class _Stderr(logging.Handler):
    """Writes to the current ``sys.stderr``, which a progress bar replaces for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    log, handler = logging.getLogger("relax_tapml"), _Stderr()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _message(error: TapmlError) -> str:
    """Return the message, followed by the output of the device, if any."""
    text = error.text.strip() if isinstance(error, DeviceFault) else ""
    return "\n".join([str(error), *(["Output of the device:", text] if text else [])])


def _end(args: Namespace, cause: BaseException, kind: str, text: str, exit_code: int) -> int:
    if getattr(args, "verbose", False):
        traceback.print_exception(cause)
    first, *rest = text.rstrip("\n").split("\n")
    lines = [f"error: {first or kind}", *(f"       {line}" for line in rest)]
    sys.stderr.write("\n".join(lines) + "\n")
    if getattr(args, "json", False):
        document = {"kind": kind, "message": text, "exit_code": int(exit_code)}
        sys.stdout.write(json.dumps({"error": document}) + "\n")
    return int(exit_code)
