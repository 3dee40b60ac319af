"""Call a Python function on arrays that lie in a file; started by ``CallableProcess``.

It gets a line of JSON for each request and answers with one. What it is given has no oracle, and
what it answers is not believed: the parent looks at the memory itself.
"""

from __future__ import annotations

import inspect
import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from relax_tapml.judge_kernel._import_main import imported
from relax_tapml.processes.child import end_with_parent

Request = dict[str, Any]


class _Memory:
    """The memory of a call as arrays of NumPy."""

    def __init__(self, path: str) -> None:
        self._bytes = np.memmap(path, np.uint8, "r+")

    def tensor(self, place: Request) -> Any:
        dtype = np.dtype(getattr(ml_dtypes, place["dtype"], place["dtype"]))
        size = int(np.prod(place["shape"], dtype=np.int64)) * dtype.itemsize
        part = self._bytes[place["begin"] : place["begin"] + size].view(np.ndarray)
        return part.view(dtype).reshape(place["shape"])

    def store(self, place: Request, value: Any) -> None:
        self.tensor(place)[...] = value

    def finish(self) -> None:
        self._bytes.flush()

    @staticmethod
    def described(value: Any) -> str:
        array = value if isinstance(value, np.ndarray | np.generic) else None
        if array is None:
            return type(value).__name__
        return f"{array.dtype.name}{list(array.shape)}"

    def time(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Return how long a call takes, and its result."""
        begin = time.perf_counter()
        result = call()
        return time.perf_counter() - begin, result


class _TorchMemory(_Memory):
    """The same as tensors of torch, on a device of its own or on the CPU."""

    _pool: Any = None

    def __init__(self, path: str, device: str) -> None:
        import torch

        super().__init__(path)
        self._torch = torch
        self._host = torch.from_numpy(self._bytes.view(np.ndarray))
        self._device = device
        self._block = self._host if device == "cpu" else self._copied()

    def _copied(self) -> Any:
        """Return the memory on the device: of all calls at the same address.

        So a function that keeps results by the addresses of its tensors has them for other inputs.
        """
        size = self._host.numel()
        if _TorchMemory._pool is None or _TorchMemory._pool.numel() < size:
            _TorchMemory._pool = self._host.to(self._device)
        block = _TorchMemory._pool[:size]
        block.copy_(self._host)
        return block

    def tensor(self, place: Request) -> Any:
        dtype = getattr(self._torch, place["dtype"])
        size = int(np.prod(place["shape"], dtype=np.int64)) * dtype.itemsize
        part = self._block[place["begin"] : place["begin"] + size]
        return part.view(dtype).view(place["shape"])

    def store(self, place: Request, value: Any) -> None:
        self.tensor(place).copy_(value)

    def finish(self) -> None:
        if self._device != "cpu":
            self._torch.cuda.synchronize()
            self._host.copy_(self._block)
        super().finish()

    def described(self, value: Any) -> str:  # type: ignore[override]
        if not isinstance(value, self._torch.Tensor):
            return type(value).__name__
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"

    def time(self, call: Callable[[], Any]) -> tuple[float, Any]:
        if self._device == "cpu":
            return super().time(call)
        cuda = self._torch.cuda
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        cuda.synchronize()
        begin.record()
        result = call()
        end.record()
        cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3, result


def _arguments(memory: _Memory, request: Request, *, has_outputs: bool) -> list[Any]:
    found = []
    for item in request["arguments"]:
        if "scalar" in item:
            found.append(item["scalar"])
        elif "tensor" in item:
            found.append(memory.tensor(item["tensor"]))
        elif has_outputs:
            found.append(memory.tensor(item["output"]))
    return found


def _takes(function: Callable[..., Any], arguments: Sequence[Any]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # Of C, without a signature.
        return True
    return True


def _answer(
    function: Callable[..., Any],
    memory: _Memory,
    request: Request,
    ready: Callable[[], None],
    timed: Callable[[float], None],
) -> Request:
    """Call the function once ``ready`` returns, and tell ``timed`` how long it took."""
    arguments = _arguments(memory, request, has_outputs=True)
    places = [item["output"] for item in request["arguments"] if "output" in item]
    is_returned = bool(places) and not _takes(function, arguments)
    if is_returned:
        arguments = _arguments(memory, request, has_outputs=False)
    if not _takes(function, arguments):
        return {"misfit": str(inspect.signature(function))}
    ready()
    seconds, result = memory.time(lambda: function(*arguments))
    timed(seconds)
    return _returned(result, memory, places) if is_returned else {}


def _returned(result: Any, memory: _Memory, places: Sequence[Request]) -> Request:
    results = list(result) if isinstance(result, tuple | list) else [result]
    expected = [f"{place['dtype']}{place['shape']}" for place in places]
    given = list(map(memory.described, results))
    if given != expected:
        return {"wrong": f"it returns {', '.join(given)}, expected {', '.join(expected)}"}
    for place, value in zip(places, results, strict=True):
        memory.store(place, value)
    return {}


def _check_device(device: str) -> None:
    """Use a device once, before any code of the file could be the cause of a failure."""
    if device != "cpu":
        import torch

        torch.zeros(1, device=device).cpu()


def main() -> None:
    """Answer requests until the other end closes."""
    end_with_parent()
    descriptor, path, name, arrays, device = sys.argv[-5:]
    with socket.socket(fileno=int(descriptor)) as connection:
        lines = connection.makefile("rw", encoding="utf-8", newline="\n")
        try:
            _check_device(device)
        except Exception as error:  # Whatever torch raises where there is no such device.
            lines.write(json.dumps({"unavailable": f"{type(error).__name__}: {error}"}) + "\n")
            lines.flush()
            return
        try:
            function = getattr(imported(Path(path)), name)
            answer: Request = {} if callable(function) else {"raised": "it is no function"}
        except Exception as error:  # Whatever the file raises.
            answer = {"raised": f"{type(error).__name__}: {error}"}

        def send(answer: Request) -> None:
            lines.write(json.dumps(answer) + "\n")
            lines.flush()

        def ask(answer: Request) -> None:
            send(answer)
            lines.readline()

        send(answer)
        while line := lines.readline():
            request = json.loads(line)
            try:
                memory = (
                    _Memory(request["memory"])
                    if arrays == "numpy"
                    else _TorchMemory(request["memory"], device)
                )
                answer = _answer(
                    function,
                    memory,
                    request,
                    lambda: ask({"ready": True}),
                    lambda seconds: ask({"seconds": seconds}),
                )
                memory.finish()
            except Exception as error:  # Whatever the callable raises.
                answer = {"raised": f"{type(error).__name__}: {error}"}
            send(answer)


if __name__ == "__main__":
    main()
