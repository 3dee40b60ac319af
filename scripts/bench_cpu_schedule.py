"""What schedules make of kernels on this machine's CPU, beside PyTorch.

A table of the kernels that LLMs consist of: seconds as TVM lowers them, with their schedule, and in
PyTorch; and how long it takes to schedule and compile them. Each side runs ``--runs`` times and the
fastest counts; without a schedule a kernel runs once, and not at all if it is estimated to take
longer than ``--plain-s`` seconds. Both are for the CPU of this machine, with all its instructions.

Exits with 1 if a scheduled kernel takes longer to compile than ``--compile-s`` seconds, or returns
other bits than without its schedule; FMA contractions may differ, so a few units in the last place
are accepted where it multiplies and adds in different loops.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tvm
from four_bit_product import four_bit_product
from rich.console import Console
from rich.table import Table
from tvm import relax, tirx

from relax_tapml.cpu_schedule._nests import read_kernel
from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu

op = relax.op
# Without a schedule, seconds of one iteration of the innermost statement, roughly.
PLAIN_S = {"float32": 3e-9, "float16": 12e-9}
LARGEST_DIFFERENCE = 1e-2
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A row of the table: shapes and dtypes of its inputs, and the operators of both sides."""

    name: str
    inputs: Sequence[tuple[Sequence[int], str]]
    ours: Callable[..., Any]
    torch: Callable[..., Any] | None


def kernels(tokens: int, hidden: int, inner: int) -> Iterator[Kernel]:
    """Yield the kernels of a model of some width, for a number of tokens."""
    heads, vocabulary = hidden // 64, 32000

    def silu(builder: Any, x: Any, y: Any) -> Any:
        return op.multiply(builder.emit(op.nn.silu(x)), y)

    for dtype in ("float32", "float16"):
        product = [([tokens, hidden], dtype), ([hidden, inner], dtype)]
        yield Kernel(
            name=f"matmul (k, n) {dtype}",
            inputs=product,
            ours=lambda _, x, w: op.matmul(x, w),
            torch=(lambda x, w: x @ w) if dtype == "float32" else None,
        )
        yield Kernel(
            name=f"matmul (n, k) {dtype}",
            inputs=[product[0], ([inner, hidden], dtype)],
            ours=lambda _, x, w: op.einsum((x, w), "mk,nk->mn"),
            torch=(lambda x, w: x @ w.T) if dtype == "float32" else None,
        )
        yield Kernel(
            name=f"matmul of 4 bits {dtype}",
            inputs=[
                ([tokens, hidden], dtype),
                ([inner, hidden // 8], "uint32"),
                ([inner, hidden // 32], dtype),
            ],
            ours=four_bit_product,
            torch=None,
        )
        for form, shape in (("k,kn->n", [hidden, inner]), ("k,nk->n", [inner, hidden])):
            yield Kernel(
                name=f"vector {form} {dtype}",
                inputs=[([hidden], dtype), (shape, dtype)],
                ours=lambda _, x, w, form=form: op.einsum((x, w), form),
                torch=lambda x, w, form=form: torch.einsum(form, x, w),
            )
        scores = [([heads, tokens, 64], dtype), ([heads, 64, tokens], dtype)]
        yield Kernel(
            name=f"attention scores {dtype}",
            inputs=scores,
            ours=lambda _, x, w: op.matmul(x, w),
            torch=lambda x, w: x @ w,
        )
        yield Kernel(
            name=f"grouped attention {dtype}",
            inputs=[([8, heads // 8, tokens, 64], dtype), ([8, 1, 64, tokens], dtype)],
            ours=lambda _, x, w: op.matmul(x, w),
            torch=lambda x, w: x @ w,
        )
        yield Kernel(
            name=f"softmax {dtype}",
            inputs=[([heads, 8 * tokens, 8 * tokens], dtype)],
            ours=lambda _, x: op.nn.softmax(x, axis=-1),
            torch=lambda x: torch.softmax(x, -1),
        )
        yield Kernel(
            name=f"RMS norm {dtype}",
            inputs=[([32 * tokens, hidden], dtype), ([hidden], dtype)],
            ours=lambda _, x, g: op.nn.rms_norm(x, g, axes=[-1]),
            torch=lambda x, g: torch.nn.functional.rms_norm(x, [hidden], g, 1e-5),
        )
        yield Kernel(
            name=f"SiLU and product {dtype}",
            inputs=[([8 * tokens, inner], dtype)] * 2,
            ours=silu,
            torch=lambda x, y: torch.nn.functional.silu(x) * y,
        )
        yield Kernel(
            name=f"transpose {dtype}",
            inputs=[([inner, hidden], dtype)],
            ours=lambda _, x: op.permute_dims(x),
            torch=lambda x: x.T.contiguous(),
        )
        yield Kernel(
            name=f"gather {dtype}",
            inputs=[([vocabulary, hidden], dtype), ([32 * tokens], "int32")],
            ours=lambda _, x, i: op.take(x, i, axis=0),
            torch=lambda x, i: x[i],
        )


def lowered(kernel: Kernel) -> Any:
    """Return the PrimFunc that Relax's passes make of a kernel."""
    builder = relax.BlockBuilder()
    inputs = [
        relax.Var(f"x{number}", relax.TensorType(shape, dtype))
        for number, (shape, dtype) in enumerate(kernel.inputs)
    ]
    with builder.function("main", inputs):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(kernel.ours(builder, *inputs)))
        builder.emit_func_output(out)
    module = relax.get_pipeline("zero")(builder.get())
    return next(f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))


def values(kernel: Kernel) -> list[Array]:
    """Return its inputs."""
    rng = np.random.default_rng(0)
    arrays = []
    for shape, dtype in kernel.inputs:
        if dtype.startswith("float"):
            arrays.append((rng.standard_normal(shape, dtype=np.float32) / 8).astype(dtype))
        else:
            arrays.append(rng.integers(0, 1000, shape).astype(dtype))
    return arrays


def fastest(run: Callable[[], Any], runs: int) -> float:
    """Return the least seconds of some runs, after one more."""
    run()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a kernel, in seconds; None for what was not run."""

    plain: float | None
    scheduled: float
    torch: float | None
    compiled: float
    difference: float | None


def measured(kernel: Kernel, target: Any, options: argparse.Namespace) -> Row:
    """Run a kernel in all ways."""
    function = lowered(kernel)
    arrays = values(kernel)
    result = np.zeros([int(d) for d in function.params[-1].shape], str(function.params[-1].dtype))

    def built(one: Any) -> Any:
        named = one.with_attr("global_symbol", "main")
        return tvm.tirx.build(tvm.IRModule({"main": named}), target=target)["main"]

    tensors = [tvm.runtime.tensor(array) for array in (*arrays, result)]
    began = time.perf_counter()
    entry = built(schedule_for_cpu(function, target, least_iterations=0))
    compiled = time.perf_counter() - began
    scheduled = fastest(lambda: entry(*tensors), options.runs)
    plain, difference = None, None
    read = read_kernel(function)
    assert read is not None
    if read.iterations * PLAIN_S[str(result.dtype)] <= options.plain_s:
        expected = [tvm.runtime.tensor(array) for array in (*arrays, result)]
        entry = built(function)
        began = time.perf_counter()
        entry(*expected)
        plain = time.perf_counter() - began
        one, other = (t[-1].numpy().astype(np.float64) for t in (tensors, expected))
        difference = float(np.abs(one - other).max())
    beside = None
    if kernel.torch is not None:
        inputs = [torch.from_numpy(array) for array in arrays]
        beside = fastest(lambda: kernel.torch and kernel.torch(*inputs), options.runs)
    return Row(
        plain=plain, scheduled=scheduled, torch=beside, compiled=compiled, difference=difference
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plain-s", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--compile-s", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels whose name has it")
    options = parser.parse_args()
    target = native_cpu_target()
    table = Table(box=None)
    names = ("kernel", "plain", "scheduled", "PyTorch", "plain/scheduled", "compile", "differs by")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    is_good = True
    for kernel in kernels(options.tokens, options.hidden, options.inner):
        if options.only not in kernel.name:
            continue
        row = measured(kernel, target, options)
        is_good &= row.compiled <= options.compile_s
        is_good &= row.difference is None or row.difference <= LARGEST_DIFFERENCE
        times = [None if t is None else f"{t:.4f}" for t in (row.plain, row.scheduled, row.torch)]
        ratio = None if row.plain is None else f"{row.plain / row.scheduled:.1f}"
        cells = [*times, ratio, f"{row.compiled:.2f}"]
        differs = None if row.difference is None else f"{row.difference:.1g}"
        table.add_row(kernel.name, *(cell or "-" for cell in (*cells, differs)))
    console = Console(width=120)
    console.print(table)
    console.print(
        f"seconds; {options.tokens} tokens, {options.hidden} x {options.inner}; "
        f"{platform.machine()} {target.attrs.get('mcpu', '')}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, TVM {tvm.__version__}, PyTorch {torch.__version__}"
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
