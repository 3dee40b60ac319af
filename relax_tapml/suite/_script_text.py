"""A module as TVMScript that a Python file can hold, where that is exact and nothing but that."""

from __future__ import annotations

import re
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Range

from relax_tapml._compat import portable_script
from relax_tapml.foreign.script import script_fault
from relax_tapml.printable import message_line
from relax_tapml.processes.fork import ForkChannel, ForkFailed, forked
from relax_tapml.system import FORKS_ARE_SAFE

_COMMENTED_IMPORT = re.compile(r"^# (?=from [\w.]+ import )", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ScriptText:
    """A module printed as TVMScript.

    Parameters
    ----------
    text
        Python source that defines ``Module``, its imports included.
    inexact
        Why it must not be used: reading it gives another module, or it is more than TVMScript;
        empty if it may be.
    """

    text: str
    inexact: str


def script_text(module: tvm.IRModule) -> ScriptText:
    """Print a module and check that reading the print gives it back.

    A print is read as Python is, so it must be nothing but TVMScript, and a child reads it. The
    comparison leaves out the dtype of the extents in ``T.reads`` and ``T.writes``, which TVMScript
    does not hold and no kernel depends on.
    """
    text = portable_script(module)
    source = _COMMENTED_IMPORT.sub("", text)
    # Nothing but identifiers is printed as it is; a name that is none could be any code.
    names = [gvar.name_hint for gvar in module.functions]
    invalid = [name for name in names if not name.isidentifier()]
    if invalid:
        return ScriptText(text=source, inexact=f"{invalid[0]!r} is no name in Python")
    if "metadata[" in text:
        return ScriptText(text=source, inexact="it holds a tensor constant")
    fault = script_fault(source)
    if fault:
        return ScriptText(text=source, inexact=f"its print is not only TVMScript: {fault}")

    def work(fork: ForkChannel) -> None:
        fork.send(_difference(module, text))

    try:
        [message] = forked(work, is_safe=FORKS_ARE_SAFE)
    except ForkFailed as death:
        return ScriptText(text=source, inexact=f"TVM {death.cause} while reading it")
    return ScriptText(text=source, inexact=message.document)


def _difference(module: tvm.IRModule, text: str) -> str:
    """Return how reading a print gives another module, empty if it gives the same."""
    try:
        again = tvm.script.from_source(text)
    except Exception as error:  # Whatever the parser raises about what the printer wrote.
        return f"TVM cannot read it: {message_line(error, -1)}"
    difference = tvm_ffi.get_first_structural_mismatch(_plain(module), _plain(again))
    return "" if difference is None else f"TVM reads it as another module: {difference[0]}"


def _plain(module: tvm.IRModule) -> tvm.IRModule:
    def plain(extent: Range) -> Range:
        if not isinstance(extent.extent, tirx.IntImm):
            return extent
        return Range.from_min_extent(extent.min, tirx.IntImm("int64", int(extent.extent.value)))

    return tvm_ffi.structural_map(module, (Range, plain))
