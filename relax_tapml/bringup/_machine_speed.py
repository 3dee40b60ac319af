"""How fast this machine is now, measured in a tenth of a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu
from relax_tapml.processes.fork import ForkChannel, can_fork, forked
from relax_tapml.results.json_codec import decode, encode

_ROWS, _TERMS, _COLUMNS = 64, 512, 512
_COPIED_BYTES = 1 << 24
_RUNS = 3
_DTYPES = ("float16", "float32", "bfloat16")
_ENTRY = "product"


BUILD_S = 0.1
"""What building a kernel takes on the machine that fixed costs were measured on: seconds."""


@dataclass(frozen=True, kw_only=True)
class MachineSpeed:
    """What a CPU does with a small product of matrices, and with memory.

    The values by default are those of two idle cores of an x86 server, where it is not measured.

    Parameters
    ----------
    build_s
        Seconds of its processor in which its kernel is scheduled and compiled.
    product_s
        Seconds of one term of it, on all cores.
    copy_bytes_per_s
        Of memory.
    busy
        How many times longer work takes than the processor works for it, because others use it.
    """

    build_s: float = BUILD_S
    product_s: float = 3e-11
    copy_bytes_per_s: float = 1.5e10
    busy: float = 1.0


@cache
def machine_speed(dtype: str) -> MachineSpeed:
    """Measure the speed of this machine's CPU, once in a process.

    It is measured in a fork, as what a source runs: this process gets no threads by it, and a
    compiler that crashes ends nothing else.

    Parameters
    ----------
    dtype
        Of the operands; sums are of float32. ``float32`` where it is another than a common float.
    """
    target = native_cpu_target()
    if not can_fork(target):
        return MachineSpeed()
    known = dtype if dtype in _DTYPES else "float32"

    def work(fork: ForkChannel) -> None:
        fork.send(encode(_measured(known, target)))

    try:
        [message] = forked(work, is_safe=True)
        return decode(message.document, MachineSpeed)
    except Exception:  # A guess must not end a run, whatever the machine lacks.
        return MachineSpeed()


def _measured(dtype: str, target: Any) -> MachineSpeed:
    began, worked = time.perf_counter(), time.process_time()
    kernel = schedule_for_cpu(_product(dtype), target, least_iterations=0)
    module = tvm.IRModule({_ENTRY: kernel.with_attr("global_symbol", _ENTRY)})
    entry = tvm.tirx.build(module, target=target)[_ENTRY]
    build_s = max(time.process_time() - worked, 1e-3)
    busy = max((time.perf_counter() - began) / build_s, 1.0)
    shapes = ((_ROWS, _TERMS), (_TERMS, _COLUMNS), (_ROWS, _COLUMNS))
    tensors = [tvm.runtime.empty(shape, dtype) for shape in shapes]
    bytes_of = np.ones(_COPIED_BYTES, "uint8"), np.ones(_COPIED_BYTES, "uint8")
    return MachineSpeed(
        build_s=build_s,
        product_s=_fastest(lambda: entry(*tensors)) / (_ROWS * _TERMS * _COLUMNS),
        copy_bytes_per_s=_COPIED_BYTES / _fastest(lambda: np.copyto(*bytes_of)),
        busy=busy,
    )


def _fastest(run: Callable[[], Any]) -> float:
    """Return the least seconds of some runs, after one that touches memory and starts threads."""
    run()
    taken = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return max(min(taken), 1e-9)


def _product(dtype: str) -> tirx.PrimFunc:
    """Return a product as frontends write it: sums of float32, rounded at the end."""
    left = te.placeholder((_ROWS, _TERMS), dtype, "left")
    right = te.placeholder((_TERMS, _COLUMNS), dtype, "right")
    k = te.reduce_axis((0, _TERMS), "k")
    wide = te.compute(
        (_ROWS, _COLUMNS),
        lambda i, j: te.sum(left[i, k].astype("float32") * right[k, j].astype("float32"), axis=k),
        "wide",
    )
    rounded = te.compute((_ROWS, _COLUMNS), lambda i, j: wide[i, j].astype(dtype), "rounded")
    function = te.create_prim_func([left, right, rounded])
    return function.without_attr("global_symbol")
