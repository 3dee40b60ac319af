"""Device pipelines as people have them: with one wrong kernel, or wrong themselves.

``UNIT_FAULT``, such as ``softmax_nan``, is ``tiny_model`` with the kernel of ``UNIT`` replaced by
one that has ``FAULT``, a key of ``FAULTS``. Others are pipelines that do not work at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tiny_model import UNITS
from tvm import tirx
from tvm.script import tirx as T  # noqa: N812

from relax_tapml._compat import TensorLoad, TirStringImm, buffer_of

Kernel = Any
_calls: list[None] = []
_MARK = "RELAX_TAPML_TEST_MARK"


def __getattr__(name: str) -> tvm.transform.Pass:
    unit, _, fault = name.rpartition("_")
    if unit not in UNITS or fault not in FAULTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return breaks(unit, FAULTS[fault])


def breaks(unit: str, fault: Callable[[Kernel], Kernel]) -> tvm.transform.Pass:
    """Return a pass that puts ``fault`` into the kernel of ``unit`` and changes nothing else."""

    @tvm.transform.module_pass(opt_level=0, name=f"Breaks_{unit}")
    def change(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out = module.clone()
        gvar = module.get_global_var(unit)
        kernel = fault(module[gvar])
        assert not tvm_ffi.structural_equal(kernel, module[gvar]), f"{unit} has nothing to break"
        out.update_func(gvar, kernel)
        return out

    return change


def storing(change: Callable[[Any], Any]) -> Callable[[Kernel], Kernel]:
    """Return the fault that stores what ``change`` makes of a value instead of the value."""
    return lambda kernel: _map_stores(kernel, lambda s: _store(s, change(s.value)))


def scale(kernel: Kernel) -> Kernel:
    """Multiply what is stored by a constant that is 1 % off."""
    return storing(lambda value: value * tirx.const(1.01, value.ty))(kernel)


def nan(kernel: Kernel) -> Kernel:
    """Store NaN in the first row."""
    nan = tirx.const(math.nan, "float32")
    return _map_stores(
        kernel, lambda s: _store(s, tirx.if_then_else(s.indices[0] == 0, nan, s.value))
    )


def mirror(kernel: Kernel) -> Kernel:
    """Read the last axis of every input backwards."""
    stored: set[str] = set()
    tvm_ffi.structural_walk(kernel, (tirx.BufferStore, lambda s: stored.add(s.buffer.name)))
    names = _argument_names(kernel) - stored

    def change(load: Any) -> Any:
        if buffer_of(load).name not in names:
            return load
        *outer, last = load.indices
        return tirx.BufferLoad(buffer_of(load), [*outer, buffer_of(load).shape[-1] - 1 - last])

    return tvm_ffi.structural_map(kernel, (TensorLoad, change))


def abort(kernel: Kernel) -> Kernel:
    """End the process."""
    return kernel.with_body(tirx.Evaluate(tirx.call_extern("int32", "abort")))


def loop(kernel: Kernel) -> Kernel:
    """Sleep for longer than anyone waits."""
    return kernel.with_body(tirx.Evaluate(tirx.call_extern("int32", "sleep", 3600)))


def segfault(kernel: Kernel) -> Kernel:
    """Store where the process has no memory."""
    return _also_store(kernel, 1 << 40)


def overrun(kernel: Kernel) -> Kernel:
    """Compute what it should, and store one value more than the output has room for."""
    return _also_store(kernel, 0)


def spin(kernel: Kernel) -> Kernel:
    """Compute for ever."""
    one = tirx.const(1, "int32")
    forever = tirx.While(one == one, tirx.Evaluate(tirx.call_extern("int32", "rand")))
    return kernel.with_body(forever)


def leaves_mark(kernel: Kernel) -> Kernel:
    """Compute what it should, and leave a mark in its process that ``minds_mark`` minds."""
    leave = tirx.call_extern(
        "int32", "setenv", TirStringImm(_MARK), TirStringImm("1"), tirx.const(1, "int32")
    )
    return kernel.with_body(tirx.SeqStmt([tirx.Evaluate(leave), kernel.body]))


def leaks(limit: int, *, aborts: bool = False) -> Callable[[Kernel], Kernel]:
    """Keep a handle of each call; store zeros, or end the process, once there are ``limit``."""

    def change(kernel: Kernel) -> Kernel:
        handle = tirx.Var("handle", "int32")
        is_full = tirx.any(handle > limit, handle < 0)
        if aborts:
            end = tirx.Evaluate(tirx.call_extern("int32", "abort"))
            body = tirx.SeqStmt([tirx.IfThenElse(is_full, end, None), kernel.body])
        else:
            factor = tirx.Select(is_full, tirx.const(0.0, "float32"), tirx.const(1.0, "float32"))
            body = storing(lambda value: value * factor)(kernel).body
        keep = tirx.Bind(handle, tirx.call_extern("int32", "dup", 0))
        return kernel.with_body(tirx.SeqStmt([keep, body]))

    return change


def makes_folder(path: str) -> Callable[[Kernel], Kernel]:
    """Compute what it should, and make a folder, which others may see."""
    make = tirx.call_extern("int32", "mkdir", TirStringImm(path), tirx.const(0o700, "int32"))
    return lambda k: k.with_body(tirx.SeqStmt([tirx.Evaluate(make), k.body]))


def minds_mark(kernel: Kernel) -> Kernel:
    """Be 1 % off where the mark is."""
    mark = tirx.call_extern("handle", "getenv", TirStringImm(_MARK))
    factor = tirx.Select(
        tirx.isnullptr(mark), tirx.const(1.0, "float32"), tirx.const(1.01, "float32")
    )
    return storing(lambda value: value * factor)(kernel)


@tvm.register_global_func("broken_pipelines.count")
def count() -> int:
    """Say how often this was called in this process."""
    _calls.append(None)
    return len(_calls)


def every_third(kernel: Kernel) -> Kernel:
    """Be 1 % off in every third call; for a device in this process, where the count is."""
    calls = tirx.Var("calls", "int32")
    called = tirx.call_packed("broken_pipelines.count")
    factor = tirx.Select(calls % 3 == 0, tirx.const(1.01, "float32"), tirx.const(1.0, "float32"))
    changed = storing(lambda value: value * factor)(kernel)
    return kernel.with_body(tirx.SeqStmt([tirx.Bind(calls, called), changed.body]))


off_by_half = storing(lambda value: value + tirx.const(0.5, "float32"))


def unbuildable(kernel: Kernel) -> Kernel:
    """Use a variable that nothing defines."""
    stray = tirx.Var("stray", "int32")
    return kernel.with_body(tirx.Evaluate(tirx.call_extern("int32", "abs", stray)))


def scribble(kernel: Kernel) -> Kernel:
    """Compute what ``sum`` does, and overwrite its input with it."""
    return sum_over_input.with_attr("tirx.noalias", True)


@T.prim_func(private=True, s_tir=True)
def sum_over_input(n: T.Buffer((4, 8), "float32"), total: T.Buffer((4,), "float32")):
    """The kernel of ``scribble``."""
    for i in range(4):
        with T.sblock("row"):
            row = T.axis.spatial(4, i)
            total[row] = T.float32(0)
            for k in range(8):
                total[row] = total[row] + n[row, k]
                n[row, k] = total[row]


FAULTS = {
    fault.__name__: fault
    for fault in (
        *(scale, nan, mirror, unbuildable),
        *(abort, loop, segfault, spin),
        *(overrun, scribble, leaves_mark, minds_mark, every_third),
    )
}


@tvm.transform.module_pass(opt_level=0, name="Raises")
def raises(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Raise."""
    raise RuntimeError("no schedule for softmax")


@tvm.transform.module_pass(opt_level=0, name="Forgets")
def forgets(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Return a module without one of its units."""
    return tvm.IRModule({g: f for g, f in module.functions.items() if g.name_hint != "softmax"})


@tvm.transform.module_pass(opt_level=0, name="ReturnsNothing")
def returns_nothing(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> None:
    """Forget to return."""


def loop_visibly(kernel: Kernel) -> Kernel:
    """Make the folder that the environment names, then do as ``loop``."""
    folder = tirx.call_extern("handle", "getenv", TirStringImm("RELAX_TAPML_TEST_BEGUN"))
    make = tirx.call_extern("int32", "mkdir", folder, tirx.const(0o700, "int32"))
    return kernel.with_body(tirx.SeqStmt([tirx.Evaluate(make), loop(kernel).body]))


all_loop = tvm.transform.Sequential([breaks(unit, loop_visibly) for unit in UNITS])


def _map_stores(kernel: Kernel, rewrite: Callable[[Any], Any]) -> Kernel:
    names = _argument_names(kernel)
    return tvm_ffi.structural_map(
        kernel, (tirx.BufferStore, lambda s: rewrite(s) if s.buffer.name in names else s)
    )


def _also_store(kernel: Kernel, rows: int) -> Kernel:
    """Store in the first value that is ``rows`` rows behind the output."""
    stored: dict[str, Any] = {}
    tvm_ffi.structural_walk(
        kernel, (tirx.BufferStore, lambda s: stored.update({s.buffer.name: s.buffer}))
    )
    output = stored[kernel.params[-1].name]
    first, *rest = output.shape
    indices = [tirx.const(int(first) + rows, "int64"), *(tirx.const(0, "int64") for _ in rest)]
    store = tirx.BufferStore(output, tirx.const(1, output.dtype), indices)
    return kernel.with_body(tirx.SeqStmt([kernel.body, store]))


def _store(store: Any, value: Any) -> Any:
    return tirx.BufferStore(store.buffer, value, store.indices)


def _argument_names(kernel: Kernel) -> set[str]:
    return {parameter.name for parameter in kernel.params}
