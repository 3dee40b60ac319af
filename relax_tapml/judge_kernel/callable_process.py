"""A Python callable in a process of its own; this process has the oracles and looks at memory."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import (
    DeviceCrash,
    DeviceFault,
    DeviceTimeout,
    DeviceUnavailable,
    UsageError,
)
from relax_tapml.files.closing import Closing
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.judge_kernel._call_layout import Argument, Arguments, CallMemory
from relax_tapml.judge_kernel._files import MEMORY
from relax_tapml.judge_kernel.candidate_kernel import ArrayKind, PythonCallable
from relax_tapml.processes.child import Child, ending_text, is_kill
from relax_tapml.processes.deadline import Deadline
from relax_tapml.targets.session.poison import Poison

_START_S = 120.0
_ENDING_S = 5.0
# What messages to the process and back may take, on a busy machine, and its share of the rest.
_MESSAGES_S = 0.005
_MOST_MORE = 2.0


@dataclass(frozen=True, kw_only=True)
class CalledOnce:
    """One call.

    Parameters
    ----------
    outputs
        What it left in the memory of the outputs.
    violations
        What it did that no kernel may do, a sentence each.
    untouched
        For each output, bool of its shape: the values that are what the memory held before; None
        where there are none.
    """

    outputs: list[Array]
    violations: list[str]
    untouched: tuple[Array | None, ...]


class CallableProcess(Closing):
    """Calls a function of a Python file in another process, as often as it is asked to.

    The process has this user's rights, and no oracle. It ends with an error, or with ``close``.

    Parameters
    ----------
    kernel
        The function.
    target
        The ``tvm.target.Target`` that it is judged for: where tensors of torch lie.
    timeout_s
        How long a call may take.
    seed
        Of where tensors lie.

    Raises
    ------
    UsageError
        The target has no arrays of this kind, or the file cannot be imported.
    DeviceUnavailable
        This machine has no such device.
    """

    def __init__(self, kernel: PythonCallable, target: Any, *, timeout_s: float, seed: int) -> None:
        self._kernel = kernel
        self._timeout_s = timeout_s
        self._random = np.random.default_rng([seed, 13])
        self._count = 0
        self._seconds = 0.0
        arguments = [str(kernel.path), kernel.name, kernel.arrays, _device(kernel.arrays, target)]
        self._folder = ScratchFolder()
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._child = Child(
                "relax_tapml.judge_kernel._callable_main",
                [theirs],
                arguments,
                folder=self._folder,
                has_torch=kernel.arrays is ArrayKind.TORCH,
            )
        self._lines = self._connection.makefile("rw", encoding="utf-8", newline="\n")
        try:
            answer = self._answer(None, _START_S, "import")
            fault, lack = answer.get("raised"), answer.get("unavailable")
        except DeviceFault as error:
            fault, lack = "\n".join(filter(None, (str(error), error.text))), None
        except BaseException:
            self.close()
            raise
        if lack:
            self.close()
            raise DeviceUnavailable(
                f"torch has no device for target {target.kind.name} here: {lack}. Use a machine "
                "that has one, and torch that is built for it"
            )
        if fault:
            self.close()
            raise UsageError(f"kernel {kernel.path}:{kernel.name}: {fault}")

    def call(
        self,
        arguments: Arguments,
        inputs: Sequence[Array],
        like: Sequence[Array],
        poison: Poison,
    ) -> CalledOnce:
        """Call the function once, on copies of the inputs.

        Parameters
        ----------
        arguments
            What it is given.
        inputs, like
            The inputs of a case, and arrays of the dtypes and shapes of its outputs.
        poison
            What the memory of outputs and guards holds.

        Raises
        ------
        UsageError
            It takes other arguments.
        DeviceCrash, DeviceTimeout
            Its process ended, or had to be ended.
        """
        memory = CallMemory.of(arguments, inputs, like, poison, self._random)
        path = self._written(memory)
        answer = self._request(arguments, memory, path)
        after = np.fromfile(path, np.uint8)
        path.unlink()
        places = {
            item.output: memory.tensors[item.tensor]
            for item in arguments.items
            if item.tensor is not None and item.output is not None
        }
        outputs = [
            (places.get(n) or memory.outputs[n]).of(after, array) for n, array in enumerate(like)
        ]
        failed = [answer[key] for key in ("wrong", "raised") if key in answer]
        if failed:
            what = "it raises " if "raised" in answer else ""
            return CalledOnce(
                outputs=outputs, violations=[f"{what}{failed[0]}"], untouched=(None,) * len(like)
            )
        return CalledOnce(
            outputs=outputs,
            violations=memory.violations(after, arguments.written),
            untouched=tuple(memory.untouched(n, after, array) for n, array in enumerate(like)),
        )

    def timed(
        self,
        arguments: Arguments,
        inputs: Sequence[Array],
        like: Sequence[Array],
        poison: Poison,
    ) -> tuple[float, CalledOnce]:
        """Do what ``call`` does; return also how long it took.

        The clock is that of its process or of its GPU, which a function may have replaced. So where
        this process sees that the call took much longer, its own clock counts.
        """
        called = self.call(arguments, inputs, like, poison)
        return self._seconds, called

    def _written(self, memory: CallMemory) -> Path:
        # A new file for each call: what the callable keeps of an older one stays valid.
        self._count += 1
        path = self._folder.path / f"{MEMORY}-{self._count}"
        memory.before.tofile(path)
        return path

    def _request(self, arguments: Arguments, memory: CallMemory, path: Path) -> dict[str, Any]:
        request = {
            "memory": str(path),
            "arguments": [_document(item, memory) for item in arguments.items],
        }
        answer = self._answer(request, self._timeout_s, "call")
        if "ready" in answer:
            began = time.perf_counter()
            answer = self._answer({}, self._timeout_s, "call")
            seen = time.perf_counter() - began
            told = answer.get("seconds")
            least = max(0.0, seen - _MESSAGES_S) / _MOST_MORE
            self._seconds = told if isinstance(told, float) and told > least else seen
            if "seconds" in answer:
                answer = self._answer({}, self._timeout_s, "call")
        if "misfit" in answer:
            expected = ", ".join(_text(item, memory) for item in arguments.items)
            raise UsageError(
                f"kernel {self._kernel.path}:{self._kernel.name} takes other arguments than the "
                f"unit's kernel, with its outputs or without them\n"
                f"expected ({expected})\n"
                f"got      {answer['misfit']}"
            )
        return answer

    def _answer(self, request: Any, seconds: float, what: str) -> dict[str, Any]:
        """Send a request, unless it is None, and return the answer."""
        line = ""
        with Deadline(seconds, self._child.kill, pid=self._child.pid) as deadline:
            try:
                if request is not None:
                    self._lines.write(json.dumps(request) + "\n")
                    self._lines.flush()
                line = self._lines.readline()
            except OSError:
                line = ""
        if line.endswith("\n"):
            answer = json.loads(line)
            return answer if isinstance(answer, dict) else {"raised": "an invalid answer"}
        code = self._child.exit_code(_ENDING_S)
        printed = self._child.log_tail()
        if deadline.is_expired:
            raise DeviceTimeout(
                f"{what} of {self._kernel.name} did not end in {deadline.text}", text=printed
            )
        ended = ending_text(code) or "closed its connection"
        raise DeviceCrash(
            f"{what} of {self._kernel.name}: its process {ended}",
            text=printed,
            is_killed=is_kill(code),
        )

    def close(self) -> None:
        """End the process. Never raises; may be called twice."""
        with suppress(OSError):
            self._lines.close()
        self._connection.close()
        self._child.close()


def _document(item: Argument, memory: CallMemory) -> dict[str, Any]:
    if item.scalar is not None:
        return {"scalar": item.scalar}
    if item.tensor is not None:
        return {"tensor": memory.tensors[item.tensor].document()}
    assert item.output is not None
    return {"output": memory.outputs[item.output].document()}


def _text(item: Argument, memory: CallMemory) -> str:
    if item.scalar is not None:
        return type(item.scalar).__name__
    if item.tensor is not None:
        written, place = "" if item.output is None else "in place ", memory.tensors[item.tensor]
    else:
        assert item.output is not None
        written, place = "output ", memory.outputs[item.output]
    # The call may be one that is held out, so the extents are not told.
    return f"{written}{place.dtype} of {len(place.shape)} dimensions"


def _device(arrays: ArrayKind, target: Any) -> str:
    """Return where tensors of torch lie on a target."""
    kind = str(target.kind.name)
    devices = {"llvm": "cpu", "cuda": "cuda", "rocm": "cuda"}
    known = {"llvm"} if arrays is ArrayKind.NUMPY else devices.keys()
    if kind not in known:
        raise UsageError(
            f"--target {kind}: a Python callable on arrays of {arrays} runs on "
            f"{', '.join(sorted(known))}"
        )
    return devices[kind]
