"""Calls of the source, and which one it is that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relax_tapml.errors import TapmlError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.model import Functions
from relax_tapml.printable import message_line

_INPUTS = "relax_tapml.capture.inputs"
_OUTPUTS = "relax_tapml.capture.outputs"

Instrument = Callable[..., None]


class CallFailed(Exception):  # noqa: N818 - it never leaves the source
    """A function of the source raised; the message is the last line of its error."""


class WatchedFunctions:
    """The functions of a model, whose failures differ in type from those of the code between.

    Parameters
    ----------
    functions
        Of the source.
    on_call
        Gets the name of each function that is called, and the arguments.
    """

    def __init__(
        self,
        functions: Functions,
        on_call: Callable[[str, Sequence[Any]], None] = lambda _name, _values: None,
    ) -> None:
        self._functions = functions
        self._on_call = on_call

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return a function; calling it raises ``CallFailed`` where the source fails."""
        function = self._functions[name]

        def call(*values: Any) -> list[Any]:
            self._on_call(name, values)
            try:
                return function(*values)
            except TapmlError:
                raise
            except Exception as error:
                raise_machine_error(error, "running the source")
                raise CallFailed(message_line(error, -1)) from error

        return call

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the runtime; calling it raises ``KernelFailed`` where a kernel does.

        What it refuses itself is raised as it is: that is the matter of whoever calls it.
        """
        return self._functions.runtime(name)


def noting(note: Callable[[str], None]) -> Instrument:
    """Return an instrument for a Relax VM that notes each operator before it runs.

    Parameters
    ----------
    note
        Gets the id of the site, where ``InsertCapture`` has named it in the module, and otherwise
        the name of the function that is called.
    """
    site = ""

    def instrument(_func: Any, name: str, before_run: bool, _ret: Any, *args: Any) -> None:
        nonlocal site
        if not before_run:
            return
        if name == _INPUTS:
            site = str(args[1])
        elif name == _OUTPUTS:
            site = ""
        note(site or name)

    return instrument


def both(first: Instrument, second: Instrument) -> Instrument:
    """Return an instrument that does what two do, since a VM has room for one."""

    def instrument(*args: Any) -> None:
        first(*args)
        second(*args)

    return instrument
