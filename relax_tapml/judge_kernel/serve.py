"""A server of the Model Context Protocol that judges kernels for one suite.

It speaks over standard input and output with the official SDK (extra ``mcp``), and writes nothing
but reproducers, to a folder of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from relax_tapml.errors import TapmlError, UsageError
from relax_tapml.judge_kernel.primfunc_run import own_kernel
from relax_tapml.judge_kernel.verify_kernel import HELD_OUT, verify
from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.results.json_codec import encode
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.reproducer import reproducer, write_reproducer
from relax_tapml.targets.platforms.parse_target import parse_target

_INSTRUCTIONS = (
    "Judge kernels that you write for the units of a suite. `unit` shows what a kernel computes, "
    "`cases` lists the cases that are shown, `verify` judges a file, also by cases that are made "
    "anew each time and not shown, `reproduce` writes a shown case as a script."
)

Answer = dict[str, Any]


def server(
    suite: Path,
    target: str,
    out: Path,
    *,
    session: str = "process",
    timeout_s: float = 60.0,
    trust: bool = False,
) -> Any:
    """Return the ``mcp.server.MCPServer``; its ``run`` serves until standard input ends.

    Parameters
    ----------
    suite
        A suite, or an output folder with one in ``tests``.
    target, session, timeout_s, trust
        As for ``verify``.
    out
        Where reproducers are written; created when the first one is.

    Raises
    ------
    UsageError
        The SDK is not installed, or the target or session is not known.
    StoreError
        The suite is damaged, or calls what is not known to be harmless.
    """
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as error:
        raise UsageError(
            f"--serve needs the SDK of the Model Context Protocol ({error}): install "
            "relax-tapml[mcp]"
        ) from error
    opened = open_suite(suite, parse_target(target, session), trust=trust)
    # TVM and the device are for one call at a time, whatever a client asks for.
    lock = threading.Lock()
    made = MCPServer("relax-tapml", instructions=_INSTRUCTIONS)

    def tool(function: Callable[..., Answer]) -> None:
        @wraps(function)
        def call(*args: Any, **named: Any) -> Answer:
            with lock:
                try:
                    return function(*args, **named)
                except TapmlError as error:
                    raise ToolError(str(error)) from error

        made.tool(name=function.__name__.removeprefix("_"))(call)

    def _verify(unit: str, kernel: str, repeat: int = 2, held_out: int = HELD_OUT) -> Answer:
        """Judge a kernel, FILE or FILE:NAME on this machine, for a unit.

        A PrimFunc or IRModule (.py in TVMScript, .json), or a function of NumPy arrays or torch
        tensors in a .py, which is imported in a process of its own.
        """
        report = verify(
            opened,
            unit,
            kernel,
            target=target,
            session=session,
            repeat=repeat,
            held_out=held_out,
            timeout_s=timeout_s,
            trust=trust,
        )
        answer: Answer = encode(report)
        return answer

    def _unit(unit: str) -> Answer:
        """Show a unit: its kernel as TVMScript, and what a kernel in its place takes."""
        return _shown_unit(opened, unit)

    def _cases(unit: str) -> Answer:
        """List the cases of a unit that are shown: recorded ones and probes."""
        return {"cases": [_shown_case(opened, case) for case in opened.unit(unit).cases]}

    def _reproduce(unit: str, case: str) -> Answer:
        """Write a shown case as a script that runs without this package; return its path."""
        found = reproducer(opened, unit, opened.case(unit, case))
        return {"script": str(write_reproducer(found, out, replace=True).resolve())}

    for function in (_verify, _unit, _cases, _reproduce):
        tool(function)
    return made


def _shown_unit(suite: Suite, unit: str) -> Answer:
    cases = suite.unit(unit).cases
    shown: Answer = {
        "name": unit,
        "cases": sum(not case.is_probe for case in cases),
        "probes": sum(case.is_probe for case in cases),
        "script": suite.target_module(unit).script(),
    }
    try:
        shown["interface"] = str(KernelInterface.of(own_kernel(suite, unit)[1]))
    except UsageError:
        shown["interface"] = None  # It is no single PrimFunc: a callable gets inputs and outputs.
    return shown


def _shown_case(suite: Suite, case: SuiteCase) -> Answer:
    tensors = suite.manifest.tensors

    def text(digest: str) -> str:
        return f"{tensors[digest].dtype}{list(tensors[digest].shape)}"

    return {
        "name": case.name,
        "is_probe": case.is_probe,
        "reason": case.reason,
        "inputs": [text(item.tensor) for item in case.inputs],
        "outputs": [text(output.tensor) for output in case.outputs],
        "tolerances": [output.tolerance.origin for output in case.outputs],
    }
