"""Run one kernel on a platform, to test that all of its parts work together."""

from __future__ import annotations

import time

import numpy as np
import tvm
from tvm import relax

from relax_tapml.errors import DeviceError
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.platform import Platform

_SIZE = 1000
_TIMEOUT_S = 60.0


def run_a_kernel(platform: Platform) -> str:
    """Compile an addition, run it in a session of the platform's own and compare the sum.

    Returns
    -------
    str
        A description of the run, with its seconds.

    Raises
    ------
    TapmlError
        Some part does not work.
    """
    began = time.perf_counter()
    target = parse_target(platform.name, "process")
    side = lower_for_target(lower(mark_inputs(_addition(), ())), target)
    x = np.arange(_SIZE, dtype=np.float32)
    with scratch_folder() as folder:
        library = KernelLibrary(folder)
        kernels = library.build(side, target)
        if kernels.failed:
            raise DeviceError("; ".join(kernels.failed.values()))
        functions = compile_functions(side, target, library)
        session = open_session("process", target, timeout_s=_TIMEOUT_S)
        try:
            module = session.load(functions.bytecode, kernels.files())
            (result,) = session.call(module, "main", [session.upload(x)])
            values = session.download(result)
        finally:
            session.close()
    if not np.array_equal(values, x + 1):
        raise DeviceError(f"adding 1 to 0, 1, 2, ... gave {values[:3].tolist()}, ...")
    return f"ran a kernel, {time.perf_counter() - began:.1f} s with start and build"


def _addition() -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((_SIZE,), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.add(x, relax.const(1, "float32")))
        builder.emit_func_output(y)
    return builder.get()
