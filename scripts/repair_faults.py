"""Faults that ``bench_repair_faults.py`` plants, each in one layer.

A fault is a change of a kernel, of one of TVM's schedules, of the source that TVM generates, or of
what a compile option does. It holds while the kernels of a unit are built and judged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import tvm
import tvm_ffi
from kernel_faults import a_little_off
from tvm import s_tir, tirx
from tvm.s_tir import dlight

from relax_tapml._compat import prim
from relax_tapml.repair._blocks import module_of, sums_of, with_buffers
from relax_tapml.repair._scheduled import scheduled
from relax_tapml.repair.alternative import Layer
from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.platforms.registry import platform_named
from relax_tapml.targets.toolchain import default_schedule
from relax_tapml.targets.toolchain.trusted_target import is_trusted

Kernel = Any
Patch = Callable[[], AbstractContextManager[Any]]
_POSTPROCESS = "tvm_callback_opencl_postproc"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to be wrong.

    Parameters
    ----------
    kind
        The row of the table.
    name
        What is wrong, in words.
    target
        What it is planted on.
    layer
        Where it is.
    pipeline
        What the device's pipeline makes of the kernel; None where it does not change.
    definition
        What the kernel is before the pipeline; None where it does not change.
    patch
        Holds the fault in TVM or the platform.
    """

    kind: str
    name: str
    target: str
    layer: Layer
    pipeline: Callable[[Kernel], Kernel | None] | None = None
    definition: Callable[[Kernel], Kernel | None] | None = None
    patch: Patch = nullcontext
    fits: Callable[[Kernel], bool] = lambda _kernel: True
    """Whether the fault can show in a kernel."""


def stores_off(kernel: Kernel) -> Kernel | None:
    """Store values that are a little off."""
    own = {parameter.name for parameter in kernel.params}
    return tvm_ffi.structural_map(
        kernel, (tirx.BufferStore, lambda s: a_little_off(s) if s.buffer.name in own else s)
    )


def short_threads(function: Kernel) -> Kernel:
    """Leave the last thread of each block of threads out."""
    return _shorter(function, tirx.ForKind.THREAD_BINDING, "threadIdx")


def short_loops(function: Kernel) -> Kernel:
    """Leave the last iteration of the outermost loops out."""
    return _shorter(function, None, "")


def _shorter(function: Kernel, kind: Any, tag: str) -> Kernel:
    def visit(loop: Any, mutator: Any) -> Any:
        is_chosen = kind is None or (
            loop.kind == kind and str(loop.thread_binding.thread_tag).startswith(tag)
        )
        inner = loop if kind is None else mutator.default_mutate(loop)
        is_long = isinstance(loop.extent, tirx.IntImm) and int(loop.extent) > 1
        if not is_chosen or not is_long:
            return inner if kind is not None else mutator.default_mutate(loop)
        return tirx.For(
            inner.loop_var,
            inner.min,
            inner.extent - 1,
            inner.kind,
            inner.body,
            thread_binding=inner.thread_binding,
            annotations=inner.annotations,
        )

    return tvm_ffi.structural_mutate(function, [(tirx.For, visit)])


def wrong_rule(rule: Any) -> Patch:
    """Let a rule of dlight leave threads out."""

    @contextmanager
    def patch() -> Iterator[None]:
        own = rule.apply

        def apply(self: Any, function: Any, target: Any, is_tunable: bool) -> Any:
            made = own(self, function, target, is_tunable)
            if made is None:
                return None
            return s_tir.Schedule(tvm.IRModule({"main": short_threads(made.mod["main"])}))

        with mock.patch.object(rule, "apply", apply):
            yield

    return patch


def first_rule_is(rule: Any) -> Callable[[Kernel], bool]:
    """Whether the default schedule of a kernel is that of a rule."""
    return lambda kernel: _first_rule(kernel) == rule.__name__


@functools.cache
def _first_rule(kernel: Kernel) -> str:
    target = tvm.target.Target("opencl")
    for name in ("Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback"):
        try:
            if getattr(dlight.gpu, name)().apply(kernel, target, False) is not None:
                return name
        except Exception:
            return ""
    return ""


@contextmanager
def wrong_cpu_schedule() -> Iterator[None]:
    """Let the schedule of CPUs leave the last iteration of the outermost loops out."""
    own = default_schedule.schedule_for_cpu

    def changed(function: Any, target: Any) -> Any:
        if function.attrs and function.attrs.get("tirx.is_scheduled", False):
            return own(function, target)
        return short_loops(own(function, target))

    with mock.patch.object(default_schedule, "schedule_for_cpu", changed):
        yield


def wrong_source(pattern: str, text: str, *, is_option: bool = False) -> Patch:
    """Replace text of the generated OpenCL; ``is_option``: unless options are accurate."""

    @contextmanager
    def patch() -> Iterator[None]:
        def changed(source: str, target: Any) -> str:
            return source if is_option and is_trusted(target) else re.sub(pattern, text, source)

        tvm.register_global_func(_POSTPROCESS, changed, override=True)
        platform = type(platform_named("opencl"))

        def options(_self: Platform, target: Any) -> str:
            return "compiled with accurate functions" if is_option and is_trusted(target) else ""

        try:
            with mock.patch.object(platform, "options_text", options):
                yield
        finally:
            tvm_ffi.registry.remove_global_func(_POSTPROCESS)

    return patch


@functools.cache
def _source(kernel: Kernel) -> str:
    """Return the OpenCL of a kernel; empty where it does not build."""
    target = tvm.target.Target("opencl")
    try:
        built = tirx.build(module_of(scheduled(kernel, target)), target=target)
    except Exception:
        return ""
    return "".join(one.inspect_source() for one in built.imports)


def has_text(pattern: str) -> Callable[[Kernel], bool]:
    """Whether the OpenCL of a kernel has a text."""
    return lambda kernel: re.search(pattern, _source(kernel)) is not None


def half_sums(kernel: Kernel) -> Kernel | None:
    """Add up in float16 what is added up in float32."""
    names = [b.name_hint for b in sums_of(kernel, [prim.Add])
             if str(b.body.buffer.dtype) == "float32"]  # fmt: skip
    if not names:
        return None
    schedule = s_tir.Schedule(module_of(kernel))
    own = {p for p in kernel.params if tirx.is_buffer_var(p)}
    for name in names:
        block = schedule.get_sblock(name)
        if schedule.get(block).writes[0].source in own:
            schedule.cache_write(block, 0, "global")
    made = schedule.mod["main"]
    old = [b.body.buffer for b in sums_of(made, [prim.Add]) if b.name_hint in names]
    new = {one: tirx.decl_buffer(one.shape, "float16", f"{one.name}_half") for one in old}

    def load(buffer: Any, indices: list[Any]) -> Any:
        return prim.Cast("float32", tirx.BufferLoad(buffer, indices))

    def store(node: Any, value: Any, indices: list[Any]) -> Any:
        if not isinstance(node.value, prim.Add):
            return prim.Cast("float16", value)
        return tirx.BufferLoad(new[node.buffer], indices) + prim.Cast("float16", value.b)

    made = with_buffers(made, new, load, store)
    return tirx.PrimFunc(made.params, made.body, made.ret_type, kernel.attrs)


def formula(pattern: str, change: Callable[[Any], Any]) -> Callable[[Kernel], Kernel | None]:
    """Put another formula in the place of calls of a function."""

    def make(kernel: Kernel) -> Kernel | None:
        made = tvm_ffi.structural_map(
            kernel,
            (tvm.ir.Call, lambda call: change(call) if call.op.name == pattern else call),
        )
        return None if made.same_as(kernel) else made

    return make


def _scaled(call: Any) -> Any:
    return call * tirx.const(1.01, call.ty) + tirx.const(0.01, call.ty)


def _tanh_of_polynomial(call: Any) -> Any:
    (x,) = call.args
    return x - x * x * x * tirx.const(1 / 3, x.ty)


def _products(kernel: Kernel) -> bool:
    return bool(sums_of(kernel, [prim.Add]))


_FUNCTIONS = ("tanh", "pow", "exp", "erf", "sqrt")


def _off(name: str) -> str:
    """Return a call that is off, up to its arguments."""
    return f"0.003f + 1.01f * {name}("


FAULTS = (
    *(
        Fault(kind="pipeline", name=f"stores values that are off, {target}", target=target,
              layer=Layer.PIPELINE, pipeline=stores_off)
        for target in ("llvm", "opencl")
    ),
    *(
        Fault(kind="pipeline", name=f"its own loops leave the end out, {target}", target=target,
              layer=Layer.PIPELINE, pipeline=lambda kernel: short_loops(kernel))
        for target in ("llvm", "opencl")
    ),
    *(
        Fault(kind="schedule", name=f"{rule.__name__} leaves threads out", target="opencl",
              layer=Layer.SCHEDULE, patch=wrong_rule(rule), fits=first_rule_is(rule))
        for rule in (dlight.gpu.Matmul, dlight.gpu.Reduction, dlight.gpu.GeneralReduction,
                     dlight.gpu.Fallback)
    ),
    Fault(kind="schedule", name="the schedule of CPUs leaves the end out", target="llvm",
          layer=Layer.SCHEDULE, patch=wrong_cpu_schedule),
    *(
        Fault(kind="code generation", name=name, target="opencl", layer=Layer.CODE_GENERATION,
              patch=wrong_source(pattern, text), fits=has_text(pattern))
        for name, pattern, text in (
            *((f"{name} is off", rf"\b{name}\(", _off(name)) for name in _FUNCTIONS),
            ("infinity is a number", r"\bINFINITY\b", "1.0f"),
            ("no barriers", r"\bbarrier\([^)]*\);", ""),
        )
    ),
    *(
        Fault(kind="option", name=f"fast {name}", target="opencl", layer=Layer.OPTION,
              patch=wrong_source(pattern, text, is_option=True), fits=has_text(pattern))
        for name, pattern, text in (
            (name, rf"\b{name}\(", _off(name)) for name in ("exp", "sqrt", "erf")
        )
    ),
    Fault(kind="definition", name="sums in float16", target="llvm", layer=Layer.DEFINITION,
          definition=half_sums, fits=_products),
    *(
        Fault(kind="definition", name=name, target="opencl", layer=Layer.DEFINITION,
              definition=formula(pattern, change))
        for name, pattern, change in (
            ("tanh as a polynomial", "tirx.tanh", _tanh_of_polynomial),
            ("exp is another function", "tirx.exp", _scaled),
            ("rsqrt is another function", "tirx.rsqrt", _scaled),
        )
    ),
)  # fmt: skip
