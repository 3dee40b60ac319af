"""Run a reproducer once, in a process of its own."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from relax_tapml.processes.deadline import Deadline
from relax_tapml.targets.platforms.registry import platform_of

_TAIL_BYTES = 20_000
_LINES = 8
# What a reproducer prints before it runs the unit.
_HEAD = re.compile(r"\ATVM .*\ntarget .*\noracle from .*(\n|\Z)")


class ScriptEnd(StrEnum):
    """How a reproducer ended."""

    AGREES = "agrees"
    DIFFERS = "differs"
    RAISED = "raised"
    """Nothing was compared: it does not build, or the call raised."""
    CRASHED = "crashed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class ScriptRun:
    """How a reproducer ended, in words too, and the last lines that it printed."""

    end: ScriptEnd
    reason: str
    text: str

    @property
    def last_line(self) -> str:
        """The last line that it printed after its head, empty if there is none."""
        lines = [
            line
            for line in _HEAD.sub("", self.text).splitlines()
            if line.strip() and not line.startswith("recorded: ")
        ]
        return lines[-1].strip() if lines else ""


def run_script(script: Path, *, timeout_s: float) -> ScriptRun:
    """Run a reproducer for its own target, and end it with its children after ``timeout_s``.

    Time in which the machine does not run it is not counted; see ``Deadline``.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, str(script.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=script.resolve().parent,
            start_new_session=True,
        )
        try:
            with Deadline(timeout_s, lambda: _end(process), pid=process.pid) as deadline:
                code = process.wait()
        finally:
            _end(process)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _TAIL_BYTES))
        text = output.read().decode("utf-8", "replace")
    end, reason = _how(None if deadline.is_expired else code, timeout_s)
    return ScriptRun(end=end, reason=reason, text="\n".join(text.splitlines()[-_LINES:]))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):  # macOS has the second if it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _how(code: int | None, timeout_s: float) -> tuple[ScriptEnd, str]:
    if code is None:
        return ScriptEnd.TIMEOUT, f"it did not end in {timeout_s:g} s"
    if code < 0:
        return ScriptEnd.CRASHED, f"it was terminated by {_signal_name(-code)}"
    if code in (0, 1):
        end = ScriptEnd.DIFFERS if code else ScriptEnd.AGREES
        return end, f"its outputs {'differ' if code else 'agree'}"
    return ScriptEnd.RAISED, f"it ended with exit code {code} before anything was compared"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def unavailable_here(target: Any) -> str:
    """Return why a script with TVM alone cannot run for a target here; empty if it can."""
    owner = platform_of(target)
    kind = target.kind.name
    if "inline" not in owner.sessions() or owner.needs_own_runtime:
        return f"{owner.name} needs {owner.summary}, which a script with TVM alone cannot use"
    triple = str(target.attrs.get("mtriple", "") or "")
    if kind == "llvm" and triple and not _is_of_this_machine(triple):
        return f"this machine is no {triple}"
    if not owner.has_device_here():
        return f"this machine has no {kind} device"
    try:
        exists = bool(tvm.device(target.get_target_device_type(), 0).exist)
    except Exception:  # This build of TVM's runtime knows no such devices.
        exists = False
    return "" if exists else f"this machine has no {kind} device"


def _is_of_this_machine(triple: str) -> bool:
    aliases = {"amd64": "x86_64", "arm64": "aarch64", "x64": "x86_64"}
    ours, theirs = platform.machine().lower(), triple.split("-")[0].lower()
    is_apple = "apple" in triple, "apple" in str(codegen.llvm_get_system_triple())
    return is_apple[0] == is_apple[1] and aliases.get(ours, ours) == aliases.get(theirs, theirs)
